// SPDX-License-Identifier: Apache-2.0
/* What runtime__inspect() says about a process, as JSON: rtinspect PID. Exit status: its error. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

#include "user/runtime/runtime.h"

static const char *const hooks[__HOOK_CNT] = {
	[HOOK_CONTEXT_COPY] = "context_copy",	[HOOK_CONTEXT_NEW] = "context_new",
	[HOOK_FUTURE_RESULT] = "future_result", [HOOK_QUEUE_PUT] = "queue_put",
	[HOOK_QUEUE_GET] = "queue_get",		[HOOK_UV_READ] = "uv_read",
	[HOOK_UV_READ_DONE] = "uv_read_done",	[HOOK_UV_WRITE] = "uv_write",
	[HOOK_UV_FLUSH] = "uv_flush",		[HOOK_UV_FLUSHED] = "uv_flushed",
	[HOOK_HAZARD] = "hazard",		[HOOK_QUEUE_WAIT] = "queue_wait",
	[HOOK_GREENLET_PUT] = "greenlet_put",	[HOOK_GREENLET_GET] = "greenlet_get",
	[HOOK_GREENLET_END] = "greenlet_end",
	[HOOK_GO_NEW] = "go_new",		[HOOK_GO_EXIT] = "go_exit",
	[HOOK_GO_SERVE] = "go_serve", [HOOK_GO_ROUND_TRIP] = "go_round_trip", [HOOK_GO_WRITE] = "go_write",
	[HOOK_TURN_BEGIN] = "turn_begin",	[HOOK_TURN_END] = "turn_end",
	[HOOK_TURN_SUBMIT] = "turn_submit",	[HOOK_TURN_DONE] = "turn_done",
	[HOOK_TURN_REF] = "turn_ref",		[HOOK_TURN_UNREF] = "turn_unref",
	[HOOK_TURN_WRITE] = "turn_write",
};

static void print_string(const char *s)
{
	putchar('"');
	for (; *s; s++)
		if (*s == '"' || *s == '\\' || (unsigned char)*s < ' ')
			printf("\\u%04x", *s);
		else
			putchar(*s);
	putchar('"');
}

int main(int argc, char **argv)
{
	struct runtime r;
	int err;

	if (argc != 2) {
		fprintf(stderr, "usage: rtinspect PID\n");
		return 2;
	}
	err = runtime__inspect((pid_t)strtol(argv[1], NULL, 10), &r);
	if (err) {
		printf("{\"error\":%d}\n", err);
		return -err;
	}
	printf("{\"kind\":%u,\"tgid\":%u,\"tls\":%d,", r.desc.kind, r.desc.tgid, r.desc.tls);
	if (r.desc.kind == WS_RT_GO)
		printf("\"m\":%u,\"curg\":%u,\"goid\":%u,\"ctx\":%u,", r.desc.go.m, r.desc.go.curg, r.desc.go.goid, r.desc.go.ctx);
	else
		printf("\"thread_id\":%u,\"context\":%u,\"entered\":%u,\"fut_context\":%u,", r.desc.py.thread_id,
		       r.desc.py.context, r.desc.py.entered, r.desc.py.fut_context);
	printf("\"version\":");
	print_string(r.version);
	printf(",\"why\":");
	print_string(r.why);
	printf(",\"hazard\":");
	print_string(r.hazard ? r.hazard : "");
	printf(",\"not_yet\":%d,\"uvloop\":%d,\"greenlet\":%d,\"sites\":[", r.not_yet, r.uvloop, r.greenlet);
	for (size_t i = 0; i < r.n_sites; i++) {
		printf("%s{\"hook\":\"%s\",\"ret\":%d,\"offset\":%llu,\"path\":", i ? "," : "", hooks[r.sites[i].hook],
		       r.sites[i].ret, (unsigned long long)r.sites[i].offset);
		print_string(r.sites[i].path);
		putchar('}');
	}
	printf("]}\n");
	runtime__free(&r);
	return 0;
}
