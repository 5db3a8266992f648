// SPDX-License-Identifier: Apache-2.0
#include "user/banner.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/utsname.h>

#include "user/base/log.h"
#include "user/sinks.h"

#define NAMES_MAX 64

static const char *why_not(const struct features *f, enum feature feat)
{
	switch (f->err[feat]) {
	case 0:
		return "granted";
	case EPERM:
	case EACCES:
		return "not permitted";
	default:
		return "not in this kernel";
	}
}

/* What following these runtimes gives, as the first line has it: each behind ", ". */
static const char *names_of(uint32_t kinds, char buf[NAMES_MAX])
{
	snprintf(buf, NAMES_MAX, "%s%s%s%s", kinds & 1u << WS_RT_CPYTHON ? ", contexts" : "",
		 kinds & 1u << WS_RT_GO ? ", goroutines" : "", kinds & 1u << WS_RT_LIBUV ? ", turns" : "",
		 kinds & 1u << WS_RT_JVM ? ", virtual threads" : "");
	return buf;
}

static void first_line(const struct banner *b)
{
	struct utsname u;
	char names[NAMES_MAX];

	uname(&u);
	fprintf(stderr, "wirespan %s · kernel %s %s · plan %s · parents: joins, headers%s%s%s%s\n", WS_VERSION, u.release, u.machine,
		plan__name(b->plan), b->waits_refused ? "" : ", threads", names_of(b->runtimes, names),
		b->waits_refused ? "" : ", event loops", b->tls ? " · TLS: OpenSSL, GnuTLS, Go" : "");
}

static void without_uprobes(const struct banner *b)
{
	char names[NAMES_MAX];
	const char *followed = names_of(b->refused, names) + (b->refused ? strlen(", ") : 0);
	const char *read_inside = b->opts->tls ? "not read inside: TLS: " : "";

	log_warn("%s%s%s%suprobes: %s: needs %s. See `wirespan features`.", b->refused ? "not followed: " : "", followed,
		 !b->refused ? "" : b->opts->tls ? "; " : ": ", read_inside, strerror(b->features->err[FEAT_UPROBE]),
		 feature__remedy(FEAT_UPROBE));
}

void banner__begin(const struct banner *b)
{
	first_line(b);
	if (b->waits_refused)
		log_warn("what threads wait for cannot be seen: no parents by thread or event loop: system call tracepoints: "
			 "%s: needs %s. See `wirespan features`.", strerror(b->waits_refused), feature__remedy(FEAT_SYSCALL_TP));
	if (b->features->err[FEAT_UPROBE] && (b->refused || b->opts->tls))
		without_uprobes(b);
	log_debug("fentry: %s, kprobe: %s%s", why_not(b->features, FEAT_FENTRY), why_not(b->features, FEAT_KPROBE),
		  b->features->legacy ? ", programs for kernels below 5.17" : "");
	if (sinks__is_terminal_default(b->opts))
		fprintf(stderr, "No OTLP endpoint set: showing traces here. "
				"OTEL_EXPORTER_OTLP_ENDPOINT=http://collector:4318 sends them instead.\n");
}

void banner__ready(struct discover *d)
{
	char list[256];
	size_t n = discover__services(d, list, sizeof(list));

	if (n)
		fprintf(stderr, "wirespan: ready, %zu service%s listening: %s\n", n, n == 1 ? "" : "s", list);
	else
		fprintf(stderr, "wirespan: ready, no service is listening yet\n");
	fflush(stderr);
}
