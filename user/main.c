// SPDX-License-Identifier: Apache-2.0
/* Wiring only: which command, with which options. */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "user/base/log.h"
#include "user/base/opts.h"
#include "user/live.h"
#include "user/loader/feature.h"
#include "user/loader/control.h"
#include "user/proto/proto.h"

extern char **environ;

static enum log_level level_of(const char *name)
{
	static const char *const names[] = { "error", "warn", "info", "debug" };

	for (int i = 0; i < 4; i++)
		if (!strcmp(name, names[i]))
			return i;
	return LOG_LVL_INFO;
}

static int print_features(void)
{
	struct features f;

	features__probe(&f);
	features__print(&f, stdout);
	return f.plan == PLAN_NONE ? 3 : 0;
}

/* OTEL_SDK_DISABLED=true: whoever switches tracing off gets none of its cost, and their command all the same. */
static int run_disabled(struct opts *o)
{
	log_info("OTEL_SDK_DISABLED is true: nothing is traced");
	if (o->command != CMD_RUN)
		return 0;
	execvp(o->argv_run[0], o->argv_run);
	log_error("%s: %s", o->argv_run[0], strerror(errno));
	return errno == ENOENT ? 127 : 126; /* as a shell does */
}

static int run(struct opts *o)
{
	bool traces = o->command == CMD_TRACE || o->command == CMD_RECORD || o->command == CMD_RUN ||
		      o->command == CMD_REPLAY;

	if (traces && o->sdk_disabled)
		return run_disabled(o);
	switch (o->command) {
	case CMD_TRACE:
	case CMD_RECORD:
	case CMD_RUN:
		return live__run(o);
	case CMD_REPLAY:
		return rerun__run(o);
	case CMD_FEATURES:
		return print_features();
	case CMD_STATS:
		return control__stats(o, stdout);
	case CMD_CHECK_CONFIG:
		opts__print_values(o, stdout);
		return 0;
	case CMD_VERSION:
		printf("wirespan %s\n", WS_VERSION);
		return 0;
	case CMD_COMPLETION:
		opts__print_completion(stdout, o->shell);
		return 0;
	case CMD_MAN:
		opts__print_man(stdout);
		return 0;
	case CMD_HELP:
	case CMD_HELP_ALL:
		opts__print_help(stdout, o->command == CMD_HELP_ALL);
		return 0;
	}
	return 2;
}

int main(int argc, char **argv)
{
	struct opts o;
	int code;

	if (proto__check_table())
		return 1;
	code = opts__parse(&o, argc, argv, environ, stderr);
	if (!code) {
		log__level = level_of(o.log_level);
		code = run(&o);
	}
	opts__free(&o);
	return code;
}
