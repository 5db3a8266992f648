/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/* What is behind a descriptor of the running task. */
#ifndef WS_FD_BPF_H
#define WS_FD_BPF_H

#include "compat.bpf.h"

static __always_inline struct file *fd_file(struct task_struct *task, __u64 fd)
{
	struct file **slots = TREAD(task, files, fdt, fd), *file = NULL;

	if (fd >= TREAD(task, files, fdt, max_fds))
		return NULL;
	bpf_probe_read_kernel(&file, sizeof(file), &slots[fd]);
	return file;
}

/* NULL: no socket. */
static __always_inline struct sock *file_sock(struct file *file)
{
	struct socket *socket;

	if (!file || (KREAD(file, f_inode, i_mode) & S_IFMT) != S_IFSOCK)
		return NULL;
	socket = KREAD(file, private_data);
	return socket ? KREAD(socket, sk) : NULL;
}

#endif
