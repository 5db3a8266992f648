// SPDX-License-Identifier: Apache-2.0
#include "user/loader/kprobes.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/perf_event.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "user/base/log.h"
#include "user/base/mem.h"
#include "user/loader/tracefs.h"

/* KRETPROBE_MAXACTIVE_MAX, kernel/trace/trace_kprobe.c */
#define MAXACTIVE 4096
#define GROUP "wirespan_"

struct kprobes {
	bool warned;
};

/* One command; kprobe_events takes them by appending. */
static int command(const char *line)
{
	int fd = tracefs__open("kprobe_events", O_WRONLY | O_APPEND), err = 0;

	if (fd < 0)
		return fd;
	if (write(fd, line, strlen(line)) < 0)
		err = -errno;
	close(fd);
	return err;
}

/*
 * Calls `fn` for every event of a group of ours. A line reads "r4096:wirespan_123/kr_inet_recvmsg inet_recvmsg";
 * the number in the group is the process that made it.
 */
static void each_event(void (*fn)(void *ctx, int pid, const char *event), void *ctx)
{
	FILE *in = tracefs__fopen("kprobe_events");
	char line[256], event[128];
	int pid;

	if (!in)
		return;
	while (fgets(line, sizeof(line), in))
		if (sscanf(line, "%*[^:]:" GROUP "%d/%127s", &pid, event) == 2)
			fn(ctx, pid, event);
	fclose(in);
}

static void remove_event(int pid, const char *event)
{
	char line[192];

	snprintf(line, sizeof(line), "-:" GROUP "%d/%s", pid, event);
	command(line);
}

static void remove_if_stale(void *ctx, int pid, const char *event)
{
	if (kill(pid, 0) && errno == ESRCH)
		remove_event(pid, event);
}

static void remove_if_own(void *ctx, int pid, const char *event)
{
	if (pid == getpid())
		remove_event(pid, event);
}

void kprobes__sweep(void)
{
	each_event(remove_if_stale, NULL);
}

struct kprobes *kprobes__new(void)
{
	return mem__zalloc(sizeof(struct kprobes));
}

void kprobes__free(struct kprobes *k)
{
	if (!k)
		return;
	each_event(remove_if_own, NULL);
	mem__free(k);
}

/* Makes the event and returns its perf descriptor, or -errno. */
static int open_event(const char *event, const char *function)
{
	struct perf_event_attr attr = { .type = PERF_TYPE_TRACEPOINT, .size = sizeof(attr) };
	char text[192];
	int err, id, fd;

	snprintf(text, sizeof(text), "r%d:" GROUP "%d/%s %s", MAXACTIVE, getpid(), event, function);
	err = command(text);
	if (err)
		return err;
	snprintf(text, sizeof(text), "events/" GROUP "%d/%s/id", getpid(), event);
	id = tracefs__number(text);
	if (id < 0)
		return id;
	attr.config = id;
	fd = syscall(SYS_perf_event_open, &attr, -1, 0, -1, PERF_FLAG_FD_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

struct bpf_link *kprobes__attach_return(struct kprobes *k, struct bpf_program *prog)
{
	const char *function = strchr(bpf_program__section_name(prog), '/') + 1;
	int fd = open_event(bpf_program__name(prog), function);
	struct bpf_link *link;

	if (fd >= 0) {
		link = bpf_program__attach_perf_event(prog, fd);
		if (!link)
			close(fd);
		return link;
	}
	if (!k->warned)
		log_warn("tracefs: %s: return probes see few blocked calls at once; what they miss is counted. "
			 "It needs CAP_SYS_ADMIN, or a writable tracefs.",
			 strerror(-fd));
	k->warned = true;
	return bpf_program__attach(prog);
}

uint64_t kprobes__missed(const struct kprobes *k)
{
	FILE *in = k ? tracefs__fopen("kprobe_profile") : NULL;
	unsigned long long hits, misses;
	char line[256], event[128];
	uint64_t sum = 0;

	if (!in)
		return 0;
	/* "  kr_inet_recvmsg   hits   misses": the group is not shown, the names are ours */
	while (fgets(line, sizeof(line), in))
		if (sscanf(line, "%127s %llu %llu", event, &hits, &misses) == 3 && !strncmp(event, "kr_", 3))
			sum += misses;
	fclose(in);
	return sum;
}
