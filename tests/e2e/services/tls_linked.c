// SPDX-License-Identifier: Apache-2.0
/* An HTTPS server that blocks, a thread for each connection, with OpenSSL linked in. EX: by SSL_read_ex() and SSL_write_ex(). */
#include <arpa/inet.h>
#include <openssl/ssl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static const char ok[] = "HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok";
static SSL_CTX *ctx;
static int ex;

static size_t receive(SSL *s, char *to, size_t size)
{
	size_t n = 0;
	int got;

	if (ex)
		return SSL_read_ex(s, to, size, &n) > 0 ? n : 0;
	got = SSL_read(s, to, (int)size);
	return got > 0 ? (size_t)got : 0;
}

static void *serve(void *arg)
{
	int fd = (int)(intptr_t)arg;
	SSL *s = SSL_new(ctx);
	size_t have = 0, n;
	char head[4096];

	SSL_set_fd(s, fd);
	while (SSL_is_init_finished(s) || SSL_accept(s) > 0) {
		n = receive(s, head + have, sizeof(head) - 1 - have);
		if (!n)
			break;
		have += n;
		head[have] = '\0';
		if (!strstr(head, "\r\n\r\n"))
			continue;
		have = 0;
		if ((ex ? SSL_write_ex(s, ok, sizeof(ok) - 1, &n) : SSL_write(s, ok, sizeof(ok) - 1)) <= 0)
			break;
	}
	SSL_free(s);
	close(fd);
	return NULL;
}

int main(void)
{
	struct sockaddr_in a = { .sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(getenv("PORT"))),
				 .sin_addr.s_addr = htonl(INADDR_LOOPBACK) };
	int l = socket(AF_INET, SOCK_STREAM, 0), one = 1;

	signal(SIGPIPE, SIG_IGN);
	ex = getenv("EX") != NULL;
	setsockopt(l, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	ctx = SSL_CTX_new(TLS_server_method());
	if (SSL_CTX_use_certificate_file(ctx, getenv("CERT"), SSL_FILETYPE_PEM) <= 0 ||
	    SSL_CTX_use_PrivateKey_file(ctx, getenv("KEY"), SSL_FILETYPE_PEM) <= 0 || bind(l, (void *)&a, sizeof(a)) || listen(l, 128))
		return 1;
	for (;;) {
		intptr_t fd = accept(l, NULL, NULL);
		pthread_t t;

		if (fd >= 0 && !pthread_create(&t, NULL, serve, (void *)fd))
			pthread_detach(t);
	}
}
