// SPDX-License-Identifier: Apache-2.0
/* Names of Node, Java, Ruby, PHP, .NET, Erlang, Perl and shell programs. */
#include <ctype.h>

#include "user/enrich/service.h"

static bool is_option(struct str w)
{
	return w.len > 1 && w.p[0] == '-';
}

static bool ends_with(struct str s, const char *tail)
{
	size_t n = strlen(tail);

	return s.len >= n && memcmp(s.p + s.len - n, tail, n) == 0;
}

/* Index of the first word from i that is neither an option nor the value of one of `with_value`; n if none. */
static size_t first_operand(const struct service_args *a, size_t i, const char *const *with_value)
{
	for (; i < a->n && (is_option(a->w[i]) || !a->w[i].len); i++) {
		if (str__eq(a->w[i], STR("--")))
			return i + 1;
		if (str__in(a->w[i], with_value))
			i++;
	}
	return i < a->n ? i : a->n;
}

/* ---- Node ------------------------------------------------------------------------------------- */

/* Run somebody's script, or one named in package.json: then the directory is the best name. */
static const char *const node_runners[] = { "nodemon", "ts-node", "ts-node-dev", "tsx", "babel-node", NULL };
static const char *const node_managers[] = { "npm",	"npx",	   "yarn", "pnpm",     "npm-cli",
					     "npx-cli", "yarnpkg", "pnpx", "corepack", "concurrently",
					     "lerna",	"turbo",   NULL };
static const char *const node_supervisors[] = { "pm2", "PM2", "forever", NULL };

static struct str node_tool(struct str word)
{
	struct str base = path__base(word);

	if (ends_with(base, ".js"))
		base.len -= 3;
	return base;
}

static void node_operand(struct service_args *a, size_t i)
{
	static const char *const none[] = { NULL };
	struct str tool;

	if (i >= a->n)
		return;
	tool = node_tool(a->w[i]);
	if (str__in(tool, node_managers)) {
		service__name_dir(a, STR_NULL);
		a->out->supervisor = true;
		return;
	}
	if (str__in(tool, node_runners)) {
		i = first_operand(a, i + 1, none);
		if (i >= a->n) {
			service__name_dir(a, STR_NULL);
			return;
		}
	}
	if (str__in(tool, node_supervisors))
		a->out->supervisor = true;
	service__name_path(a, a->w[i], STR_NULL);
}

void service__node(struct service_args *a)
{
	static const char *const with_value[] = {
		"-r",	      "--require", "--import",	   "--loader", "--experimental-loader",
		"--env-file", "-C",	   "--conditions", "--title",  NULL
	};
	static const char *const code[] = { "-e", "-p", "--eval", "--print", "-pe", NULL };
	static const char *const subcommands[] = { "run", "serve", "task", NULL };
	struct str first = a->n ? a->w[0] : STR_NULL, base = node_tool(first);
	size_t i;

	if (!first.len)
		return;
	if (str__in(base, node_managers) || str__in(base, node_runners)) { /* process.title = "npm start" */
		node_operand(a, 0);
		return;
	}
	if (a->title && !str__starts(base, "node") && !str__starts(base, "bun") && !str__starts(base, "deno")) {
		a->out->worker = true;
		a->out->supervisor = str__in(base, node_supervisors);
		service__set_name(a, base);
		return;
	}
	for (i = 1; i < a->n && is_option(a->w[i]); i++) {
		if (str__in(a->w[i], code))
			return;
	}
	i = first_operand(a, 1, with_value);
	if (i < a->n && str__in(a->w[i], subcommands) && !str__starts(base, "node"))
		i = first_operand(a, i + 1, with_value);
	node_operand(a, i);
}

/* ---- Java ------------------------------------------------------------------------------------- */

/* "orders-service-0.0.1-SNAPSHOT.jar" is orders-service: cut at the first '-' that a digit follows. */
static struct str cut_version(struct str name)
{
	for (size_t i = 1; i + 1 < name.len; i++) {
		if ((name.p[i] == '-' || name.p[i] == '_') && isdigit((unsigned char)name.p[i + 1]))
			return (struct str){ name.p, i };
	}
	return name;
}

static void name_jar(struct service_args *a, struct str jar)
{
	struct str base = path__base(jar), stem = base;

	if (ends_with(stem, ".jar") || ends_with(stem, ".war"))
		stem.len -= 4;
	stem = cut_version(stem);
	/* Without the version it may say nothing ("app-1.2.jar"), which name_path then finds out. */
	if (stem.len + 4 < base.len) {
		char buf[1024];
		size_t dir = jar.len - base.len;

		if (dir + stem.len < sizeof(buf)) {
			memcpy(buf, jar.p, dir + stem.len);
			service__name_path(a, (struct str){ buf, dir + stem.len }, STR_NULL);
			return;
		}
	}
	service__name_path(a, jar, STR_NULL);
}

static void name_class(struct service_args *a, struct str cls)
{
	static const struct {
		const char *cls, *name;
	} known[] = {
		{ "org.apache.catalina.startup.Bootstrap", "tomcat" },
		{ "kafka.Kafka", "kafka" },
		{ "org.elasticsearch.bootstrap.Elasticsearch", "elasticsearch" },
		{ "org.apache.zookeeper.server.quorum.QuorumPeerMain", "zookeeper" },
		{ "org.apache.cassandra.service.CassandraDaemon", "cassandra" },
	};
	const char *slash = memchr(cls.p, '/', cls.len);

	if (slash) /* -m module/class */
		cls = (struct str){ slash + 1, cls.len - (size_t)(slash + 1 - cls.p) };
	for (size_t i = 0; i < sizeof(known) / sizeof(*known); i++) {
		if (str__eq(cls, str__of(known[i].cls))) {
			service__set_name(a, str__of(known[i].name));
			return;
		}
	}
	/* Kotlin puts the functions of main.kt into MainKt */
	if (ends_with(cls, ".MainKt") || str__eq(cls, STR("MainKt")))
		cls.len -= 2;
	service__name_module(a, cls, STR_NULL);
}

void service__java(struct service_args *a)
{
	static const char *const with_value[] = {
		"-cp",
		"-classpath",
		"--class-path",
		"-p",
		"--module-path",
		"--upgrade-module-path",
		"--add-modules",
		"--add-opens",
		"--add-exports",
		"--add-reads",
		"--patch-module",
		"--limit-modules",
		"--source",
		NULL,
	};
	static const char *const names[] = { "-Dotel.service.name=", "-Dspring.application.name=",
					     "--spring.application.name=", NULL };

	for (size_t i = 1; i < a->n; i++) {
		for (const char *const *n = names; *n; n++) {
			if (str__starts(a->w[i], *n) && a->w[i].len > strlen(*n)) {
				service__set_name(a, (struct str){ a->w[i].p + strlen(*n), a->w[i].len - strlen(*n) });
				return;
			}
		}
	}
	for (size_t i = 1; i < a->n; i++) {
		if (str__in(a->w[i], with_value)) {
			i++;
		} else if (str__eq(a->w[i], STR("-jar"))) {
			if (i + 1 < a->n)
				name_jar(a, a->w[i + 1]);
			return;
		} else if (str__eq(a->w[i], STR("-m")) || str__eq(a->w[i], STR("--module"))) {
			if (i + 1 < a->n)
				name_class(a, a->w[i + 1]);
			return;
		} else if (a->w[i].len && !is_option(a->w[i]) && a->w[i].p[0] != '@') {
			name_class(a, a->w[i]);
			return;
		}
	}
}

/* ---- Ruby, PHP, .NET -------------------------------------------------------------------------- */

/* "puma 6.4 (tcp://0.0.0.0:3000) [shop]", "puma: cluster worker 0: 4711 [shop]", "sidekiq 7.1 shop [0 of 5 busy]" */
static bool ruby_title(struct service_args *a)
{
	struct str last = a->w[a->n - 1];

	if (str__starts(a->w[0], "sidekiq") && a->n > 2) {
		service__set_name(a, a->w[2]);
		return true;
	}
	if (str__starts(a->w[0], "puma") && last.len > 2 && last.p[0] == '[' && last.p[last.len - 1] == ']') {
		service__name_module(a, (struct str){ last.p + 1, last.len - 2 }, STR_NULL);
		return true;
	}
	return false;
}

void service__ruby(struct service_args *a)
{
	static const char *const with_value[] = { "-I", "-r", "-C", "-E", "-K", NULL };
	static const char *const servers[] = { "puma",	 "rails",     "rackup", "unicorn", "unicorn_rails",
					       "thin",	 "sidekiq",   "bundle", "rake",	   "spring",
					       "falcon", "passenger", "resque", NULL };
	size_t i;

	if (!a->n)
		return;
	if (a->title && ruby_title(a))
		return;
	i = str__starts(path__base(a->w[0]), "ruby") ? first_operand(a, 1, with_value) : 0;
	if (i >= a->n || !a->w[i].len)
		return;
	if (str__in(path__base(a->w[i]), servers) || str__starts(a->w[i], "puma:") || str__starts(a->w[i], "unicorn"))
		service__name_dir(a, STR_NULL);
	else
		service__name_path(a, a->w[i], STR_NULL);
}

void service__php(struct service_args *a)
{
	static const char *const with_value[] = { "-c", "-d", "-z", NULL };
	struct str root;
	size_t i;

	for (i = 1; i < a->n && is_option(a->w[i]); i++) {
		if (str__eq(a->w[i], STR("-S"))) { /* the built-in server: -t says what it serves */
			root = service__option(a, 1, "-t");
			service__name_dir(a, root);
			return;
		}
		if (str__eq(a->w[i], STR("-r")))
			return;
		if (str__eq(a->w[i], STR("-f")) && i + 1 < a->n) {
			service__name_path(a, a->w[i + 1], STR_NULL);
			return;
		}
		if (str__in(a->w[i], with_value))
			i++;
	}
	if (i < a->n)
		service__name_path(a, a->w[i], STR_NULL);
}

void service__dotnet(struct service_args *a)
{
	static const char *const with_value[] = { "--additionalprobingpath", "--depsfile",
						  "--runtimeconfig",	     "--fx-version",
						  "--roll-forward",	     NULL };
	size_t i = first_operand(a, 1, with_value);
	struct str project;

	if (i < a->n && str__eq(a->w[i], STR("exec")))
		i = first_operand(a, i + 1, with_value);
	if (i >= a->n)
		return;
	if (str__eq(a->w[i], STR("run")) || str__eq(a->w[i], STR("watch"))) {
		project = service__option(a, i, "--project");
		if (ends_with(project, ".csproj")) {
			project.len -= 7;
			service__set_name(a, path__base(project));
		} else {
			service__name_dir(a, project);
		}
		return;
	}
	service__name_path(a, a->w[i], STR_NULL);
}

/* ---- the rest --------------------------------------------------------------------------------- */

void service__script(struct service_args *a)
{
	static const char *const with_value[] = { "-o", "+o", "-O", "--rcfile", "--init-file", "-I", NULL };
	size_t i;

	for (i = 1; i < a->n && is_option(a->w[i]); i++) {
		/* -c 'code', -e 'code', -lc 'code' */
		if (!str__starts(a->w[i], "--") && (memchr(a->w[i].p, 'c', a->w[i].len) || str__starts(a->w[i], "-e")))
			break;
		if (str__in(a->w[i], with_value))
			i++;
	}
	if (i < a->n && !is_option(a->w[i]))
		service__name_path(a, a->w[i], STR_NULL);
	if (!a->out->name[0])
		service__set_name(a, str__of(a->out->family));
	a->out->supervisor = true; /* a shell's children are programs of their own */
}

/* The node's name: -sname shop, -name shop@host. */
void service__beam(struct service_args *a)
{
	static const char *const options[] = { "-sname", "-name", NULL };

	for (const char *const *o = options; *o; o++) {
		for (size_t i = 1; i + 1 < a->n; i++) {
			struct str v = a->w[i + 1];
			const char *at = v.len ? memchr(v.p, '@', v.len) : NULL;

			if (!str__eq(a->w[i], str__of(*o)))
				continue;
			if (at)
				v.len = (size_t)(at - v.p);
			service__set_name(a, v);
			return;
		}
	}
}
