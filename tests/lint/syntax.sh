#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Scripts that no test may ever run still have to parse; data files that others read, too.
set -u
. tests/lint/files.inc

while read -r f; do
	case $(head -n1 "$f") in
	'#!/bin/sh'*) sh -n "$f" || failed=1 ;;
	*) bash -n "$f" || failed=1 ;;
	esac
	case $f in *.inc) continue ;; esac
	[ -x "$f" ] || complain "$f: not executable"
done < <(list_files '*.sh' '*.inc' '.ci/run')

# Compiled in memory: no __pycache__ is left behind.
list_files '*.py' | tr '\n' '\0' | python3 -c '
import ast, sys
bad = 0
for name in filter(None, sys.stdin.buffer.read().decode().split("\0")):
    try:
        ast.parse(open(name, encoding="utf-8").read(), name)
    except (SyntaxError, UnicodeDecodeError) as e:
        print("%s: %s" % (name, e))
        bad = 1
sys.exit(bad)' || failed=1

if command -v shellcheck >/dev/null; then
	list_files '*.sh' '*.inc' '.ci/run' | xargs -r shellcheck -S warning || failed=1
else
	echo "syntax.sh: shellcheck is not installed: skipped"
fi

exit $failed
