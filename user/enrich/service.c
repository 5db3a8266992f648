// SPDX-License-Identifier: Apache-2.0
#include "user/enrich/service.h"

#include <ctype.h>
#include <stdio.h>

#define PATH_ROOM 2048

/* Names that tell nothing about what a program is for. */
static const char *const generic[] = {
	"app",	    "main",    "server",      "index",	    "wsgi",	 "asgi", "manage",  "run",    "__main__",
	"__init__", "start",   "application", "api_server", "entry",	 "web",	 "serve",   "celery", "celeryapp",
	"artisan",  "program", "worker",      "cli",	    "bootstrap", "init", "startup", "a.out",  NULL,
};

/* Directories between a project and its code. */
static const char *const generic_dirs[] = {
	"src",		 "bin",	   "sbin",	   "dist",  "build",   "lib",	  "lib64",   "code",	"current",
	"out",		 "target", "libs",	   "debug", "release", "cmd",	  "public",  "scripts", "site-packages",
	"dist-packages", ".bin",   "node_modules", "www",   "html",    "classes", "publish", "net",	NULL,
};

/* Where a walk up the tree has left the project. */
static const char *const tops[] = {
	"srv", "opt", "usr", "home", "var", "root", "tmp", "workspace", "local", "share", "mnt", "etc", "proc", NULL,
};

bool str__starts(struct str s, const char *prefix)
{
	size_t n = strlen(prefix);

	return s.len >= n && memcmp(s.p, prefix, n) == 0;
}

bool str__in(struct str s, const char *const *list)
{
	for (; *list; list++) {
		if (str__ieq(s, str__of(*list)))
			return true;
	}
	return false;
}

struct str path__base(struct str path)
{
	const char *slash = path.len ? memrchr(path.p, '/', path.len) : NULL;

	return slash ? (struct str){ slash + 1, path.len - (size_t)(slash + 1 - path.p) } : path;
}

static struct str dir_of(struct str path)
{
	const char *slash = path.len ? memrchr(path.p, '/', path.len) : NULL;

	return slash ? (struct str){ path.p, (size_t)(slash - path.p) } : STR_NULL;
}

static struct str cut_ext(struct str name)
{
	static const char *const exts[] = { ".py",  ".pyc", ".js",  ".mjs", ".cjs",  ".ts", ".mts",
					    ".jsx", ".tsx", ".rb",  ".ru",  ".php",  ".pl", ".sh",
					    ".dll", ".jar", ".war", ".exe", ".phar", NULL };
	const char *dot = name.len > 1 ? memrchr(name.p, '.', name.len) : NULL;

	if (dot && dot > name.p && str__in((struct str){ dot, name.len - (size_t)(dot - name.p) }, exts))
		name.len = (size_t)(dot - name.p);
	return name;
}

static bool all_digits(struct str s)
{
	for (size_t i = 0; i < s.len; i++) {
		if (!isdigit((unsigned char)s.p[i]))
			return false;
	}
	return s.len > 0;
}

void service__set_name(struct service_args *a, struct str name)
{
	size_t n = 0;

	for (size_t i = 0; i < name.len && n + 1 < sizeof(a->out->name); i++) {
		unsigned char c = (unsigned char)name.p[i];

		a->out->name[n++] = c < 0x20 || c == 0x7f ? '?' : (char)c;
	}
	a->out->name[n] = '\0';
}

static bool says_nothing(struct str name)
{
	return !name.len || all_digits(name) || str__in(name, generic);
}

/* The nearest directory, from `dir` upwards, whose name says something; empty if none does. */
static struct str telling_dir(struct str dir)
{
	struct str first = STR_NULL, base;

	for (; dir.len; dir = dir_of(dir)) {
		base = path__base(dir);
		if (!base.len)
			continue; /* a slash at the end */
		if (str__in(base, tops))
			break;
		if (!says_nothing(base) && !str__in(base, generic_dirs))
			return base;
		if (!first.len)
			first = base;
	}
	/* "/app/main.py" in a container: the directory's own name is all there is. */
	return first;
}

/* dir/path without "." and "..", into buf. */
static struct str normal_path(struct str dir, struct str path, char *buf, size_t size)
{
	struct str parts[2] = { path.len && path.p[0] == '/' ? STR_NULL : dir, path };
	size_t n = 0;

	for (int k = 0; k < 2; k++) {
		struct str rest = parts[k];

		while (rest.len) {
			const char *slash = memchr(rest.p, '/', rest.len);
			struct str c = { rest.p, slash ? (size_t)(slash - rest.p) : rest.len };

			rest.p += c.len + (slash != NULL);
			rest.len -= c.len + (slash != NULL);
			if (!c.len || str__eq(c, STR(".")))
				continue;
			if (str__eq(c, STR(".."))) {
				while (n && buf[--n] != '/')
					;
				continue;
			}
			if (n + 1 + c.len >= size)
				return STR_NULL;
			buf[n++] = '/';
			memcpy(buf + n, c.p, c.len);
			n += c.len;
		}
	}
	return (struct str){ buf, n };
}

void service__name_dir(struct service_args *a, struct str dir)
{
	char buf[PATH_ROOM];

	service__set_name(a, telling_dir(normal_path(a->in->cwd, dir, buf, sizeof(buf))));
}

/* Programs of a package manager's tree are named by the project that has them, tools of the system by the package. */
static bool name_node_module(struct service_args *a, struct str path)
{
	static const char mark[] = "/node_modules/";
	const char *at = memmem(path.p, path.len, mark, sizeof(mark) - 1);
	struct str project, package;

	if (!at)
		return false;
	project = (struct str){ path.p, (size_t)(at - path.p) };
	package = (struct str){ at + sizeof(mark) - 1, path.len - (size_t)(at + sizeof(mark) - 1 - path.p) };
	if (str__starts(package, ".bin/"))
		package = path__base(package);
	else if (memchr(package.p, '/', package.len))
		package.len = (size_t)((const char *)memchr(package.p, '/', package.len) - package.p);
	if (!str__eq(path__base(project), STR("lib")) && telling_dir(project).len)
		package = telling_dir(project);
	service__set_name(a, package);
	return true;
}

void service__name_path(struct service_args *a, struct str path, struct str dir)
{
	char buf[PATH_ROOM], base_buf[PATH_ROOM];
	struct str full, stem, up;

	if (dir.len)
		dir = normal_path(a->in->cwd, dir, base_buf, sizeof(base_buf));
	full = normal_path(dir.len ? dir : a->in->cwd, path, buf, sizeof(buf));
	if (!full.len || name_node_module(a, full))
		return;
	stem = cut_ext(path__base(full));
	if (says_nothing(stem) || str__in(stem, generic_dirs)) {
		up = telling_dir(dir_of(full));
		if (up.len)
			stem = up;
	}
	service__set_name(a, stem);
}

void service__name_module(struct service_args *a, struct str module, struct str dir)
{
	char buf[PATH_ROOM];
	const char *end = module.len ? memchr(module.p, ':', module.len) : NULL;
	struct str whole, part, up;

	if (end)
		module.len = (size_t)(end - module.p);
	end = module.len ? memchr(module.p, '(', module.len) : NULL;
	if (end)
		module.len = (size_t)(end - module.p);
	for (whole = module; whole.len;) {
		const char *dot = memrchr(whole.p, '.', whole.len);

		part = dot ? (struct str){ dot + 1, whole.len - (size_t)(dot + 1 - whole.p) } : whole;
		whole.len = dot ? (size_t)(dot - whole.p) : 0;
		if (!says_nothing(part)) {
			service__set_name(a, part);
			return;
		}
	}
	up = telling_dir(normal_path(a->in->cwd, dir, buf, sizeof(buf)));
	service__set_name(a, up.len ? up : module);
}

struct str service__option(const struct service_args *a, size_t from, const char *name)
{
	size_t len = strlen(name);
	bool is_short = name[1] != '-';

	for (size_t i = from; i < a->n; i++) {
		struct str w = a->w[i];

		if (!str__starts(w, name))
			continue;
		if (w.len == len)
			return i + 1 < a->n ? a->w[i + 1] : STR_NULL;
		if (w.p[len] == '=')
			return (struct str){ w.p + len + 1, w.len - len - 1 };
		if (is_short)
			return (struct str){ w.p + len, w.len - len };
	}
	return STR_NULL;
}

/* ---- which program is it ---------------------------------------------------------------------- */

static const struct interpreter {
	const char *exe; /* basename without a version: python3.11 is "python" */
	const char *family, *language, *runtime;
	void (*name)(struct service_args *a);
} interpreters[] = {
	{ "python", "python", "python", "cpython", service__python },
	{ "pypy", "python", "python", "pypy", service__python },
	{ "node", "node", "nodejs", "nodejs", service__node },
	{ "nodejs", "node", "nodejs", "nodejs", service__node },
	{ "bun", "bun", "nodejs", "bun", service__node },
	{ "deno", "deno", "nodejs", "deno", service__node },
	{ "java", "java", "java", NULL, service__java },
	{ "ruby", "ruby", "ruby", "ruby", service__ruby },
	{ "php", "php", "php", "php", service__php },
	{ "dotnet", "dotnet", "dotnet", "dotnet", service__dotnet },
	{ "perl", "perl", NULL, "perl", service__script },
	{ "beam.smp", "beam", "erlang", "beam", service__beam },
	{ "uwsgi", "uwsgi", NULL, NULL, service__uwsgi },
	{ "uwsgi-core", "uwsgi", NULL, NULL, service__uwsgi },
	{ "sh", "sh", NULL, NULL, service__script },
	{ "bash", "bash", NULL, NULL, service__script },
	{ "dash", "dash", NULL, NULL, service__script },
	{ "ash", "ash", NULL, NULL, service__script },
	{ "zsh", "zsh", NULL, NULL, service__script },
	{ "ksh", "ksh", NULL, NULL, service__script },
};

static const struct interpreter *find_interpreter(struct str base)
{
	for (size_t i = 0; i < sizeof(interpreters) / sizeof(*interpreters); i++) {
		size_t at = strlen(interpreters[i].exe);

		if (!str__starts(base, interpreters[i].exe))
			continue;
		while (at < base.len && (isdigit((unsigned char)base.p[at]) || base.p[at] == '.'))
			at++;
		/* python3.13t (free-threaded), python3-dbg, python3.7m */
		if (at == base.len ||
		    (at + 1 == base.len && strchr("mtd", base.p[at]) && at > strlen(interpreters[i].exe)) ||
		    str__eq((struct str){ base.p + at, base.len - at }, STR("-dbg")))
			return &interpreters[i];
	}
	return NULL;
}

/* A program that answers to many names, or an image that another program loads: argv[0] says which. */
static bool is_multicall(struct str base)
{
	static const char *const names[] = { "busybox", "toybox", "coreutils", NULL };

	return str__in(base, names) || str__starts(base, "ld-linux") || str__starts(base, "ld-musl") ||
	       str__starts(base, "qemu-");
}

static void split_words(struct service_args *a, struct str text, char sep)
{
	a->n = 0;
	while (text.len && a->n < SERVICE_WORDS) {
		const char *end = memchr(text.p, sep, text.len);
		struct str w = { text.p, end ? (size_t)(end - text.p) : text.len };

		text.p += w.len + (end != NULL);
		text.len -= w.len + (end != NULL);
		if (w.len || sep == '\0')
			a->w[a->n++] = w;
	}
}

/* "nginx: worker process", "-bash": what a program calls itself when its executable cannot be read. */
static struct str own_name(const struct service_args *a)
{
	struct str s = a->n ? path__base(a->w[0]) : STR_NULL;
	const char *end;

	if (a->n && a->w[0].len && (end = memchr(a->w[0].p, ':', a->w[0].len)) != NULL)
		s = path__base((struct str){ a->w[0].p, (size_t)(end - a->w[0].p) });
	while (s.len && (*s.p == '-' || *s.p == '[')) {
		s.p++;
		s.len--;
	}
	end = s.len ? memchr(s.p, ' ', s.len) : NULL;
	if (end)
		s.len = (size_t)(end - s.p);
	return s;
}

/* A compiled program: its executable's name, or its directory's. `go run` builds into a directory of its own. */
static void name_native(struct service_args *a, struct str exe, struct str base)
{
	struct str stem = cut_ext(base);

	if (exe.len > 9 && memmem(exe.p, exe.len, "/go-build", 9)) {
		if (says_nothing(stem))
			service__name_dir(a, STR_NULL);
		else
			service__set_name(a, stem);
	} else if (says_nothing(stem) && exe.len) {
		struct str up = telling_dir(dir_of(exe));

		service__set_name(a, up.len ? up : stem);
	} else {
		service__set_name(a, stem);
	}
}

void service__guess(const struct service_input *in, struct service_guess *ret)
{
	struct service_args a = { .in = in, .out = ret };
	struct str base = path__base(in->exe);
	const struct interpreter *interp;

	*ret = (struct service_guess){ 0 };
	split_words(&a, in->args, '\0');
	if (!base.len || is_multicall(base))
		base = own_name(&a);
	if (!base.len)
		base = in->comm;
	interp = find_interpreter(base);
	snprintf(ret->family, sizeof(ret->family), "%.*s", (int)base.len, base.len ? base.p : "");
	if (!interp) {
		name_native(&a, in->exe, base);
		return;
	}
	snprintf(ret->family, sizeof(ret->family), "%s", interp->family);
	ret->language = interp->language;
	ret->runtime = interp->runtime;
	if (a.n == 1 && memchr(a.w[0].p ? a.w[0].p : "", ' ', a.w[0].len)) {
		split_words(&a, in->args, ' ');
		a.title = true;
	}
	interp->name(&a);
	if (!ret->name[0] && !ret->itself)
		ret->worker = true;
}
