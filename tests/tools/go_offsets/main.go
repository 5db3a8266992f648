// SPDX-License-Identifier: Apache-2.0

// Where Go keeps what user/runtime/go_process.c reads: one row for each program given, from its debug information.
//
//	go run tests/tools/go_offsets/main.go PROGRAM...
//
// The rows belong into user/runtime/go_offsets.h; tests/runtimes/test_go_layout.py holds the two against each other.
package main

import (
	"debug/buildinfo"
	"debug/dwarf"
	"debug/elf"
	"fmt"
	"os"
	"slices"
	"strings"
)

var wanted = []struct{ structure, field string }{
	{"runtime.g", "m"}, {"runtime.g", "goid"}, {"runtime.m", "g0"}, {"runtime.m", "curg"},
	{"net/http.Request", "ctx"},
	{"crypto/tls.Conn", "vers"}, {"crypto/tls.Conn", "input"}, {"crypto/tls.Conn", "rawInput"},
}

func offsets(path string) ([]int64, error) {
	f, err := elf.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	d, err := f.DWARF()
	if err != nil {
		return nil, err
	}
	out := make([]int64, len(wanted))
	for i := range out {
		out[i] = -1
	}
	for r := d.Reader(); ; {
		e, err := r.Next()
		if err != nil {
			return nil, err
		}
		if e == nil {
			break
		}
		if e.Tag != dwarf.TagStructType {
			continue
		}
		name, _ := e.Val(dwarf.AttrName).(string)
		for i, w := range wanted {
			if w.structure != name {
				continue
			}
			t, err := d.Type(e.Offset)
			if err != nil {
				return nil, err
			}
			for _, m := range t.(*dwarf.StructType).Field {
				if m.Name == w.field {
					out[i] = m.ByteOffset
				}
			}
		}
	}
	return out, nil
}

func main() {
	for _, path := range os.Args[1:] {
		info, err := buildinfo.ReadFile(path)
		if err == nil {
			var at []int64
			at, err = offsets(path)
			if err == nil && (slices.Contains(at, -1) || at[2] != 0) {
				err = fmt.Errorf("fields are missing, or m.g0 is not the first: %v", at)
			}
			if err == nil {
				minor := strings.Split(strings.TrimPrefix(info.GoVersion, "go1."), ".")[0]
				fmt.Printf("\t[%s] = { .m = %d, .goid = %d, .curg = %d, .ctx = %d, .vers = %d, .input = %d, .raw = %d }, /* %s */\n",
					minor, at[0], at[1], at[3], at[4], at[5], at[6], at[7], info.GoVersion)
			}
		}
		if err != nil {
			fmt.Fprintf(os.Stderr, "go_offsets: %s: %v\n", path, err)
			os.Exit(1)
		}
	}
}
