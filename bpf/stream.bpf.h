/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * The kernel functions that the plans "fentry" and "kprobe" hang on: the stream protocols' own operations
 * (struct proto_ops), one step above tcp_sendmsg and tcp_recvmsg. Every way into a socket passes through them,
 * io_uring's included, before kTLS, MPTCP or a sockmap take the bytes elsewhere, and their arguments have been
 * the same since 5.10, where tcp_recvmsg changed twice.
 *
 * A function that the kernel does not have is left out by the loader: sendpage went with 6.5 (dc97391e6610),
 * sendfile and splice pass through sendmsg since.
 */
#ifndef WS_STREAM_BPF_H
#define WS_STREAM_BPF_H

/* (struct socket *sock, struct msghdr *msg, size_t size) */
#define STREAM_SEND(F) F(inet_sendmsg) F(inet6_sendmsg) F(unix_stream_sendmsg)

/* (struct socket *sock, struct msghdr *msg, size_t size, int flags) */
#define STREAM_RECV(F) F(inet_recvmsg) F(inet6_recvmsg) F(unix_stream_recvmsg)

/* (struct socket *sock, struct sockaddr *addr, int len, int flags); the address is the kernel's copy */
#define STREAM_CONNECT(F) F(inet_stream_connect) F(unix_stream_connect)

/* (struct socket *sock, struct page *page, int offset, size_t size, int flags) */
#define STREAM_SENDPAGE(F) F(inet_sendpage) F(unix_stream_sendpage)

/* (struct socket *sock, loff_t *pos, struct pipe_inode_info *pipe, size_t len, unsigned int flags) */
#define STREAM_SPLICE(F) F(tcp_splice_read) F(unix_stream_splice_read)

#endif
