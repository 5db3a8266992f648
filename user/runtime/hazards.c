// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/hazards.h"

const struct hazard hazards[] = {
	{"tornado", "speedups", "PyInit_speedups",
	 "Tornado's client starts requests that had to wait in the context of others"},
	{"pycurl", "_pycurl", "PyInit__pycurl",
	 "PycURL's transfers run in the context of whoever comes next"},
	{"", "pycurl", "PyInit_pycurl", /* before 7.46, and as distributions have it */
	 "PycURL's transfers run in the context of whoever comes next"},
};

const size_t n_hazards = sizeof(hazards) / sizeof(hazards[0]);
