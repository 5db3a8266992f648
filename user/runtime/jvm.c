// SPDX-License-Identifier: Apache-2.0
/*
 * Where HotSpot keeps the number of the virtual thread that a carrier runs. Offsets are those that it publishes for
 * debuggers (gHotSpotVMStructs, src/hotspot/share/runtime/vmStructs.cpp): JavaThread._monitor_owner_id since JDK 24,
 * the number of whatever thread is mounted, and _cont_entry, not NULL while that is a virtual one. The current thread
 * is in libjvm's thread-local memory (Thread::_thr_current), which only .symtab names. No probe is needed.
 */
#include "user/runtime/jvm.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include "user/runtime/elf_file.h"
#include "user/runtime/memory.h"
#include "user/runtime/symtab.h"

#define ENTRIES_MAX 4096u /* of the table; JDK 25 has 585 */
#define STRING_MAX 24u
#define OFFSET_MAX 65536u /* a JavaThread has 2 KiB */

/* struct VMStructEntry: how it is laid out is published too. */
struct table {
	uint64_t at, stride, type, field, is_static, offset;
};

struct jvm {
	pid_t pid;
	struct elf_file *elf;
	struct memory mem;
	uint64_t bias;
	struct table t;
	uint64_t owner, continuation; /* offsets; 0: not found */
};

static uint64_t published(struct jvm *j, const char *symbol)
{
	uint64_t addr = elf_file__symbol(j->elf, symbol);

	return addr ? memory__word(&j->mem, j->bias + addr) : 0;
}

static bool find_table(struct jvm *j)
{
	j->t = (struct table){
		.at = published(j, "gHotSpotVMStructs"),
		.stride = published(j, "gHotSpotVMStructEntryArrayStride"),
		.type = published(j, "gHotSpotVMStructEntryTypeNameOffset"),
		.field = published(j, "gHotSpotVMStructEntryFieldNameOffset"),
		.is_static = published(j, "gHotSpotVMStructEntryIsStaticOffset"),
		.offset = published(j, "gHotSpotVMStructEntryOffsetOffset"),
	};
	return j->t.at && j->t.stride >= 16 && j->t.stride <= 256 && j->t.type < j->t.stride && j->t.field < j->t.stride &&
	       j->t.offset < j->t.stride && j->t.is_static < j->t.stride;
}

/* Is this the string at an address of the process? Read by words: a string may end a segment, but not in mid-word. */
static bool is_string(struct jvm *j, uint64_t addr, const char *s)
{
	char buf[STRING_MAX] = "";

	for (size_t i = 0; i < sizeof(buf); i += sizeof(uint64_t)) {
		uint64_t word = memory__word(&j->mem, addr + i);

		if (j->mem.failed)
			return false;
		memcpy(buf + i, &word, sizeof(word));
		if (memchr(&word, '\0', sizeof(word)))
			break;
	}
	return !strncmp(buf, s, sizeof(buf));
}

static void find_fields(struct jvm *j)
{
	for (uint32_t i = 0; i < ENTRIES_MAX && !j->mem.failed; i++) {
		uint64_t entry = j->t.at + i * j->t.stride, type = memory__word(&j->mem, entry + j->t.type), field;

		if (!type)
			return;
		if (!is_string(j, type, "JavaThread") || (uint32_t)memory__word(&j->mem, entry + j->t.is_static))
			continue;
		field = memory__word(&j->mem, entry + j->t.field);
		if (is_string(j, field, "_monitor_owner_id"))
			j->owner = memory__word(&j->mem, entry + j->t.offset);
		else if (is_string(j, field, "_cont_entry"))
			j->continuation = memory__word(&j->mem, entry + j->t.offset);
	}
}

static void describe(struct jvm *j, const char *path, const struct mapped_file *f, struct runtime *out)
{
	static const char *const thr_current[] = {"_ZN6Thread12_thr_currentE"};
	struct ws_runtime *d = &out->desc;
	uint64_t tls = 0;
	struct stat st;

	if (stat(path, &st) || !find_table(j)) {
		snprintf(out->why, sizeof(out->why), "libjvm does not say where its fields are");
		return;
	}
	find_fields(j);
	if (!j->owner || !j->continuation || j->owner > OFFSET_MAX || j->continuation > OFFSET_MAX) {
		snprintf(out->why, sizeof(out->why), "older than JDK 24: virtual threads do not show their number");
		return;
	}
	if (symtab__find(path, thr_current, &tls, 1) || !tls || tls > OFFSET_MAX) {
		snprintf(out->why, sizeof(out->why), "libjvm is stripped");
		return;
	}
	d->kind = WS_RT_JVM;
	d->tls = (int32_t)tls;
	d->jvm.owner = (uint32_t)j->owner;
	d->jvm.continuation = (uint32_t)j->continuation;
	d->jvm.text = f->start;
	d->jvm.text_end = f->start + (uint64_t)st.st_size; /* what is mapped of it, and not much more */
}

int jvm__inspect(pid_t pid, const struct mapped_files *maps, struct runtime *out)
{
	const struct mapped_file *f = NULL;
	struct jvm j = {.pid = pid};
	char path[MAPPED_PATH_MAX];
	uint64_t addr;
	int err;

	for (size_t i = 0; i < maps->n && !f; i++)
		if (!strcmp(mapped_file__base(&maps->files[i]), "libjvm.so"))
			f = &maps->files[i];
	if (!f || !mapped_file__path(f, pid, path))
		return 0;
	snprintf(out->version, sizeof(out->version), "HotSpot");
	err = elf_file__open(path, &j.elf);
	if (err)
		return err == -ENOMEM ? err : 0;
	err = memory__open(&j.mem, pid);
	if (!err && elf_file__address(j.elf, f->offset, &addr)) {
		j.bias = f->start - (addr & ~4095ull); /* segments are mapped by whole pages */
		describe(&j, path, f, out);
	}
	if (!err)
		memory__close(&j.mem);
	elf_file__close(j.elf);
	return err == -ENOENT ? -ESRCH : err;
}
