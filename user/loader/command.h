/* SPDX-License-Identifier: Apache-2.0 */
/* `wirespan -- CMD`: a child that waits until the hooks are live. */
#ifndef WS_COMMAND_H
#define WS_COMMAND_H

#include <stdbool.h>
#include <stdint.h>

struct command_child;

/* Forks; the child waits for command__go(). Call before threads are made and signals are blocked. NULL with errno, said. */
struct command_child *command__new(char **argv);
uint32_t command__pid(const struct command_child *c);
void command__go(struct command_child *c);
/* Has it ended? *ret_code: its exit code, 128 + signal, 126 or 127 if it could not be run. */
bool command__ended(struct command_child *c, int *ret_code);
/* A command that never went is killed; one that runs is left alone. NULL ok. */
void command__free(struct command_child *c);

#endif
