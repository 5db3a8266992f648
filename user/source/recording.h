/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Recordings: what passed the source, in a file, with everything that a replay needs to give the same spans: the key
 * of span ids and the options that change spans. Layout, in the byte order of the machine that recorded:
 *
 *	struct recording_head, then options_len bytes of options, padded to 8
 *	struct recording_frame and `len` bytes of a record, padded to 8; again and again
 *	struct recording_frame with len 0, and struct recording_end
 *
 * A file without its end is one whose recorder was killed: it replays up to there and says so.
 */
#ifndef WS_SOURCE_RECORDING_H
#define WS_SOURCE_RECORDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "bpf/event.h"

#define RECORDING_MAGIC "WSREC\r\n\x1a" /* breaks when a transfer changes line ends */
#define RECORDING_ORDER 0x01020304u
#define RECORD_MAX (1024u * 1024)	 /* bytes of one record */
#define RECORDING_OPTIONS_MAX (64u * 1024)
#define RECORDING_WHY_MAX 256		 /* room for an explanation */

struct recording_head {
	char magic[8];
	uint32_t order;
	uint32_t abi; /* WS_ABI_VERSION */
	uint8_t key[16];
	char version[24]; /* of wirespan, NUL-padded */
	uint32_t options_len;
	uint32_t flags; /* RECORDING_SECRETS */
};

#define RECORDING_SECRETS 0x01 /* recorded with --keep-secrets */

struct recording_frame {
	uint32_t len; /* 0: the end follows */
	uint32_t pad;
};

struct recording_end {
	uint64_t records;
	uint64_t lost; /* events that are missing: the disk was slower than they came */
};

_Static_assert(sizeof(struct recording_head) == 64, "file format");

/* ---- writing ------------------------------------------------------------------------------------ */

struct recorder_opts {
	const char *path;
	const uint8_t *key; /* 16 bytes */
	const void *options; /* opts__save_spans() */
	size_t options_len;
	bool keep_secrets;
	bool keep_queries; /* secrets in the queries of URLs only */
	size_t buffer; /* bytes that may wait for the disk, twice; 0: 4 MiB */
};

struct recorder;

/*
 * Makes the file anew, mode 0600; an old regular file of that name is replaced, anything else refused. NULL with
 * errno, and one line for the reader in `why`.
 */
struct recorder *recorder__new(const struct recorder_opts *o, char why[RECORDING_WHY_MAX]);
/*
 * Pipeline thread. Copies the event for the writer thread; never waits for the disk. Events that find no room, or come
 * after a write error, are counted as lost (stats.recording_lost), and the recording says so (WS_EV_LOST).
 */
void recorder__add(struct recorder *r, const struct ws_ev *ev);
/* Positive errno once writing has failed, which ends the recording; to be said once. Any thread. */
int recorder__error(const struct recorder *r);
/*
 * Writes what waits (at most for `limit_ns`) and the end. 0 or -errno: the file is not complete, and `why` says why.
 * The recorder is gone in any case. NULL ok.
 */
int recorder__close(struct recorder *r, uint64_t limit_ns, char why[RECORDING_WHY_MAX]);

/* ---- reading ------------------------------------------------------------------------------------ */

struct source;
struct replay;

/* NULL with errno, and one line in `why`: not a recording, another ABI, no permission. */
struct replay *replay__open(const char *path, char why[RECORDING_WHY_MAX]);
void replay__free(struct replay *r); /* NULL ok */
const uint8_t *replay__key(const struct replay *r); /* 16 bytes */
/* For opts__load_spans(); borrowed. */
const void *replay__options(const struct replay *r, size_t *ret_len);
/*
 * Pushes up to `max` records into the source. 1: there are more, 0: that was all, -errno: the file is damaged or cut
 * off, `why` says where.
 */
int replay__step(struct replay *r, struct source *s, unsigned int max, char why[RECORDING_WHY_MAX]);
/* Events that the recorder lost, known at the end. */
uint64_t replay__lost(const struct replay *r);

#endif
