/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one logging spine: "wirespan: …" on standard error. Only main, the loader and the exporters log above debug.
 * A line names the thing, the cause and the next step.
 */
#ifndef WS_BASE_LOG_H
#define WS_BASE_LOG_H

enum log_level { LOG_LVL_ERROR, LOG_LVL_WARN, LOG_LVL_INFO, LOG_LVL_DEBUG };

extern enum log_level log__level;

void log__write(enum log_level lvl, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#define log_error(...) log__write(LOG_LVL_ERROR, __VA_ARGS__)
#define log_warn(...) log__write(LOG_LVL_WARN, __VA_ARGS__)
#define log_info(...) log__write(LOG_LVL_INFO, __VA_ARGS__)
#define log_debug(...)                                                 \
	do {                                                           \
		if (log__level >= LOG_LVL_DEBUG)                       \
			log__write(LOG_LVL_DEBUG, __VA_ARGS__);        \
	} while (0)

/*
 * For what may repeat without end: printed at once the first time, then counted and said again at
 * most once a minute ("… (12 more)"). One static struct per call site or subject.
 */
struct log_limit {
	unsigned long long next_ns, held;
};
void log__limited(struct log_limit *lim, enum log_level lvl, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

#endif
