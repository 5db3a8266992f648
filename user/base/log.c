// SPDX-License-Identifier: Apache-2.0
#include "user/base/log.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "user/base/clock.h"

#define LINE_LEN 2048
#define PREFIX "wirespan: "
#define REPEAT_NS (60ull * 1000000000)

enum log_level log__level = LOG_LVL_INFO;

/*
 * One write(2) per line, so that lines of two threads never mix. Control characters become '?':
 * names and paths of strangers must not move the reader's cursor.
 */
static void emit_line(const char *fmt, va_list ap, unsigned long long more)
{
	char line[LINE_LEN];
	size_t len = sizeof(PREFIX) - 1, done = 0;
	int saved = errno, n;

	memcpy(line, PREFIX, len);
	errno = saved; /* %m */
	n = vsnprintf(line + len, sizeof(line) - len - 40, fmt, ap);
	if (n > 0)
		len += (size_t)n < sizeof(line) - len - 40 ? (size_t)n : sizeof(line) - len - 41;
	if (more)
		len += snprintf(line + len, sizeof(line) - len - 1, " (%llu more)", more);
	for (size_t i = 0; i < len; i++) {
		if ((unsigned char)line[i] < 0x20 || line[i] == 0x7f)
			line[i] = '?';
	}
	line[len++] = '\n';
	while (done < len) {
		ssize_t w = write(STDERR_FILENO, line + done, len - done);

		if (w < 0 && errno == EINTR)
			continue;
		if (w <= 0)
			break; /* nobody listens: there is nowhere to report that */
		done += w;
	}
	errno = saved;
}

void log__write(enum log_level lvl, const char *fmt, ...)
{
	va_list ap;

	if (lvl > log__level)
		return;
	va_start(ap, fmt);
	emit_line(fmt, ap, 0);
	va_end(ap);
}

void log__limited(struct log_limit *lim, enum log_level lvl, const char *fmt, ...)
{
	unsigned long long now, next, held;
	va_list ap;

	if (lvl > log__level)
		return;
	now = clock__mono_ns();
	next = __atomic_load_n(&lim->next_ns, __ATOMIC_RELAXED);
	/* Two threads may share a call site: whoever moves the time on speaks. */
	if (now < next || !__atomic_compare_exchange_n(&lim->next_ns, &next, now + REPEAT_NS, 0, __ATOMIC_RELAXED,
						       __ATOMIC_RELAXED)) {
		__atomic_fetch_add(&lim->held, 1, __ATOMIC_RELAXED);
		return;
	}
	held = __atomic_exchange_n(&lim->held, 0, __ATOMIC_RELAXED);
	va_start(ap, fmt);
	emit_line(fmt, ap, held);
	va_end(ap);
}
