// SPDX-License-Identifier: Apache-2.0
#include "user/runtime/hazards.h"

const struct hazard hazards[] = {
	{"tornado", "speedups", "PyInit_speedups",
	 "Tornado's client starts requests that had to wait in the context of others"},
};

const size_t n_hazards = sizeof(hazards) / sizeof(hazards[0]);
