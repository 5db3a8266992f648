// SPDX-License-Identifier: Apache-2.0
/*
 * The configuration file: a YAML mapping from option names to values. Nested mappings are sections whose name is
 * put in front ("exclude: {path: /health}" is exclude-path); a sequence is a list. Every mistake is reported with its
 * line and column and reading goes on, except behind a syntax error.
 */
#include "user/base/opts_table.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>
#include <yaml.h>


#define FILE_MAX (1024u * 1024)
#define VALUE_MAX (64u * 1024)
#define DEPTH_MAX 8
#define PATH_LEN 256

struct reader {
	struct opt_ctx *c;
	const char *file;
	yaml_parser_t parser;
	char path[PATH_LEN]; /* "section.key" of what is being read */
	uint32_t seen[OPTS_MAX]; /* line where an option was set, 0: not yet */
	bool broken;	     /* a syntax error, reported */
};

/* "config.yaml:14:7: ring-size" */
static void format_where(const struct reader *y, const yaml_mark_t *mark, const char *key, char *buf, size_t size)
{
	snprintf(buf, size, "%s:%zu:%zu%s%s", y->file, mark->line + 1, mark->column + 1, key && *key ? ": " : "",
		 key ? key : "");
}

static bool next_event(struct reader *y, yaml_event_t *ev)
{
	char where[2 * PATH_LEN];

	if (y->broken)
		return false;
	if (yaml_parser_parse(&y->parser, ev))
		return true;
	y->broken = true;
	if (y->parser.error == YAML_MEMORY_ERROR) {
		opt__mistake(y->c, y->file, "out of memory");
	} else if (y->parser.error == YAML_READER_ERROR) {
		opt__mistake(y->c, y->file, "byte %zu: %s", y->parser.problem_offset, y->parser.problem);
	} else {
		format_where(y, &y->parser.problem_mark, NULL, where, sizeof(where));
		opt__mistake(y->c, where, "%s%s%s", y->parser.problem, y->parser.context ? " " : "",
			     y->parser.context ? y->parser.context : "");
	}
	return false;
}

static void report(struct reader *y, const yaml_mark_t *mark, const char *text)
{
	char where[2 * PATH_LEN];

	format_where(y, mark, y->path, where, sizeof(where));
	opt__mistake(y->c, where, "%s", text);
}

/* Skips what belongs to a sequence or mapping whose start was just read. */
static void skip_collection(struct reader *y)
{
	int depth = 1;

	while (depth > 0) {
		yaml_event_t ev;

		if (!next_event(y, &ev))
			return;
		if (ev.type == YAML_SEQUENCE_START_EVENT || ev.type == YAML_MAPPING_START_EVENT)
			depth++;
		else if (ev.type == YAML_SEQUENCE_END_EVENT || ev.type == YAML_MAPPING_END_EVENT)
			depth--;
		yaml_event_delete(&ev);
	}
}

static bool is_null(const yaml_event_t *ev)
{
	const char *text = (const char *)ev->data.scalar.value;

	return ev->data.scalar.style == YAML_PLAIN_SCALAR_STYLE &&
	       (!*text || strcmp(text, "~") == 0 || strcasecmp(text, "null") == 0);
}

static const struct opt_row *find_row(struct reader *y, const yaml_mark_t *mark)
{
	const struct opt_row *r = opt__find(y->path, strlen(y->path));
	const char *near;
	char where[2 * PATH_LEN];
	size_t i;

	format_where(y, mark, y->path, where, sizeof(where));
	if (!r) {
		near = opt__nearest(y->path, false);
		opt__mistake(y->c, where, "unknown option%s%s%s", near ? ", did you mean " : "", near ? near : "",
			     near ? "?" : "");
		return NULL;
	}
	if (r->flags & OPT_NO_FILE) {
		opt__mistake(y->c, where, "has no meaning inside a file");
		return NULL;
	}
	i = opt__index(r);
	if (y->seen[i]) {
		opt__mistake(y->c, where, "is already set in line %u", y->seen[i]);
		return NULL;
	}
	y->seen[i] = (uint32_t)mark->line + 1;
	return r;
}

static bool has_nul(const yaml_event_t *ev)
{
	return strlen((const char *)ev->data.scalar.value) != ev->data.scalar.length;
}

/* `line` is where the whole value starts, `mark` what a message is about. */
static void set_value(struct reader *y, const struct opt_row *r, size_t line, const yaml_mark_t *mark, const char *text,
		      bool append)
{
	char where[2 * PATH_LEN];
	struct opt_from from = { .origin = ORIGIN_FILE, .line = (uint32_t)line + 1, .where = where, .append = append };

	format_where(y, mark, y->path, where, sizeof(where));
	opt_value__set(y->c, r, text, &from);
}

/* Each item by itself, so that what is wrong has its place. */
static void set_item(struct reader *y, const struct opt_row *r, const yaml_mark_t *start, const yaml_event_t *ev,
		     size_t before)
{
	if (has_nul(ev))
		report(y, &ev->start_mark, "has a NUL byte in it");
	else if (!ev->data.scalar.length)
		report(y, &ev->start_mark, "an item of the list is empty");
	else
		set_value(y, r, start->line, &ev->start_mark, (char *)ev->data.scalar.value, before > 0);
}

static void read_sequence(struct reader *y, const struct opt_row *r, const yaml_mark_t *start)
{
	size_t bytes = 0, before;

	if (r && r->type != OPT_LIST) {
		report(y, start, "takes one value, not a list");
		r = NULL;
	}
	for (;;) {
		yaml_event_t ev;

		if (!next_event(y, &ev))
			return;
		if (ev.type == YAML_SEQUENCE_END_EVENT) {
			yaml_event_delete(&ev);
			if (r && !bytes) /* an empty one unsets what a weaker place has set */
				set_value(y, r, start->line, start, "", false);
			return;
		}
		if (ev.type == YAML_SCALAR_EVENT) {
			before = bytes;
			bytes += ev.data.scalar.length + 1;
			if (r && bytes > VALUE_MAX) {
				report(y, start, "the list is too long");
				r = NULL;
			}
			if (r)
				set_item(y, r, start, &ev, before);
		} else {
			report(y, &ev.start_mark, "an item of the list must be a plain value");
			r = NULL;
			if (ev.type != YAML_ALIAS_EVENT)
				skip_collection(y);
		}
		yaml_event_delete(&ev);
	}
}

static void read_mapping(struct reader *y, int depth);

static void read_value(struct reader *y, const yaml_mark_t *key_mark, int depth)
{
	const struct opt_row *r;
	yaml_event_t ev;

	if (!next_event(y, &ev))
		return;
	switch (ev.type) {
	case YAML_SCALAR_EVENT:
		r = find_row(y, key_mark);
		if (r && has_nul(&ev))
			report(y, &ev.start_mark, "has a NUL byte in it");
		else if (r && !is_null(&ev))
			set_value(y, r, ev.start_mark.line, &ev.start_mark, (char *)ev.data.scalar.value, false);
		break;
	case YAML_SEQUENCE_START_EVENT:
		read_sequence(y, find_row(y, key_mark), &ev.start_mark);
		break;
	case YAML_MAPPING_START_EVENT:
		if (depth + 1 >= DEPTH_MAX) {
			report(y, &ev.start_mark, "nested too deeply");
			skip_collection(y);
		} else {
			read_mapping(y, depth + 1);
		}
		break;
	default:
		report(y, &ev.start_mark, "anchors and aliases are not supported");
		break;
	}
	yaml_event_delete(&ev);
}

/* The keys of a mapping whose start was just read. Recursion is bounded by DEPTH_MAX. */
static void read_mapping(struct reader *y, int depth)
{
	size_t base = strlen(y->path);

	for (;;) {
		yaml_event_t ev;

		if (!next_event(y, &ev))
			return;
		if (ev.type == YAML_MAPPING_END_EVENT) {
			yaml_event_delete(&ev);
			return;
		}
		if (ev.type == YAML_SCALAR_EVENT) {
			snprintf(y->path + base, sizeof(y->path) - base, "%s%s", base ? "." : "",
				 (char *)ev.data.scalar.value);
			read_value(y, &ev.start_mark, depth);
		} else {
			report(y, &ev.start_mark, "a key must be a plain word");
			if (ev.type != YAML_ALIAS_EVENT)
				skip_collection(y);
			y->broken = true; /* its value cannot be told from the next key's */
		}
		y->path[base] = 0;
		yaml_event_delete(&ev);
	}
}

static void read_documents(struct reader *y)
{
	int documents = 0;

	for (;;) {
		yaml_event_t ev;
		bool end;

		if (!next_event(y, &ev))
			return;
		end = ev.type == YAML_STREAM_END_EVENT;
		if (ev.type == YAML_DOCUMENT_START_EVENT && documents++ == 1) {
			report(y, &ev.start_mark, "a second document: one is read");
			end = true;
		} else if (ev.type == YAML_MAPPING_START_EVENT) {
			read_mapping(y, 0);
		} else if (ev.type == YAML_SEQUENCE_START_EVENT || ev.type == YAML_ALIAS_EVENT ||
			   (ev.type == YAML_SCALAR_EVENT && !is_null(&ev))) {
			report(y, &ev.start_mark, "not a mapping of option names to values, such as 'capture: 4096'");
			end = true;
		}
		yaml_event_delete(&ev);
		if (end)
			return;
	}
}

void opt_yaml__apply(struct opt_ctx *c, const char *path)
{
	struct reader y = { .c = c, .file = path };
	struct stat st = { 0 };
	FILE *f;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK | O_NOCTTY); /* a FIFO is not waited for */
	f = fd < 0 ? NULL : fdopen(fd, "r");
	if (!f) {
		opt__mistake(c, path, "cannot open configuration file: %s", strerror(errno));
		if (fd >= 0)
			close(fd);
		return;
	}
	/* Not a device that never ends, nor what was named by mistake. */
	if (fstat(fd, &st) || !S_ISREG(st.st_mode) || st.st_size > FILE_MAX) {
		opt__mistake(c, path, "not a configuration file: %s",
			     S_ISDIR(st.st_mode)  ? "is a directory" :
			     !S_ISREG(st.st_mode) ? "is not a regular file" :
						    "larger than 1 MiB");
	} else if (!yaml_parser_initialize(&y.parser)) {
		opt__mistake(c, path, "out of memory");
	} else {
		yaml_parser_set_input_file(&y.parser, f);
		read_documents(&y);
		yaml_parser_delete(&y.parser);
	}
	fclose(f);
}
