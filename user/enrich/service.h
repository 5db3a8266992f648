/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What would a person call this process? A guess from its executable, arguments and working directory alone: no file is
 * opened, so that it serves both a live process and one of which only the exec event is left.
 *
 * A program that is no interpreter is named after its executable, an interpreter after the script, module or archive
 * that it runs; application servers (uvicorn, gunicorn, …) after the application. The last part of a dotted module
 * counts: shop.orders is "orders". Names that say nothing (app, main, server, index, wsgi, …) give way to the package,
 * the script's directory or the working directory, whichever comes first and says something.
 */
#ifndef WS_ENRICH_SERVICE_H
#define WS_ENRICH_SERVICE_H

#include "user/model/str.h"

#define SERVICE_NAME_MAX 128

struct service_input {
	struct str exe, cwd;  /* absolute paths, or empty */
	struct str comm;
	struct str args;      /* NUL between arguments; maybe rewritten by the process */
	struct str flask_app; /* $FLASK_APP */
};

struct service_guess {
	char name[SERVICE_NAME_MAX]; /* NUL-terminated; "" if nothing was found */
	char family[32];	     /* a master and its workers have the same: "python", "node", "nginx" */
	bool worker;		     /* if the parent is of the same family, the name is the parent's */
	bool itself;		     /* has no name, but is no worker either */
	bool supervisor;	     /* starts unrelated programs: no child takes its name */
	const char *language;	     /* telemetry.sdk.language where evident, else NULL */
	const char *runtime;	     /* process.runtime.name where evident, else NULL */
};

void service__guess(const struct service_input *in, struct service_guess *ret);

/* Last component of a path. */
struct str path__base(struct str path);

/* ---- between service.c and the files for single languages ---- */

#define SERVICE_WORDS 64

struct service_args {
	const struct service_input *in;
	struct service_guess *out;
	struct str w[SERVICE_WORDS];
	size_t n;
	bool title; /* the words were one argument with spaces: a rewritten title */
};

/* Names after a script: "/srv/shop/app.py" is "shop". Relative paths start at `dir`, or at the working directory. */
void service__name_path(struct service_args *a, struct str path, struct str dir);
/* Names after "pkg.mod:attr"; if it says nothing, after `dir`, or the working directory. */
void service__name_module(struct service_args *a, struct str module, struct str dir);
void service__name_dir(struct service_args *a, struct str dir);
void service__set_name(struct service_args *a, struct str name);
/* Value of "--name VALUE" or "--name=VALUE"; for "-x" also "-xVALUE". Searched from word `from`. */
struct str service__option(const struct service_args *a, size_t from, const char *name);
bool str__starts(struct str s, const char *prefix);
bool str__in(struct str s, const char *const *list); /* NULL-terminated list, ignoring case */

void service__python(struct service_args *a);
void service__node(struct service_args *a);
void service__java(struct service_args *a);
void service__ruby(struct service_args *a);
void service__php(struct service_args *a);
void service__dotnet(struct service_args *a);
void service__script(struct service_args *a); /* perl, shells: the first word that is no option */
void service__beam(struct service_args *a);
void service__uwsgi(struct service_args *a);

#endif
