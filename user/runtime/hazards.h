/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Libraries that run one request's work in another's context, so that contexts mislead in whatever process loads them.
 * Each is a row here and in tests/runtimes/test_hazards.py.
 */
#ifndef WS_RUNTIME_HAZARDS_H
#define WS_RUNTIME_HAZARDS_H

#include <stddef.h>

struct hazard {
	const char *package; /* directory of the package, among those of other packages; "": the module is beside them */
	const char *module;  /* extension module of it that is loaded with it */
	const char *init;    /* that module's function which the import runs */
	const char *why;
};

extern const struct hazard hazards[];
extern const size_t n_hazards;

#endif
