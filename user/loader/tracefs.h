/* SPDX-License-Identifier: Apache-2.0 */
/* Files of tracefs, wherever it is mounted. Errors are -errno, or NULL with errno. */
#ifndef WS_TRACEFS_H
#define WS_TRACEFS_H

#include <stdio.h>

#define TRACEFS_DIR "/sys/kernel/tracing"
#define TRACEFS_DIR_OLD "/sys/kernel/debug/tracing"

int tracefs__open(const char *file, int flags);
FILE *tracefs__fopen(const char *file); /* for reading */
/* The decimal number in a file. */
int tracefs__number(const char *file);

#endif
