/* SPDX-License-Identifier: Apache-2.0 */
/* Inside of opts: the table and what the layers (arguments, environment, file) share. Nobody else includes this. */
#ifndef WS_BASE_OPTS_TABLE_H
#define WS_BASE_OPTS_TABLE_H

#include "user/base/opts.h"
#include "user/model/str.h"

enum opt_type {
	OPT_BOOL,
	OPT_STR,
	OPT_FILE,     /* as OPT_STR; shells complete file names */
	OPT_LIST,     /* comma-separated; a repeated flag appends */
	OPT_ENUM,
	OPT_U32,
	OPT_SIZE,     /* bytes: 4096, 64K, 4MiB */
	OPT_DURATION, /* milliseconds in the struct: "500ms", "10s"; OTEL_* variables: a bare number of ms */
	OPT_MODE,     /* octal file mode */
};

enum opt_origin { ORIGIN_DEFAULT, ORIGIN_OTEL, ORIGIN_FILE, ORIGIN_ENV, ORIGIN_RECORDING, ORIGIN_FLAG };

/* opt_row.flags */
#define OPT_SECRET 0x01	  /* the value is never shown */
#define OPT_ENV_ONLY 0x02 /* no flag, no WIRESPAN_* variable, no key: OTEL_* only */
#define OPT_NO_FILE 0x04  /* means nothing inside a configuration file */
#define OPT_NARROW 0x08	  /* an OPT_SIZE whose field is a uint32_t */
#define OPT_SPANS 0x10	  /* changes spans that are made from the same events: goes into recordings */

#define OPT_OTEL_MAX 3

struct opt_row {
	const char *name; /* flag without dashes; key in the file; WIRESPAN_NAME in the environment */
	char letter;	  /* short flag, 0: none */
	enum opt_type type;
	size_t offset;	  /* in struct opts */
	const char *group;
	const char *arg;  /* word for the value in --help; NULL: a switch */
	const char *dflt; /* NULL: unset */
	uint64_t min, max; /* numbers only */
	const char *choices; /* OPT_ENUM, and OPT_LIST where items are words: "a|b|c" */
	/* Says in `why` what is wrong with the text. 0 or -EINVAL. May be NULL. */
	int (*check)(const char *text, char *why, size_t size);
	const char *otel[OPT_OTEL_MAX]; /* highest precedence first */
	unsigned int flags;
	int top; /* place among the most used in --help, from 1 */
	const char *help;
};

extern const struct opt_row opt_rows[];
extern const size_t opt_rows_cnt;

/* Name, argument and meaning of each sub-command, in the order of --help. */
struct opt_command {
	const char *name;
	const char *arg; /* NULL: none; in brackets: optional */
	enum command command;
	const char *help;
};
extern const struct opt_command opt_commands[];
extern const size_t opt_commands_cnt;

struct opt_ctx {
	struct opts *o;
	FILE *err;
	int mistakes;
};

/* Where a value was found. */
struct opt_from {
	enum opt_origin origin;
	uint8_t which;	   /* ORIGIN_OTEL: index into opt_row.otel */
	uint32_t line;	   /* ORIGIN_FILE */
	const char *where; /* "--ring-size", "config.yaml:14:7: ring-size": begins every message */
	bool append;	   /* OPT_LIST: behind what is there */
};

/* "wirespan: WHERE: MESSAGE", control characters replaced; counted as a mistake. */
void opt__mistake(struct opt_ctx *c, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
/* The same, but the program goes on. */
void opt__warn(struct opt_ctx *c, const char *where, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

const struct opt_row *opt__find(const char *name, size_t len);
const struct opt_row *opt__find_letter(char letter);
/* Has the option, given as a flag, a meaning for this command? */
bool opt__is_heeded(const struct opt_row *r, enum command c);
size_t opt__index(const struct opt_row *r);
/* The option, or with `commands` the sub-command, whose name is nearest to a misspelt one; NULL: none is near. */
const char *opt__nearest(const char *name, bool commands);
/* "WIRESPAN_RING_SIZE" */
void opt__env_name(const struct opt_row *r, char *buf, size_t size);

/* opts_value.c: reads `text` into the struct. What is wrong with an OTEL_* value warns and is ignored. */
void opt_value__set(struct opt_ctx *c, const struct opt_row *r, const char *text, const struct opt_from *from);
/* The current value as text that opt_value__set reads; secrets are hidden. "" where unset. */
void opt_value__format(const struct opts *o, const struct opt_row *r, char *buf, size_t size);
char **opt_value__str(struct opts *o, const struct opt_row *r);
bool opt_value__is_str(const struct opt_row *r);

int opt_check__pids(const char *text, char *why, size_t size);
int opt_check__ports(const char *text, char *why, size_t size);
int opt_check__pairs(const char *text, char *why, size_t size);	  /* k=v,k2=v2, percent-encoded */
int opt_check__headers(const char *text, char *why, size_t size); /* the same; keys are HTTP field names */
int opt_check__routes(const char *text, char *why, size_t size); /* --route-patterns */
int opt_check__url(const char *text, char *why, size_t size);
int opt_check__power_of_two(const char *text, char *why, size_t size); /* and a multiple of the page size */

/* opts_otel.c */
void opt_otel__apply(struct opt_ctx *c, char **env);
/* After all layers: the endpoint as a full URL, and what depends on more than one option. */
void opt_otel__resolve(struct opt_ctx *c, char **env);

/* opts_yaml.c */
void opt_yaml__apply(struct opt_ctx *c, const char *path);

/* Value of a variable, NULL if unset or empty (OTel: the same). */
const char *opt__getenv(char **env, const char *name);

#endif
