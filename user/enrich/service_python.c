// SPDX-License-Identifier: Apache-2.0
/* Python programs, and the application servers and command lines that run them. */
#include <ctype.h>

#include "user/enrich/service.h"

enum launcher_kind {
	LAUNCH_NONE,
	LAUNCH_APP,    /* uvicorn [options] pkg.mod:attr */
	LAUNCH_FLASK,  /* flask --app SPEC run, or $FLASK_APP */
	LAUNCH_CELERY, /* celery -A SPEC worker */
	LAUNCH_RUN,    /* streamlit run script.py */
	LAUNCH_CWD,    /* django-admin runserver */
};

static const struct {
	const char *name;
	enum launcher_kind kind;
} launchers[] = {
	{ "uvicorn", LAUNCH_APP },   { "gunicorn", LAUNCH_APP },       { "hypercorn", LAUNCH_APP },
	{ "daphne", LAUNCH_APP },    { "waitress-serve", LAUNCH_APP }, { "waitress", LAUNCH_APP },
	{ "granian", LAUNCH_APP },   { "flask", LAUNCH_FLASK },	       { "celery", LAUNCH_CELERY },
	{ "fastapi", LAUNCH_RUN },   { "streamlit", LAUNCH_RUN },      { "coverage", LAUNCH_RUN },
	{ "sanic", LAUNCH_APP },     { "django-admin", LAUNCH_CWD },   { "ddtrace-run", LAUNCH_RUN },
	{ "watchmedo", LAUNCH_CWD }, { "twistd", LAUNCH_CWD },	       { "pserve", LAUNCH_CWD },
};

static const char *const supervisors[] = { "supervisord", "circusd",	 "honcho",	     "ansible-playbook",
					   "salt-minion", "jupyter-lab", "jupyter-notebook", NULL };

/* Options of the application servers that take no value. An unknown one is taken to have one. */
static const char *const flags[] = {
	"--reload",
	"--factory",
	"--preload",
	"--daemon",
	"-D",
	"-R",
	"--reuse-port",
	"--capture-output",
	"--spew",
	"--check-config",
	"--print-config",
	"--proxy-protocol",
	"--use-colors",
	"--access-log",
	"--proxy-headers",
	"--server-header",
	"--date-header",
	"--call",
	"--debug",
	"--dev",
	"--fast",
	"--log-syslog",
	"--initgroups",
	"--enable-stdio-inheritance",
	"--strip-header-spaces",
	"--expose-tracebacks",
	"--ws",
	NULL,
};

static enum launcher_kind find_launcher(struct str word)
{
	struct str base = path__base(word);

	/* Debian's gunicorn3, flask3 */
	while (base.len && isdigit((unsigned char)base.p[base.len - 1]))
		base.len--;
	for (size_t i = 0; i < sizeof(launchers) / sizeof(*launchers); i++) {
		if (str__eq(base, str__of(launchers[i].name)))
			return launchers[i].kind;
	}
	return LAUNCH_NONE;
}

/* "pkg.mod", "pkg.mod:attr", "mod:factory('x')". */
static bool is_app_spec(struct str w, bool need_attr)
{
	size_t i = 0;

	if (!w.len || !(isalpha((unsigned char)w.p[0]) || w.p[0] == '_'))
		return false;
	while (i < w.len && (isalnum((unsigned char)w.p[i]) || w.p[i] == '_' || w.p[i] == '.' || w.p[i] == '-'))
		i++;
	if (i == w.len)
		return !need_attr;
	/* host:port is no application */
	return w.p[i] == ':' && i + 1 < w.len && (isalpha((unsigned char)w.p[i + 1]) || w.p[i + 1] == '_');
}

static bool takes_value(struct str option)
{
	if (str__starts(option, "--"))
		return !memchr(option.p, '=', option.len) && !str__starts(option, "--no-") && !str__in(option, flags);
	/* "-w4" has its value with it; -D and -R have none (and are not -d and -r: compared with case) */
	return option.len == 2 && option.p[1] != 'D' && option.p[1] != 'R';
}

static struct str find_app(const struct service_args *a, size_t from)
{
	for (size_t i = from; i < a->n; i++) {
		if (a->w[i].len > 1 && a->w[i].p[0] == '-')
			i += takes_value(a->w[i]);
		else if (is_app_spec(a->w[i], false))
			return a->w[i];
	}
	/* An option that we took for one with a value may have hidden it. */
	for (size_t i = from; i < a->n; i++) {
		if (is_app_spec(a->w[i], true))
			return a->w[i];
	}
	return STR_NULL;
}

/* SPEC of flask and celery: a module, or a path to one. */
static void name_spec(struct service_args *a, struct str spec, struct str dir)
{
	const char *colon = spec.len ? memchr(spec.p, ':', spec.len) : NULL;
	struct str file = { spec.p, colon ? (size_t)(colon - spec.p) : spec.len };

	if (file.len &&
	    (memchr(file.p, '/', file.len) || (file.len > 3 && memcmp(file.p + file.len - 3, ".py", 3) == 0)))
		service__name_path(a, file, dir);
	else
		service__name_module(a, spec, dir);
}

static struct str first_option(const struct service_args *a, size_t from, const char *const *names)
{
	struct str v = STR_NULL;

	for (; *names && !v.len; names++)
		v = service__option(a, from, *names);
	return v;
}

static struct str first_script(const struct service_args *a, size_t from)
{
	for (size_t i = from; i < a->n; i++) {
		if (a->w[i].len > 3 && memcmp(a->w[i].p + a->w[i].len - 3, ".py", 3) == 0)
			return a->w[i];
	}
	return STR_NULL;
}

static void name_launched(struct service_args *a, enum launcher_kind kind, size_t from)
{
	static const char *const dir_options[] = { "--chdir", "--app-dir", "--pythonpath", "--workdir", NULL };
	static const char *const app_options[] = { "--app", "-A", NULL };
	struct str dir = first_option(a, from, dir_options), spec;

	switch (kind) {
	case LAUNCH_APP:
		spec = find_app(a, from);
		service__name_module(a, spec, dir);
		break;
	case LAUNCH_FLASK:
	case LAUNCH_CELERY:
		spec = first_option(a, from, app_options);
		if (!spec.len && kind == LAUNCH_FLASK)
			spec = a->in->flask_app;
		name_spec(a, spec, dir);
		break;
	case LAUNCH_RUN:
		spec = first_script(a, from);
		if (spec.len)
			service__name_path(a, spec, dir);
		else
			service__name_dir(a, dir);
		break;
	default:
		service__name_dir(a, dir);
	}
}

/*
 * Titles written by setproctitle: "gunicorn: worker [shop.wsgi]", "[celeryd: celery@host:MainProcess] -active-
 * (-A shop worker)". The process that has such a title is as good as named by its master.
 */
static void name_title(struct service_args *a)
{
	struct str first = a->w[0], last = a->w[a->n - 1], app;

	a->out->worker = true;
	if (str__starts(first, "gunicorn")) {
		if (last.len > 2 && last.p[0] == '[' && last.p[last.len - 1] == ']') {
			app = (struct str){ last.p + 1, last.len - 2 };
			/* gunicorn calls itself by its own name if the application comes from its configuration file */
			service__name_module(a, str__eq(app, STR("gunicorn")) ? STR_NULL : app, STR_NULL);
			a->out->worker = false;
		}
		return;
	}
	if (str__starts(first, "[celery")) {
		for (size_t i = 0; i + 1 < a->n; i++) {
			if (!str__eq(a->w[i], STR("(-A")) && !str__eq(a->w[i], STR("-A")))
				continue;
			app = a->w[i + 1];
			if (app.len && app.p[app.len - 1] == ')')
				app.len--;
			name_spec(a, app, STR_NULL);
			a->out->worker = false;
		}
		return;
	}
	while (first.len && (first.p[0] == '[' || first.p[0] == '(')) {
		first.p++;
		first.len--;
	}
	while (first.len && strchr(":])", first.p[first.len - 1]))
		first.len--;
	service__set_name(a, path__base(first));
}

static void name_script_or_module(struct service_args *a, struct str what, size_t from, bool module)
{
	enum launcher_kind kind = find_launcher(what);

	if (kind != LAUNCH_NONE)
		name_launched(a, kind, from);
	else if (!module)
		service__name_path(a, what, STR_NULL);
	else if (str__starts(what, "joblib.externals.loky") || str__starts(what, "multiprocessing"))
		a->out->worker = true;
	else
		service__name_module(a, what, STR_NULL);
	if (str__in(path__base(what), supervisors))
		a->out->supervisor = true;
}

/* The interpreter's own options (python(1)): -c, -m, -W, -X and --check-hash-based-pycs take a value. */
static void name_command_line(struct service_args *a, size_t i)
{
	for (; i < a->n; i++) {
		struct str w = a->w[i];

		if (!w.len || w.p[0] != '-') {
			if (w.len)
				name_script_or_module(a, w, i + 1, false);
			return;
		}
		if (w.len == 1)
			return; /* the program comes from standard input */
		if (str__starts(w, "--")) {
			i += str__eq(w, STR("--check-hash-based-pycs"));
			continue;
		}
		for (size_t k = 1; k < w.len; k++) {
			struct str rest = { w.p + k + 1, w.len - k - 1 };
			bool inline_value = rest.len > 0;

			if (!strchr("cmWX", w.p[k]))
				continue;
			if (!inline_value)
				rest = i + 1 < a->n ? a->w[i + 1] : STR_NULL;
			/* Code has no name of its own; helpers of multiprocessing belong to whoever started them. */
			if (w.p[k] == 'c') {
				a->out->itself = !rest.len || (!memmem(rest.p, rest.len, "multiprocessing", 15) &&
							       !memmem(rest.p, rest.len, "loky", 4));
				return;
			}
			if (w.p[k] == 'm') {
				name_script_or_module(a, rest, i + 1 + !inline_value, true);
				return;
			}
			i += !inline_value;
			break;
		}
	}
}

static bool is_python(struct str base)
{
	return str__starts(base, "python") || str__starts(base, "pypy");
}

void service__python(struct service_args *a)
{
	struct str first = a->n ? a->w[0] : STR_NULL;
	struct str base = path__base(first);
	enum launcher_kind kind = find_launcher(first);

	if (!first.len)
		return;
	if (first.p[first.len - 1] == ':' || first.p[0] == '[')
		name_title(a);
	else if (kind != LAUNCH_NONE)
		name_launched(a, kind, 1);
	else if (a->title && !is_python(base))
		name_title(a);
	else if (a->n == 1 && !is_python(base) && !memchr(first.p, '/', first.len))
		name_title(a);
	else
		name_command_line(a, 1);
}

/* uwsgi runs Python (and others) inside its own program: --module pkg.wsgi, --wsgi-file app.py. */
void service__uwsgi(struct service_args *a)
{
	static const char *const modules[] = { "--module", "-w", "--wsgi", NULL };
	static const char *const files[] = { "--wsgi-file", "--file", NULL };
	static const char *const dirs[] = { "--chdir", NULL };
	struct str dir = first_option(a, 1, dirs), module = first_option(a, 1, modules),
		   file = first_option(a, 1, files);

	if (module.len)
		service__name_module(a, module, dir);
	else if (file.len)
		service__name_path(a, file, dir);
	else
		service__set_name(a, STR("uwsgi"));
	if (module.len || file.len)
		a->out->language = "python";
	a->out->worker = !module.len && !file.len;
}
