/* SPDX-License-Identifier: Apache-2.0 */
#ifndef WS_ENRICH_CONTAINER_H
#define WS_ENRICH_CONTAINER_H

#include "user/model/str.h"

#define CONTAINER_ID_MAX 64

/* Container id in the text of /proc/PID/cgroup (v1, v2 or both); borrowed from it, empty if there is none. */
struct str container__id_of_cgroup(struct str text);
/* The same from /proc/PID/mountinfo, for a process whose cgroup namespace hides where it is. */
struct str container__id_of_mountinfo(struct str text);

#endif
