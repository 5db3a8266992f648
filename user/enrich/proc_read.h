/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bounded reads of /proc. A process may vanish, exec or rewrite its own arguments between any two of them: what could
 * not be read stays empty, and the start time, read first and last, says whether it was one process all along.
 */
#ifndef WS_ENRICH_PROC_READ_H
#define WS_ENRICH_PROC_READ_H

#include <stdint.h>

#include "user/base/dynbuf.h"
#include "user/model/str.h"

#define PROC_ARGS_MAX 8192u	       /* of the argument vector; a name hides in the first few words */
#define PROC_ENVIRON_MAX (128u * 1024) /* of the environment, as far as the kernel's MAX_ARG_STRLEN goes */
#define PROC_PATH_MAX 1024u
#define PROC_TICK_NS 10000000ull /* /proc shows times in USER_HZ, which is 100 on x86 and arm64 */

struct proc_raw {
	uint32_t tgid, ppid, uid;
	uint32_t reader; /* by whose entry the rest was read: see proc__reader() */
	bool have_stat, have_uid, kernel_thread;
	bool ended; /* its first thread has */
	uint64_t start_ticks;
	char comm[32];
	char exe[PROC_PATH_MAX]; /* as the process sees it, " (deleted)" cut off; "" unknown */
	char cwd[PROC_PATH_MAX];
	char args[PROC_ARGS_MAX]; /* NUL between arguments */
	size_t args_len;

	/* From the environment; borrowed from the buffer given to proc_raw__read_env(). */
	struct str env_service, env_attrs, env_flask_app;
};

/*
 * Reads the whole file, at most max bytes, into buf (reset first). 0 or negative errno. Never blocks on what is not a
 * plain file: /proc/PID/root leads into trees that others control.
 */
int proc__read_file(const char *path, size_t max, struct dynbuf *buf);
/* Same for PROCFS/PID/NAME. */
int proc__read(const char *procfs, uint32_t pid, const char *name, size_t max, struct dynbuf *buf);
/* Target of the link PROCFS/PID/NAME, NUL-terminated; "" where it cannot be read. False then. */
bool proc__readlink(const char *procfs, uint32_t pid, const char *name, char *buf, size_t size);
/*
 * By which number a process's files are to be read: its own, or that of another of its threads if the first one has
 * ended and has none any more.
 */
uint32_t proc__reader(const char *procfs, uint32_t pid);

/*
 * Everything of struct proc_raw but the environment. `buf` is scratch. -ESRCH: no such process.
 */
int proc_raw__read(struct proc_raw *p, const char *procfs, uint32_t pid, struct dynbuf *buf);
/* The environment into env, the wanted variables into p. Missing permission leaves them empty. */
void proc_raw__read_env(struct proc_raw *p, const char *procfs, struct dynbuf *env);
/* True if the pid belongs to another process by now. (One that is gone leaves what was read of it true.) */
bool proc_raw__reused(const struct proc_raw *p, const char *procfs, struct dynbuf *buf);

#endif
