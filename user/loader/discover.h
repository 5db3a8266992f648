/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which processes there are, and which of them are traced.
 *
 * A process is selected if no selector is given, or if one of --pid, --exe, --port or `-- CMD` names it; --include, if
 * given, must fit as well, and --exclude must not. wirespan itself is never selected.
 *
 *	--pid	 the process and everything below it
 *	-- CMD	 the command and everything below it
 *	--exe	 globs on the path of the executable, or on its last component
 *	--port	 processes that listen there, and children that inherited the listening socket (an exec drops that); and
 *		 who accepts there, wherever the socket comes from: the kernel side tells
 *	--include, --exclude	globs on the service name, the path of the executable or its last component
 *
 * Driven by events after one scan. All calls but discover__selected() belong to the control thread; discover__selected()
 * may be asked by any thread (a mutex guards the table; it is never held while /proc is read).
 */
#ifndef WS_LOADER_DISCOVER_H
#define WS_LOADER_DISCOVER_H

#include "bpf/event.h"
#include "user/enrich/enrich.h"

struct discover_opts {
	const char *procfs;   /* NULL: "/proc" */
	const char *pid;      /* "1,2,3"; NULL or "": not given; so below */
	const char *exe, *include, *exclude;
	const char *port;     /* "80,8000-8010" */
	uint32_t run_pid;     /* `-- CMD`: its pid, else 0 */
	uint32_t self;	      /* tgid of wirespan */
	struct proc_lookup *lookup; /* borrowed: for service names */
	/* Told of each change of a process's WS_PROC_* flags; 0 when it is gone. */
	void (*set_flags)(void *ctx, uint32_t tgid, uint32_t flags);
	void *ctx;
};

struct discover;

/* NULL with errno EINVAL (a list is wrong: *ret_bad, if not NULL, is the name of the option) or ENOMEM. */
struct discover *discover__new(const struct discover_opts *o, const char **ret_bad);
void discover__free(struct discover *d);

/* All processes of the machine, once, before events count. 0 or negative errno. */
int discover__scan(struct discover *d);

/* fork, exec, exit, as the kernel tells them. -ENOMEM: the process stays unknown, thus selected only if all are. */
int discover__proc_event(struct discover *d, const struct ws_ev_proc *ev);
/*
 * The process listens on (or has accepted from) a listening socket. Known processes may be told again. `sock` names the
 * socket for discover__unlisten(), 0 if it is not known.
 */
int discover__listen(struct discover *d, uint64_t sock, uint32_t tgid, uint32_t netns, uint16_t port);
void discover__unlisten(struct discover *d, uint64_t sock);
/*
 * The process receives telemetry, and with it what it forks. True if that was not known before and leaves it out: not
 * if it was selected by name (--pid, -- CMD, --exe, --port, --include). *name: for the reader.
 */
bool discover__receives(struct discover *d, uint32_t tgid, char *name, size_t size);
/* Any thread. */
bool discover__is_receiver(struct discover *d, uint32_t tgid);

/* The ports of --port, a bit each (65536 of them, until discover__free()); NULL: none are asked for. */
const uint64_t *discover__ports(const struct discover *d);
/* True if not every process is selected: the kernel's default for unknown processes. */
bool discover__selective(const struct discover *d);
/* Any thread. Also answers for processes that have ended a short while ago. */
bool discover__selected(struct discover *d, uint32_t tgid);

/*
 * Who names processes (--pid LIST, NULL: none) means some that are there: a slip would otherwise wait for ever. Says
 * which are not. 0, or exit code 2 if none is.
 */
int discover__check_pids(const char *list);

/* "frontend :5000, service-sync :8081, …" of the selected processes into buf; returns the number of services. */
size_t discover__services(struct discover *d, char *buf, size_t size);

#endif
