// SPDX-License-Identifier: Apache-2.0
/*
 * What runtime__inspect() says about a process, and what TLS is in its executable, as JSON: rtinspect PID. Exit status: the
 * former's error.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "user/runtime/runtime.h"
#include "user/tls/tls.h"

static const char *const hooks[__HOOK_CNT] = {
	[HOOK_CONTEXT_COPY] = "context_copy",	[HOOK_CONTEXT_NEW] = "context_new",
	[HOOK_FUTURE_RESULT] = "future_result", [HOOK_QUEUE_PUT] = "queue_put",
	[HOOK_QUEUE_GET] = "queue_get",		[HOOK_UV_READ] = "uv_read",
	[HOOK_UV_READ_DONE] = "uv_read_done",	[HOOK_UV_WRITE] = "uv_write",
	[HOOK_UV_MADE] = "uv_made",		[HOOK_UV_MADE_DONE] = "uv_made_done",
	[HOOK_UV_FLUSH] = "uv_flush",		[HOOK_UV_FLUSHED] = "uv_flushed",
	[HOOK_HAZARD] = "hazard",		[HOOK_QUEUE_WAIT] = "queue_wait",
	[HOOK_GREENLET_PUT] = "greenlet_put",	[HOOK_GREENLET_GET] = "greenlet_get",
	[HOOK_DEQUE_PUT] = "deque_put",		[HOOK_DEQUE_GET] = "deque_get",
	[HOOK_GREENLET_END] = "greenlet_end",
	[HOOK_GO_NEW] = "go_new",		[HOOK_GO_EXIT] = "go_exit",
	[HOOK_GO_SERVE] = "go_serve", [HOOK_GO_ROUND_TRIP] = "go_round_trip", [HOOK_GO_WRITE] = "go_write",
	[HOOK_TURN_BEGIN] = "turn_begin",	[HOOK_TURN_END] = "turn_end",
	[HOOK_TURN_SUBMIT] = "turn_submit",	[HOOK_TURN_DONE] = "turn_done",
	[HOOK_TURN_REF] = "turn_ref",		[HOOK_TURN_UNREF] = "turn_unref",
	[HOOK_TURN_WRITE] = "turn_write",	[HOOK_GOTLS_HANDSHAKE] = "gotls_handshake",
	[HOOK_GOTLS_WRITE] = "gotls_write",	[HOOK_GOTLS_READ] = "gotls_read",
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

static void print_sites(const struct runtime_site *sites, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		printf("%s{\"hook\":\"%s\",\"ret\":%d,\"offset\":%llu,\"path\":", i ? "," : "",
		       hooks[sites[i].hook] ? hooks[sites[i].hook] : "tls", sites[i].ret, (unsigned long long)sites[i].offset);
		print_string(sites[i].path);
		putchar('}');
	}
}

static void print_tls(pid_t pid)
{
	union ws_tls layout = {0};
	struct mapped_files maps;
	struct tls_file t = {0};
	char exe[64];
	struct stat st;

	snprintf(exe, sizeof(exe), "/proc/%d/exe", (int)pid);
	if (stat(exe, &st) || mapped_files__read(&maps, pid))
		return;
	for (size_t i = 0; i < maps.n && !t.library; i++)
		if (maps.files[i].ino == st.st_ino)
			tls_file__inspect(&maps, &maps.files[i], pid, TLS_LINKED, &t);
	if (t.library) {
		layout.cookie = t.sites[0].cookie;
		printf("\"vers\":%d,\"input\":%u,\"raw\":%u,\"tls_library\":", layout.version - 1, layout.go.input,
		       layout.go.raw);
		print_string(t.library);
		printf(",\"tls_sites\":[");
		print_sites(t.sites, t.n_sites);
		printf("],");
	}
	tls_file__free(&t);
	mapped_files__free(&maps);
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
	print_tls((pid_t)strtol(argv[1], NULL, 10));
	printf("\"version\":");
	print_string(r.version);
	printf(",\"why\":");
	print_string(r.why);
	printf(",\"hazard\":");
	print_string(r.hazard ? r.hazard : "");
	printf(",\"not_yet\":%d,\"uvloop\":%d,\"greenlet\":%d,\"sites\":[", r.not_yet, r.uvloop, r.greenlet);
	print_sites(r.sites, r.n_sites);
	printf("]}\n");
	runtime__free(&r);
	return 0;
}
