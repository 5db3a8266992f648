// SPDX-License-Identifier: Apache-2.0
/* Arguments, and the order in which the layers are laid over each other. */
#include "user/base/opts.h"

#include <ctype.h>
#include <string.h>

#include "user/base/mem.h"
#include "user/base/opts_table.h"

#define USAGE_HINT "see wirespan --help"

/* A flag as it stood on the command line; set after the weaker layers. */
struct flag {
	const struct opt_row *row;
	const char *value;
	char where[48]; /* "--ring-size" */
};

struct args {
	struct opt_ctx *c;
	char **v;
	int n, at;
	struct flag *flags;
	size_t n_flags;
	const struct opt_command *command;
	const char *operand;
	bool help, help_all, version;
};

static void add_flag(struct args *a, const struct opt_row *r, const char *value, const char *where)
{
	struct flag *f = &a->flags[a->n_flags++];

	f->row = r;
	f->value = value;
	snprintf(f->where, sizeof(f->where), "%s", where);
}

static void unknown_flag(struct args *a, const char *arg, const char *name)
{
	const char *near = opt__nearest(strncmp(name, "no-", 3) == 0 ? name + 3 : name, false);

	if (near)
		opt__mistake(a->c, NULL, "unknown option %s: did you mean --%s%s?", arg,
			     strncmp(name, "no-", 3) == 0 && opt__find(near, strlen(near))->type == OPT_BOOL ? "no-" : "",
			     near);
	else
		opt__mistake(a->c, NULL, "unknown option %s: " USAGE_HINT, arg);
}

/* The word behind a flag that needs one. */
static const char *take_value(struct args *a, const struct opt_row *r, const char *where)
{
	/* "--" is no value, and neither is what looks like the next flag: "--pid --port 80" lacks one. "-" is. */
	if (a->at + 1 < a->n && (a->v[a->at + 1][0] != '-' || !a->v[a->at + 1][1]))
		return a->v[++a->at];
	opt__mistake(a->c, where, "needs a value: %s %s", where, r->arg);
	return NULL;
}

static void read_long(struct args *a, const char *arg)
{
	const char *name = arg + 2, *value = strchr(name, '=');
	size_t len = value ? (size_t)(value - name) : strlen(name);
	const struct opt_row *r;
	char where[48], bare[48];
	bool no = false;

	if (strcmp(arg, "--help") == 0 || strcmp(arg, "--help-all") == 0 || strcmp(arg, "--version") == 0) {
		a->help |= arg[2] == 'h' && !arg[6];
		a->help_all |= arg[2] == 'h' && arg[6];
		a->version |= arg[2] == 'v';
		return;
	}
	snprintf(where, sizeof(where), "--%.*s", (int)(len < 40 ? len : 40), name);
	snprintf(bare, sizeof(bare), "%s", where + 2);
	r = memchr(name, '_', len) || memchr(name, '.', len) ? NULL : opt__find(name, len);
	if (!r && strncmp(name, "no-", 3) == 0 && len > 3) {
		r = opt__find(name + 3, len - 3);
		no = r && r->type == OPT_BOOL;
		if (!no)
			r = NULL;
	}
	if (!r) {
		unknown_flag(a, where, bare);
	} else if (r->type != OPT_BOOL) {
		value = value ? value + 1 : take_value(a, r, where);
		if (value && !*value)
			opt__mistake(a->c, where, "needs a value: %s %s", where, r->arg);
		else if (value)
			add_flag(a, r, value, where);
	} else if (no && value) {
		opt__mistake(a->c, where, "takes no value");
	} else {
		add_flag(a, r, no ? "false" : value ? value + 1 : "true", where);
	}
}

static void read_short(struct args *a, const char *arg)
{
	const struct opt_row *r = opt__find_letter(arg[1]);
	char where[3] = { '-', arg[1], 0 };
	const char *value;

	if (strcmp(arg, "-h") == 0) {
		a->help = true;
	} else if (strcmp(arg, "-V") == 0) {
		a->version = true;
	} else if (!r) {
		opt__mistake(a->c, NULL, "unknown option %s: " USAGE_HINT, arg);
	} else {
		value = arg[2] ? arg + 2 : take_value(a, r, where);
		if (value)
			add_flag(a, r, value, where);
	}
}

static void read_word(struct args *a, const char *arg)
{
	const char *near;

	if (a->command && a->command->arg && !a->operand) {
		a->operand = arg;
		return;
	}
	if (a->command) {
		opt__mistake(a->c, NULL, "%s: unexpected argument %s", a->command->name, arg);
		return;
	}
	for (size_t i = 0; i < opt_commands_cnt; i++) {
		if (strcmp(opt_commands[i].name, arg) == 0) {
			a->command = &opt_commands[i];
			return;
		}
	}
	near = opt__nearest(arg, true);
	if (near)
		opt__mistake(a->c, NULL, "unknown command %s: did you mean %s?", arg, near);
	else
		opt__mistake(a->c, NULL, "unknown command %s: to trace a program, wirespan -- %s; " USAGE_HINT, arg, arg);
}

static void read_args(struct args *a)
{
	for (a->at = 1; a->at < a->n; a->at++) {
		char *arg = a->v[a->at];

		if (strcmp(arg, "--") == 0) {
			if (a->at + 1 < a->n)
				a->c->o->argv_run = &a->v[a->at + 1];
			else
				opt__mistake(a->c, "--", "needs a command: wirespan -- CMD [ARGS]");
			break;
		}
		if (strncmp(arg, "--", 2) == 0)
			read_long(a, arg);
		else if (arg[0] == '-' && arg[1])
			read_short(a, arg);
		else
			read_word(a, arg);
	}
}

static void set_text(struct opt_ctx *c, char **field, const char *text)
{
	*field = mem__strdup(text);
	if (!*field)
		opt__mistake(c, NULL, "out of memory");
}

/* The sub-command with its operand; CMD_TRACE without a word. */
static void settle_command(struct args *a)
{
	struct opts *o = a->c->o;
	const struct opt_command *cmd = a->command;

	o->command = cmd ? cmd->command : o->argv_run ? CMD_RUN : CMD_TRACE;
	if (cmd && o->argv_run)
		opt__mistake(a->c, cmd->name, "does not go with -- CMD");
	if (cmd && cmd->arg && cmd->arg[0] != '[' && !a->operand)
		opt__mistake(a->c, cmd->name, "needs an argument: wirespan %s %s", cmd->name, cmd->arg);
	/* Flags only: a file and the environment are shared by the commands. */
	for (size_t i = 0; i < a->n_flags; i++) {
		if (!opt__is_heeded(a->flags[i].row, o->command))
			opt__mistake(a->c, a->flags[i].where, "means nothing to wirespan %s", cmd->name);
	}
	if (o->command == CMD_COMPLETION && a->operand) {
		if (strcmp(a->operand, "bash") != 0 && strcmp(a->operand, "zsh") != 0 && strcmp(a->operand, "fish") != 0)
			opt__mistake(a->c, "completion", "%s is not one of bash, zsh, fish", a->operand);
		set_text(a->c, &o->shell, a->operand);
	} else if (a->operand) {
		set_text(a->c, &o->file, a->operand);
	}
}

/*
 * What Kubernetes puts into every container beside a Service named wirespan, or wirespan-something:
 * WIRESPAN_SERVICE_HOST, WIRESPAN_PORT=tcp://…, WIRESPAN_PORT_80_TCP and so on.
 */
static bool is_service_link(const char *env, size_t len)
{
	static const char *const parts[] = { "_SERVICE_HOST", "_SERVICE_PORT", "_PORT_" };

	for (size_t i = 0; i < sizeof(parts) / sizeof(parts[0]); i++) {
		if (memmem(env, len, parts[i], strlen(parts[i])))
			return true;
	}
	return memcmp(env + len - 5, "_PORT", 5) == 0 && strstr(env + len, "://");
}

static void unknown_variable(struct opt_ctx *c, const char *env, size_t len, char *name)
{
	const char *near;
	char var[64];

	for (char *p = name; *p; p++)
		*p = *p == '_' ? '-' : *p;
	near = opt__nearest(name, false);
	if (near)
		opt__env_name(opt__find(near, strlen(near)), var, sizeof(var));
	/* A warning only: such a name may well belong to somebody else. */
	opt__warn(c, NULL, "%.*s: no such option, ignored%s%s%s", (int)len, env, near ? ": did you mean " : "",
		  near ? var : "", near ? "?" : "");
}

static void apply_env(struct opt_ctx *c, char **env)
{
	for (; env && *env; env++) {
		const char *value = strchr(*env, '=');
		struct opt_from from = { .origin = ORIGIN_ENV };
		const struct opt_row *r;
		char name[64], where[64];
		size_t len;

		if (strncmp(*env, "WIRESPAN_", 9) != 0 || !value || !value[1])
			continue;
		len = (size_t)(value - *env);
		if (is_service_link(*env, len))
			continue;
		/* Names are upper case here; opt__find takes '_' for '-'. What is cut off here matches no row. */
		snprintf(where, sizeof(where), "%.*s", (int)len, *env);
		snprintf(name, sizeof(name), "%s", where + 9);
		for (char *p = name; *p; p++)
			*p = (char)tolower((unsigned char)*p);
		from.where = where;
		r = opt__find(name, strlen(name));
		if (r)
			opt_value__set(c, r, value + 1, &from);
		else
			unknown_variable(c, *env, len, name);
	}
}

static void apply_defaults(struct opt_ctx *c)
{
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		struct opt_from from = { .origin = ORIGIN_DEFAULT, .where = opt_rows[i].name };

		if (opt_rows[i].dflt)
			opt_value__set(c, &opt_rows[i], opt_rows[i].dflt, &from);
	}
}

/* --config, else WIRESPAN_CONFIG, else check-config's operand. */
static const char *config_path(const struct args *a, char **env)
{
	const char *path = a->c->o->command == CMD_CHECK_CONFIG ? a->operand : NULL;

	for (size_t i = 0; i < a->n_flags && !path; i++) {
		if (a->flags[i].row->offset == offsetof(struct opts, config))
			path = a->flags[i].value;
	}
	return path ? path : opt__getenv(env, "WIRESPAN_CONFIG");
}

static void apply_layers(struct args *a, char **env)
{
	struct opt_ctx *c = a->c;
	const char *path = config_path(a, env);

	opt_otel__apply(c, env);
	if (path)
		opt_yaml__apply(c, path);
	apply_env(c, env);
	for (size_t i = 0; i < a->n_flags; i++) {
		struct opt_from from = { .origin = ORIGIN_FLAG, .where = a->flags[i].where };

		for (size_t j = 0; j < i && a->flags[i].row->type == OPT_LIST; j++)
			from.append |= a->flags[j].row == a->flags[i].row;
		opt_value__set(c, a->flags[i].row, a->flags[i].value, &from);
	}
	/* Half of an answer would only cause more questions. */
	if (c->mistakes)
		return;
	opt_otel__resolve(c, env);
}

int opts__parse(struct opts *o, int argc, char **argv, char **env, FILE *err)
{
	struct opt_ctx c = { .o = o, .err = err };
	struct args a = { .c = &c, .v = argv, .n = argc };

	memset(o, 0, sizeof(*o));
	a.flags = mem__alloc(sizeof(*a.flags) * (size_t)(argc > 0 ? argc : 1));
	if (!a.flags) {
		opt__mistake(&c, NULL, "out of memory");
		return 2;
	}
	apply_defaults(&c); /* also where nothing else is read: every caller may rely on them */
	read_args(&a);
	if (a.help || a.help_all || a.version) {
		o->command = a.help_all ? CMD_HELP_ALL : a.help ? CMD_HELP : CMD_VERSION;
		c.mistakes = 0;
		goto out;
	}
	settle_command(&a);
	if (o->command != CMD_HELP && o->command != CMD_MAN && o->command != CMD_COMPLETION)
		apply_layers(&a, env);
out:
	mem__free(a.flags);
	return c.mistakes ? 2 : 0;
}

void opts__free(struct opts *o)
{
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		if (opt_value__is_str(&opt_rows[i])) {
			mem__free(*opt_value__str(o, &opt_rows[i]));
			*opt_value__str(o, &opt_rows[i]) = NULL;
		}
	}
	mem__free(o->file);
	mem__free(o->shell);
	o->file = NULL;
	o->shell = NULL;
}
