#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
"""Writes a vmlinux.h with nothing in it but what types.txt asks for.

The input is a kernel's BTF, raw or inside a kernel image. See README.md for the format of types.txt.
BTF: Documentation/bpf/btf.rst in the kernel tree.
"""
import argparse
import lzma
import os
import shutil
import struct
import subprocess
import sys
import zlib

BTF_MAGIC = 0xEB9F
HDR_LEN = 24
(INT, PTR, ARRAY, STRUCT, UNION, ENUM, FWD, TYPEDEF, VOLATILE, CONST, RESTRICT, FUNC, FUNC_PROTO, VAR, DATASEC, FLOAT,
 DECL_TAG, TYPE_TAG, ENUM64) = range(1, 20)
# Bytes that follow struct btf_type: fixed part, and per element (vlen of them).
TAIL = {INT: (4, 0), ARRAY: (12, 0), STRUCT: (0, 12), UNION: (0, 12), ENUM: (0, 8), FUNC_PROTO: (0, 8), VAR: (4, 0),
        DATASEC: (0, 12), DECL_TAG: (4, 0), ENUM64: (0, 12)}
QUALIFIERS = {VOLATILE: "volatile", CONST: "const", RESTRICT: "restrict"}
KEYWORD = {STRUCT: "struct", UNION: "union", ENUM: "enum", ENUM64: "enum"}


class Failure(Exception):
    """Said to the user in one line."""


class Type:
    __slots__ = ("name", "kind", "vlen", "kflag", "ref", "off")  # ref: size or type id

    def __init__(self, name, kind, vlen, kflag, ref, off):
        self.name, self.kind, self.vlen, self.kflag, self.ref, self.off = name, kind, vlen, kflag, ref, off


class Btf:
    def __init__(self, data, start=0):
        magic, version, _, hdr_len, type_off, type_len, str_off, str_len = struct.unpack_from("<HBBIIIII", data, start)
        base = start + hdr_len
        if magic != BTF_MAGIC or version != 1 or hdr_len < HDR_LEN or base + str_off + str_len > len(data):
            raise Failure("not BTF")
        self.data = data[base + type_off:base + type_off + type_len]
        self.strings = data[base + str_off:base + str_off + str_len]
        if not type_len or not str_len or self.strings[0] or self.strings[-1]:
            raise Failure("not BTF")
        self.types = [None]  # id 0 is void
        self.by_name = {}
        self._read_types()

    def _str(self, off):
        return self.strings[off:self.strings.index(b"\0", off)].decode()

    def _read_types(self):
        pos, end = 0, len(self.data)
        while pos < end:
            name, info, ref = struct.unpack_from("<III", self.data, pos)
            kind, vlen = info >> 24 & 0x1F, info & 0xFFFF
            if not INT <= kind <= ENUM64:
                raise Failure(f"BTF kind {kind} is not known to this generator")
            t = Type(self._str(name), kind, vlen, info >> 31, ref, pos + 12)
            fixed, per_elem = TAIL.get(kind, (0, 0))
            pos += 12 + fixed + vlen * per_elem
            if t.name and kind in (INT, STRUCT, UNION, ENUM, ENUM64, TYPEDEF, FLOAT):
                space = "tag" if kind in KEYWORD else "plain"
                self.by_name.setdefault((space, t.name), len(self.types))
            self.types.append(t)

    def members(self, t):
        """(name, type id, bits of a bit-field or 0)"""
        for i in range(t.vlen):
            name, ref, off = struct.unpack_from("<III", self.data, t.off + i * 12)
            yield self._str(name), ref, off >> 24 if t.kflag else 0

    def array(self, t):
        """(element type id, number of elements)"""
        elem, _, n = struct.unpack_from("<III", self.data, t.off)
        return elem, n

    def params(self, t):
        for i in range(t.vlen):
            yield struct.unpack_from("<II", self.data, t.off + i * 8)[1]

    def enumerators(self, t):
        for i in range(t.vlen):
            if t.kind == ENUM:
                name, val = struct.unpack_from("<Ii" if t.kflag else "<II", self.data, t.off + i * 8)
            else:
                name, low, high = struct.unpack_from("<IIi" if t.kflag else "<III", self.data, t.off + i * 12)
                val = high << 32 | low
            yield self._str(name), val


# ---- finding BTF in whatever was given -------------------------------------------------------------

def search_btf(data):
    """BTF lies unchanged in an ELF vmlinux (section .BTF) and in an arm64 Image (read-only data)."""
    want = struct.pack("<HBBI", BTF_MAGIC, 1, 0, HDR_LEN)
    at = data.find(want)
    while at >= 0:
        try:
            btf = Btf(data, at)
            if ("tag", "task_struct") in btf.by_name:
                return btf
        except (Failure, struct.error, ValueError, UnicodeDecodeError):
            pass
        at = data.find(want, at + 1)
    return None


def unzstd(data):
    if not shutil.which("zstd"):
        raise Failure("this image is compressed with zstd: install zstd")
    return subprocess.run(["zstd", "-dcq"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False).stdout


def unlz4(data):
    if not shutil.which("lz4"):
        raise Failure("this image is compressed with lz4: install lz4")
    return subprocess.run(["lz4", "-dcq"], input=data, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                          check=False).stdout


# Magic numbers as in the kernel's scripts/extract-vmlinux. What follows the compressed part is ignored.
PACKERS = ((b"\x1f\x8b\x08", lambda d: zlib.decompressobj(31).decompress(d)),
           (b"\xfd7zXZ\0", lambda d: lzma.LZMADecompressor().decompress(d)),
           (b"\x28\xb5\x2f\xfd", unzstd),
           (b"\x02\x21\x4c\x18", unlz4))


def load_btf(path):
    with open(path, "rb") as f:
        data = f.read()
    btf = search_btf(data)
    if btf:
        return btf
    for magic, unpack in PACKERS:
        at = data.find(magic)
        while at >= 0:
            try:
                btf = search_btf(unpack(data[at:]))
            except (zlib.error, lzma.LZMAError, EOFError):
                btf = None
            if btf:
                return btf
            at = data.find(magic, at + 1)
    raise Failure(f"{path}: no BTF in it (CONFIG_DEBUG_INFO_BTF)")


# ---- what is wanted ---------------------------------------------------------------------------------

class Wanted:
    """One line of types.txt; `names` None stands for *."""

    def __init__(self, line, where):
        head, colon, rest = line.partition(":")
        if not colon or not rest.split():
            raise Failure(f"{where}: expected `name: member ...`")
        self.where = where
        self.optional = head.startswith("?")
        self.name = head.lstrip("?").strip()
        words = rest.split()
        self.names = None if words == ["*"] else {w.lstrip("?"): w.startswith("?") for w in words}


def read_types(path):
    wanted = {}
    with open(path, encoding="utf-8") as f:
        for n, line in enumerate(f, 1):
            line = line.partition("#")[0].strip()
            if not line:
                continue
            w = Wanted(line, f"{os.path.basename(path)}:{n}")
            if w.name not in wanted:
                wanted[w.name] = w
            elif w.names is None or wanted[w.name].names is None:
                raise Failure(f"{w.where}: {w.name} has a line already")
            else:
                wanted[w.name].names.update(w.names)
    return wanted


# ---- output -----------------------------------------------------------------------------------------

class Header:
    """Emits definitions so that each comes after what it needs by value."""

    def __init__(self, btf, wanted):
        self.btf = btf
        self.wanted = wanted
        self.out = []
        self.done = set()      # ids of what is emitted
        self.busy = []         # names of what is being emitted, to name a cycle
        self.forward = set()   # "struct foo" that is only pointed to
        self.missing = []

    # A C declaration is built from the name outwards: pointers and arrays wrap `inner`.
    def declare(self, tid, inner, by_value=True):
        t = self.btf.types[tid] if tid else None
        if t is None:
            return f"void {inner}".rstrip()
        if t.kind in QUALIFIERS:
            return self.declare_qualified(t, inner, by_value)
        if t.kind == TYPE_TAG:  # __user, __rcu, __percpu
            return self.declare(t.ref, inner, by_value)
        if t.kind == PTR:
            target = self.btf.types[self.skip_quals(t.ref)] if self.skip_quals(t.ref) else None
            star = f"*{inner}"
            if target and target.kind in (ARRAY, FUNC_PROTO):
                star = f"({star})"
            return self.declare(t.ref, star, False)
        if t.kind == ARRAY:
            elem, n = self.btf.array(t)
            return self.declare(elem, f"{inner}[{n or ''}]", by_value)
        if t.kind == FUNC_PROTO:
            params = [self.declare(p, "", False) if p else "..." for p in self.btf.params(t)]
            return self.declare(t.ref, f"{inner}({', '.join(params) or 'void'})", False)
        return f"{self.specifier(tid, t, by_value)} {inner}".rstrip()

    def declare_qualified(self, t, inner, by_value):
        target = self.btf.types[t.ref] if t.ref else None
        word = QUALIFIERS[t.kind]
        if target and target.kind == PTR:
            return self.declare(t.ref, f"{word} {inner}".rstrip(), by_value)
        return f"{word} {self.declare(t.ref, inner, by_value)}"

    def skip_quals(self, tid):
        while tid and self.btf.types[tid].kind in (*QUALIFIERS, TYPE_TAG):
            tid = self.btf.types[tid].ref
        return tid

    def specifier(self, tid, t, by_value):
        if t.kind in (INT, FLOAT):
            return t.name
        if t.kind == TYPEDEF:
            self.emit_typedef(tid, t)
            if by_value:
                self.complete(t.ref)
            return t.name
        if t.kind == FWD:
            word = f"{'union' if t.kflag else 'struct'} {t.name}"
            self.forward.add(word)
            return word
        if t.kind not in KEYWORD:
            raise Failure(f"BTF kind {t.kind} in a declaration")
        if not t.name:
            return self.body(t, None)
        word = f"{KEYWORD[t.kind]} {t.name}"
        if by_value or KEYWORD[t.kind] == "enum":  # C has no forward declaration of an enum
            self.emit_tagged(tid, t)
        else:
            self.forward.add(word)
        return word

    def emit_typedef(self, tid, t):
        if tid in self.done:
            return
        self.done.add(tid)
        text = f"typedef {self.declare(t.ref, t.name, self.is_anonymous(t.ref))};"
        self.out.append(text + "\n" if "{" in text else text)

    def complete(self, tid):
        """A typedef may have been needed for a pointer first: then its struct is not defined yet."""
        while tid and self.btf.types[tid].kind in (*QUALIFIERS, TYPE_TAG, TYPEDEF, ARRAY):
            t = self.btf.types[tid]
            tid = self.btf.array(t)[0] if t.kind == ARRAY else t.ref
        t = self.btf.types[tid] if tid else None
        if t and t.name and t.kind in KEYWORD:
            self.emit_tagged(tid, t)

    def is_anonymous(self, tid):
        return bool(tid) and not self.btf.types[tid].name

    def emit_tagged(self, tid, t):
        if tid in self.done:
            return
        if t.name in self.busy:
            raise Failure(f"{t.name} contains itself: {' > '.join(self.busy)}")
        self.busy.append(t.name)
        want = self.wanted.get(t.name)
        if want is None and t.kind in (STRUCT, UNION):
            raise Failure(f"{self.busy[0]} embeds {KEYWORD[t.kind]} {t.name} (by {' > '.join(self.busy)}):"
                          f" give it a line in types.txt")
        text = self.body(t, want)
        self.busy.pop()
        self.done.add(tid)
        self.out.append(f"{text};\n")

    def body(self, t, want):
        names = want.names if want else None
        if KEYWORD[t.kind] == "enum":
            lines = [f"\t{n} = {v}," for n, v in self.btf.enumerators(t) if names is None or n in names]
            found = {n for n, _ in self.btf.enumerators(t)}
        else:
            found = set()
            lines = self.member_lines(t, names, found)
        for n, optional in (names or {}).items():
            if n not in found:
                self.missed(f"{want.where}: {KEYWORD[t.kind]} {t.name} has no {n}", optional)
        head = f"{KEYWORD[t.kind]} {t.name}".rstrip()
        return "\n".join([f"{head} {{", *lines, "}"])

    def member_lines(self, t, names, found):
        """Members, those of nested anonymous structs and unions included: CO-RE finds them by name."""
        lines = []
        for name, tid, bits in self.btf.members(t):
            inner = self.btf.types[tid] if tid else None
            if not name and inner and inner.kind in (STRUCT, UNION):
                nested = self.member_lines(inner, names, found)
                if nested:
                    lines += [f"\t{KEYWORD[inner.kind]} {{", *("\t" + n for n in nested), "\t};"]
            elif name and (names is None or name in names):
                found.add(name)
                text = self.declare(tid, name) + (f" : {bits}" if bits else "")
                lines += ["\t" + line for line in f"{text};".split("\n")]
        return lines

    def missed(self, text, optional):
        if not optional:
            self.missing.append(text)

    def emit_constants(self, want):
        """Enumerators of anonymous enums: flags."""
        left = dict(want.names)
        for t in self.btf.types[1:]:
            if t.kind not in (ENUM, ENUM64) or not left:
                continue
            lines = [f"\t{n} = {v}," for n, v in self.btf.enumerators(t) if left.pop(n, None) is not None]
            if lines:
                self.out.append("\n".join(["enum {", *lines, "};\n"]))
        for n, optional in left.items():
            self.missed(f"{want.where}: no enum has {n}", optional)

    def emit(self, want):
        if want.name == "enum":
            self.emit_constants(want)
            return
        names = want.names if want.name == "typedef" else {want.name: want.optional}
        space = "plain" if want.name == "typedef" else "tag"
        for name, optional in names.items():
            tid = self.btf.by_name.get((space, name))
            if tid is None:
                self.missed(f"{want.where}: no such type: {name}", optional)
            elif space == "plain":
                self.emit_typedef(tid, self.btf.types[tid])
            else:
                self.emit_tagged(tid, self.btf.types[tid])

    def text(self):
        for want in self.wanted.values():
            self.emit(want)
            if self.out and not self.out[-1].endswith("\n"):
                self.out[-1] += "\n"
        if self.missing:
            raise Failure("not in this kernel:\n\t" + "\n\t".join(self.missing))
        forward = "".join(f"{word};\n" for word in sorted(self.forward))
        return PROLOGUE + forward + "\n" + "\n".join(self.out) + EPILOGUE


PROLOGUE = """/* SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause */
/*
 * Kernel types as far as bpf/ uses them, for CO-RE: members are found by name in the running kernel, offsets and
 * sizes here mean nothing. Made by vmlinux/gen.sh from vmlinux/types.txt; do not edit.
 */
#ifndef __VMLINUX_H__
#define __VMLINUX_H__

#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute push (__attribute__((preserve_access_index)), apply_to = record)
#endif

"""
EPILOGUE = """
#ifndef BPF_NO_PRESERVE_ACCESS_INDEX
#pragma clang attribute pop
#endif

#endif
"""


def main():
    ap = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    ap.add_argument("--types", required=True, help="what to take")
    ap.add_argument("--output", required=True, help="header to write")
    ap.add_argument("image", help="raw BTF, vmlinux, vmlinuz or Image")
    args = ap.parse_args()
    try:
        text = Header(load_btf(args.image), read_types(args.types)).text()
        # Whole or not at all: a half-written header would break every build.
        with open(args.output + ".new", "w", encoding="utf-8") as f:
            f.write(text)
        os.replace(args.output + ".new", args.output)
    except (Failure, OSError) as e:
        sys.exit(f"gen.py: {e}")


if __name__ == "__main__":
    main()
