// SPDX-License-Identifier: Apache-2.0
#include "user/loader/command.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "user/base/log.h"
#include "user/base/mem.h"

struct command_child {
	pid_t pid;
	int go; /* write end: one byte lets it go, an end of file ends it */
	bool ended;
};

static void child(int wait_fd, char **argv)
{
	char byte;

	if (read(wait_fd, &byte, 1) != 1)
		_exit(125);
	execvp(argv[0], argv);
	fprintf(stderr, "wirespan: %s: %s\n", argv[0], strerror(errno));
	_exit(errno == ENOENT ? 127 : 126); /* as a shell does */
}

struct command_child *command__new(char **argv)
{
	struct command_child *c = mem__zalloc(sizeof(*c));
	int fds[2] = { -1, -1 };

	if (!c || pipe2(fds, O_CLOEXEC))
		goto err;
	c->pid = fork();
	if (c->pid < 0)
		goto err;
	if (c->pid == 0) {
		close(fds[1]);
		child(fds[0], argv);
	}
	close(fds[0]);
	c->go = fds[1];
	return c;
err:
	log_error("cannot start %s: %s", argv[0], strerror(errno));
	if (fds[0] >= 0) {
		close(fds[0]);
		close(fds[1]);
	}
	mem__free(c);
	return NULL;
}

uint32_t command__pid(const struct command_child *c)
{
	return c->pid;
}

void command__go(struct command_child *c)
{
	if (write(c->go, "", 1) != 1)
		log_error("the command is gone before it could start");
	close(c->go);
	c->go = -1;
}

bool command__ended(struct command_child *c, int *ret_code)
{
	int status;

	if (c->ended || waitpid(c->pid, &status, WNOHANG) != c->pid)
		return false;
	c->ended = true;
	*ret_code = WIFSIGNALED(status) ? 128 + WTERMSIG(status) : WEXITSTATUS(status);
	return true;
}

void command__free(struct command_child *c)
{
	if (!c)
		return;
	if (c->go >= 0) {
		close(c->go); /* it waits for a byte: the end of file ends it */
		waitpid(c->pid, NULL, 0);
	}
	mem__free(c);
}
