// SPDX-License-Identifier: Apache-2.0
/* Everything that shows the table: --help, --help-all, the manual page, completion, check-config. */
#include "user/base/opts.h"

#include <string.h>

#include "user/base/opts_table.h"

#define VALUE_LEN 512

static const char *const examples[][2] = {
	{ "sudo wirespan", "trees of everything on this machine" },
	{ "sudo wirespan --port 8080", "only the service that listens on 8080" },
	{ "sudo wirespan -e http://collector:4318", "send spans to a collector" },
	{ "sudo wirespan -- curl http://shop.local/", "what one command calls" },
};
#define EXAMPLES_CNT (sizeof(examples) / sizeof(examples[0]))

/* A switch that is on is turned off by its flag. */
static bool is_negated(const struct opt_row *r)
{
	return r->type == OPT_BOOL && r->dflt && strcmp(r->dflt, "true") == 0;
}

/* "-e, --endpoint URL", "--no-redact"; `pad` leaves the place of a letter empty. */
static void format_flag(const struct opt_row *r, bool pad, char *buf, size_t size)
{
	char letter[8] = "";

	if (r->letter)
		snprintf(letter, sizeof(letter), "-%c, ", r->letter);
	else if (pad)
		snprintf(letter, sizeof(letter), "    ");
	snprintf(buf, size, "%s--%s%s%s%s", letter, is_negated(r) ? "no-" : "", r->name, r->arg ? " " : "",
		 r->arg ? r->arg : "");
}

/* The help of a switch describes what is on by default; its flag does the opposite. */
static const char *help_prefix(const struct opt_row *r)
{
	return is_negated(r) ? "do not " : "";
}

/* Columns on a terminal of a UTF-8 text. */
static int columns(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += ((unsigned char)*s & 0xc0) != 0x80;
	return n;
}

static void print_entry(FILE *out, const char *name, int width, const char *prefix, const char *text)
{
	int pad = width - columns(name);

	fprintf(out, "  %s%*s%s%s\n", name, pad > 0 ? pad + 2 : 2, "", prefix, text);
}

static void print_commands(FILE *out)
{
	for (size_t i = 0; i < opt_commands_cnt; i++) {
		char name[64];

		snprintf(name, sizeof(name), "%s%s%s", opt_commands[i].name, opt_commands[i].arg ? " " : "",
			 opt_commands[i].arg ? opt_commands[i].arg : "");
		print_entry(out, name, 23, "", opt_commands[i].help);
	}
}

static void print_short_help(FILE *out)
{
	fputs("wirespan " WS_VERSION ": who called whom, for how long, and what failed, without touching them\n\n"
	      "Usage: wirespan [OPTIONS] [-- CMD [ARGS]]    trace this machine, or one command\n"
	      "       wirespan COMMAND [OPTIONS]\n\n",
	      out);
	for (int top = 1; top <= 5; top++) {
		for (size_t i = 0; i < opt_rows_cnt; i++) {
			char flag[64];

			if (opt_rows[i].top != top)
				continue;
			format_flag(&opt_rows[i], true, flag, sizeof(flag));
			print_entry(out, flag, 23, help_prefix(&opt_rows[i]), opt_rows[i].help);
		}
	}
	print_entry(out, "    --help-all", 23, "", "all options");
	fputs("\nCommands:\n", out);
	print_commands(out);
	fputs("\nExamples:\n", out);
	for (size_t i = 0; i < EXAMPLES_CNT; i++)
		print_entry(out, examples[i][0], 42, "", examples[i][1]);
}

static void print_choices(FILE *out, const char *choices, const char *sep)
{
	for (const char *p = choices; *p; p++) {
		if (*p == '|')
			fputs(sep, out);
		else
			fputc(*p, out);
	}
}

static void print_row(FILE *out, const struct opt_row *r)
{
	static const char indent[] = "                                    ";
	char flag[64], env[64];

	if (r->flags & OPT_ENV_ONLY) {
		print_entry(out, r->otel[0], 32, "", r->help);
		return;
	}
	format_flag(r, true, flag, sizeof(flag));
	print_entry(out, flag, 32, help_prefix(r), r->help);
	if (r->choices) {
		fprintf(out, "%s", indent);
		print_choices(out, r->choices, ", ");
		fputc('\n', out);
	}
	opt__env_name(r, env, sizeof(env));
	fprintf(out, "%s%s", indent, env);
	for (int i = 0; i < OPT_OTEL_MAX && r->otel[i]; i++)
		fprintf(out, ", %s", r->otel[i]);
	if (r->dflt && r->type != OPT_BOOL)
		fprintf(out, " [%s]", r->dflt);
	fputc('\n', out);
}

static void print_full_help(FILE *out)
{
	const char *group = "";

	fputs("Usage: wirespan [OPTIONS] [-- CMD [ARGS]]\n"
	      "       wirespan COMMAND [OPTIONS]\n\nCommands:\n",
	      out);
	print_commands(out);
	fputs("\nA value is taken from its flag, else from its WIRESPAN_ variable, else from the file that --config names\n"
	      "(the same names as keys), else from its OTEL_ variable, else it is the default in brackets.\n",
	      out);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		if (strcmp(group, opt_rows[i].group) != 0) {
			group = opt_rows[i].group;
			fprintf(out, "\n%s:\n", group);
		}
		print_row(out, &opt_rows[i]);
	}
	fputs("\nOther:\n", out);
	print_entry(out, "-h, --help", 32, "", "the most used options and examples");
	print_entry(out, "    --help-all", 32, "", "this text");
	print_entry(out, "-V, --version", 32, "", "the version");
	fputs("\nExit status: 0 ended as asked, 1 failed while running, 2 wrong use or configuration,\n"
	      "3 not possible on this machine; -- CMD passes the command's own.\n",
	      out);
}

void opts__print_help(FILE *out, bool all)
{
	if (all)
		print_full_help(out);
	else
		print_short_help(out);
}

/* ---- check-config ------------------------------------------------------------------------------- */

static void format_origin(const struct opts *o, const struct opt_row *r, char *buf, size_t size)
{
	size_t i = opt__index(r);

	switch (o->from[i].origin) {
	case ORIGIN_OTEL:
		snprintf(buf, size, "%s", r->otel[o->from[i].which]);
		break;
	case ORIGIN_FILE:
		snprintf(buf, size, "file, line %u", o->from[i].line);
		break;
	case ORIGIN_ENV:
		opt__env_name(r, buf, size);
		break;
	case ORIGIN_RECORDING:
		snprintf(buf, size, "recording");
		break;
	case ORIGIN_FLAG:
		snprintf(buf, size, "flag");
		break;
	default:
		snprintf(buf, size, "default");
		break;
	}
}

/* Who may read this need not know who may send spans. */
static void hide_credentials(char *url)
{
	char *host = strstr(url, "://"), *at = host ? strchr(host, '@') : NULL;

	if (at && host + 3 + strcspn(host + 3, "/?#") > at)
		memset(host + 3, '*', (size_t)(at - host - 3));
}

void opts__print_values(const struct opts *o, FILE *out)
{
	fprintf(out, "%-24s %-32s %s\n", "OPTION", "VALUE", "FROM");
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		char value[VALUE_LEN], origin[96];

		opt_value__format(o, &opt_rows[i], value, sizeof(value));
		hide_credentials(value);
		for (char *p = value; *p; p++) {
			if ((unsigned char)*p < 0x20 || *p == 0x7f)
				*p = '?';
		}
		format_origin(o, &opt_rows[i], origin, sizeof(origin));
		fprintf(out, "%-24s %-32s %s\n", opt_rows[i].name, *value ? value : "(unset)", origin);
	}
}

/* ---- manual page --------------------------------------------------------------------------------- */

/* troff: a hyphen in code is \-, a line must not begin with a dot or a quote. */
static void put_troff(FILE *out, const char *s)
{
	if (*s == '.' || *s == '\'')
		fputs("\\&", out);
	for (; *s; s++) {
		if (*s == '-')
			fputs("\\-", out);
		else if (*s == '\\')
			fputs("\\e", out);
		else if (strncmp(s, "…", 3) == 0) {
			fputs("...", out);
			s += 2;
		} else
			fputc(*s, out);
	}
}

static void man_row(FILE *out, const struct opt_row *r)
{
	char flag[64], env[64];

	format_flag(r, false, flag, sizeof(flag));
	opt__env_name(r, env, sizeof(env));
	fputs(".TP\n.B ", out);
	put_troff(out, r->flags & OPT_ENV_ONLY ? r->otel[0] : flag);
	fputc('\n', out);
	fputs(help_prefix(r), out);
	put_troff(out, r->help);
	fputs(".\n", out);
	if (r->choices) {
		fputs("One of: ", out);
		print_choices(out, r->choices, ", ");
		fputs(".\n", out);
	}
	if (r->dflt && r->type != OPT_BOOL) {
		fputs("Default: ", out);
		put_troff(out, r->dflt);
		fputs(".\n", out);
	}
	if (r->flags & OPT_ENV_ONLY)
		return;
	fprintf(out, "Environment: %s", env);
	for (int i = 0; i < OPT_OTEL_MAX && r->otel[i]; i++)
		fprintf(out, ", %s", r->otel[i]);
	fputs(".\n", out);
}

static void man_commands(FILE *out)
{
	fputs(".SH COMMANDS\nWithout a command wirespan traces until it is interrupted.\n", out);
	for (size_t i = 0; i < opt_commands_cnt; i++) {
		fputs(".TP\n.B ", out);
		put_troff(out, opt_commands[i].name);
		fprintf(out, "%s%s\n", opt_commands[i].arg ? " " : "", opt_commands[i].arg ? opt_commands[i].arg : "");
		put_troff(out, opt_commands[i].help);
		fputs(".\n", out);
	}
}

void opts__print_man(FILE *out)
{
	const char *group = "";

	fputs(".TH WIRESPAN 8 \"\" \"wirespan " WS_VERSION "\" \"System Administration\"\n"
	      ".SH NAME\nwirespan \\- distributed tracing of services that were never touched\n"
	      ".SH SYNOPSIS\n.B wirespan\n[\\fIOPTIONS\\fR] [\\-\\- \\fICMD\\fR [\\fIARGS\\fR]]\n.br\n"
	      ".B wirespan\n\\fICOMMAND\\fR [\\fIOPTIONS\\fR]\n"
	      ".SH DESCRIPTION\n"
	      "wirespan watches unmodified services with eBPF, finds the requests that they serve and make, works out\n"
	      "which caused which, and shows traces or sends them to an OpenTelemetry collector.\n"
	      "A parent is drawn only where it is proven, and every loss is counted.\n",
	      out);
	man_commands(out);
	fputs(".SH OPTIONS\nA value is taken from its flag, else from its WIRESPAN_ variable, else from the file that\n"
	      ".B \\-\\-config\nnames, else from its OTEL_ variable, else it is the default.\n",
	      out);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		if (strcmp(group, opt_rows[i].group) != 0) {
			group = opt_rows[i].group;
			fprintf(out, ".SS %s\n", group);
		}
		man_row(out, &opt_rows[i]);
	}
	fputs(".SH CONFIGURATION FILE\nYAML: a mapping from the names above, without dashes, to values. Lists may be\n"
	      "sequences, and \\(lqexclude: {path: /health}\\(rq is exclude\\-path.\n"
	      ".SH EXIT STATUS\n"
	      ".TP\n.B 0\nended as asked\n.TP\n.B 1\nfailed while running\n.TP\n.B 2\nwrong use or configuration\n"
	      ".TP\n.B 3\nnot possible on this machine\n.PP\n\\-\\- \\fICMD\\fR passes the command's own.\n"
	      ".SH EXAMPLES\n",
	      out);
	for (size_t i = 0; i < EXAMPLES_CNT; i++) {
		fputs(".TP\n.B ", out);
		put_troff(out, examples[i][0]);
		fputc('\n', out);
		put_troff(out, examples[i][1]);
		fputc('\n', out);
	}
}

/* ---- completion ---------------------------------------------------------------------------------- */

static bool has_flag(const struct opt_row *r)
{
	return !(r->flags & OPT_ENV_ONLY);
}

static void complete_bash(FILE *out)
{
	fputs("# bash completion for wirespan\n_wirespan()\n{\n"
	      "\tlocal cur prev flag\n"
	      "\tCOMPREPLY=()\n"
	      "\tcur=\"${COMP_WORDS[COMP_CWORD]}\"\n\tprev=\"${COMP_WORDS[COMP_CWORD-1]}\"\n"
	      /* '=' is a word of its own in COMP_WORDS */
	      "\tif [[ $cur == = ]]; then flag=$prev; cur=\n"
	      "\telif [[ $prev == = ]]; then flag=\"${COMP_WORDS[COMP_CWORD-2]}\"\n"
	      "\telse flag=$prev; fi\n"
	      "\tcase \"$flag\" in\n",
	      out);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		const struct opt_row *r = &opt_rows[i];

		if (!has_flag(r) || r->type == OPT_BOOL)
			continue;
		fprintf(out, "\t--%s", r->name);
		if (r->letter)
			fprintf(out, "|-%c", r->letter);
		fputs(") ", out);
		if (r->choices) {
			fputs("COMPREPLY=($(compgen -W \"", out);
			print_choices(out, r->choices, " ");
			fputs("\" -- \"$cur\"));", out);
		} else if (r->type == OPT_FILE) {
			fputs("COMPREPLY=($(compgen -f -- \"$cur\"));", out);
		}
		fputs(" return;;\n", out);
	}
	fputs("\trecord|replay|check-config) COMPREPLY=($(compgen -f -- \"$cur\")); return;;\n"
	      "\tcompletion) COMPREPLY=($(compgen -W \"bash zsh fish\" -- \"$cur\")); return;;\n"
	      "\tesac\n\tif [[ $cur == -* ]]; then\n\t\tCOMPREPLY=($(compgen -W \"--help --help-all --version",
	      out);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		if (has_flag(&opt_rows[i]))
			fprintf(out, " --%s%s", is_negated(&opt_rows[i]) ? "no-" : "", opt_rows[i].name);
	}
	fputs("\" -- \"$cur\"))\n\telse\n\t\tCOMPREPLY=($(compgen -W \"", out);
	for (size_t i = 0; i < opt_commands_cnt; i++)
		fprintf(out, "%s%s", i ? " " : "", opt_commands[i].name);
	fputs("\" -- \"$cur\"))\n\tfi\n}\ncomplete -F _wirespan wirespan\n", out);
}

/* Inside single quotes and _arguments' brackets. */
static void put_zsh(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'')
			fputs("'\\''", out);
		else if (strchr("[]:\\", *s))
			fprintf(out, "\\%c", *s);
		else
			fputc(*s, out);
	}
}

static void complete_zsh(FILE *out)
{
	fputs("#compdef wirespan\n_wirespan() {\n\tlocal -a commands=(\n", out);
	for (size_t i = 0; i < opt_commands_cnt; i++) {
		fprintf(out, "\t\t'%s:", opt_commands[i].name);
		put_zsh(out, opt_commands[i].help);
		fputs("'\n", out);
	}
	fputs("\t)\n\t_arguments -s \\\n", out);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		const struct opt_row *r = &opt_rows[i];

		if (!has_flag(r))
			continue;
		fprintf(out, "\t\t'--%s%s%s[%s", is_negated(r) ? "no-" : "", r->name, r->type == OPT_BOOL ? "" : "=",
			help_prefix(r));
		put_zsh(out, r->help);
		fputc(']', out);
		if (r->arg) {
			fprintf(out, ":%s:", r->arg);
			if (r->choices) {
				fputc('(', out);
				print_choices(out, r->choices, " ");
				fputc(')', out);
			} else if (r->type == OPT_FILE) {
				fputs("_files", out);
			}
		}
		fputs("' \\\n", out);
	}
	fputs("\t\t'(-h --help)'{-h,--help}'[most used options and examples]' \\\n"
	      "\t\t'--help-all[all options]' \\\n"
	      "\t\t'(-V --version)'{-V,--version}'[the version]' \\\n"
	      "\t\t'1: :{_describe command commands}' \\\n"
	      "\t\t'*:file:_files'\n}\n_wirespan \"$@\"\n",
	      out);
}

static void put_fish(FILE *out, const char *s)
{
	for (; *s; s++) {
		if (*s == '\'' || *s == '\\')
			fputc('\\', out);
		fputc(*s, out);
	}
}

static void complete_fish(FILE *out)
{
	fputs("# fish completion for wirespan\n", out);
	for (size_t i = 0; i < opt_commands_cnt; i++) {
		fprintf(out, "complete -c wirespan -f -n __fish_use_subcommand -a %s -d '", opt_commands[i].name);
		put_fish(out, opt_commands[i].help);
		fputs("'\n", out);
	}
	fputs("complete -c wirespan -F -n '__fish_seen_subcommand_from record replay check-config'\n"
	      "complete -c wirespan -f -n '__fish_seen_subcommand_from completion' -a 'bash zsh fish'\n"
	      "complete -c wirespan -s h -l help -d 'most used options and examples'\n"
	      "complete -c wirespan -l help-all -d 'all options'\n"
	      "complete -c wirespan -s V -l version -d 'the version'\n",
	      out);
	for (size_t i = 0; i < opt_rows_cnt; i++) {
		const struct opt_row *r = &opt_rows[i];

		if (!has_flag(r))
			continue;
		fprintf(out, "complete -c wirespan -l %s%s", is_negated(r) ? "no-" : "", r->name);
		if (r->letter)
			fprintf(out, " -s %c", r->letter);
		if (r->choices) {
			fputs(" -x -a '", out);
			print_choices(out, r->choices, " ");
			fputc('\'', out);
		} else if (r->type != OPT_BOOL) {
			fputs(r->type == OPT_FILE ? " -r -F" : " -x", out);
		}
		fprintf(out, " -d '%s", help_prefix(r));
		put_fish(out, r->help);
		fputs("'\n", out);
	}
}

void opts__print_completion(FILE *out, const char *shell)
{
	if (strcmp(shell, "zsh") == 0)
		complete_zsh(out);
	else if (strcmp(shell, "fish") == 0)
		complete_fish(out);
	else
		complete_bash(out);
}
