/* SPDX-License-Identifier: Apache-2.0 */
/* The only place that reads a clock. Pipeline stages take time as an argument. */
#ifndef WS_BASE_CLOCK_H
#define WS_BASE_CLOCK_H

#include <stdint.h>

uint64_t clock__mono_ns(void);
uint64_t clock__wall_ns(void);
int64_t clock__wall_offset(void); /* CLOCK_REALTIME - CLOCK_MONOTONIC, taken between two monotonic reads */

#endif
