#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# What a formatter does not see: licence lines, lengths, banned functions, traces of the machine it was written on.
set -u
. tests/lint/files.inc

FILE_MAX=1500 FILE_WARN=800
FN_MAX=100 FN_WARN=60
COLUMNS_MAX=140 COLUMNS_WARN=120

# ---- licence, on the first line or on the second, behind #! -------------------------------------
licence_of() {
	case $1 in
	bpf/* | vmlinux/*) echo 'GPL-2.0-only OR BSD-2-Clause' ;;
	*) echo 'Apache-2.0' ;;
	esac
}
while read -r f; do
	case $f in exporter/proto/*.proto) continue ;; esac # unmodified, with their authors' licence
	[ -s "$f" ] || continue
	head -n2 "$f" | grep -qF "SPDX-License-Identifier: $(licence_of "$f")" ||
		complain "$f:1: no SPDX-License-Identifier: $(licence_of "$f")"
done < <(list_files '*.c' '*.h' '*.py' '*.sh' '*.inc' '*.mk' Makefile '*.service' '*Dockerfile' '*.yaml' '*.yml')

# ---- lengths ------------------------------------------------------------------------------------
while read -r f; do
	n=$(wc -l <"$f")
	if [ "$n" -gt $FILE_MAX ]; then
		complain "$f: $n lines, limit $FILE_MAX"
	elif [ "$n" -gt $FILE_WARN ]; then
		echo "$f: warning: $n lines, wanted $FILE_WARN"
	fi
done < <(list_files '*.c' '*.h' '*.py' '*.sh')

# In kernel layout a function is what has its braces in the first column. Counted from { to }.
while read -r f; do
	awk -v f="$f" -v max=$FN_MAX -v warn=$FN_WARN '
		/^{$/ { start = FNR; name = head }
		/^}/ && start {
			n = FNR - start - 1
			if (n > max) { printf "%s:%d: %s: %d lines, limit %d\n", f, start, name, n, max; bad = 1 }
			else if (n > warn) printf "%s:%d: warning: %s: %d lines, wanted %d\n", f, start, name, n, warn
			start = 0
		}
		/^[a-zA-Z_].*\(/ { head = $0; sub(/\(.*/, "", head); sub(/.*[ *]/, "", head) }
		END { exit bad }' "$f" || failed=1
done < <(list_files '*.c' '*.bpf.h')

while read -r f; do
	# Bytes of UTF-8 continuation take no column.
	LC_ALL=C awk -v f="$f" -v max=$COLUMNS_MAX -v warn=$COLUMNS_WARN '{
			s = $0; gsub(/[\200-\277]/, "", s); col = 0
			n = split(s, part, "\t")
			for (i = 1; i <= n; i++) { col += length(part[i]); if (i < n) col = int(col / 8) * 8 + 8 }
			if (col > max) { printf "%s:%d: %d columns, limit %d\n", f, FNR, col, max; bad = 1 }
			else if (col > warn) printf "%s:%d: warning: %d columns, wanted %d\n", f, FNR, col, warn
		}
		END { exit bad }' "$f" || failed=1
done < <(list_files '*.c' '*.h' '*.py' '*.sh' | grep -v '^vmlinux/.*/vmlinux\.h$')

out=$(list_files '*.c' '*.h' '*.py' '*.sh' '*.mk' '*.md' '*.yaml' '*.yml' '*.txt' Makefile '*.service' '*Dockerfile' |
	grep -v '/golden/' | xargs -r grep -nE '[[:space:]]+$' /dev/null)
[ -z "$out" ] || complain "trailing white space:"$'\n'"$out"

# ---- banned functions ---------------------------------------------------------------------------
# Memory goes through user/base/mem.h, so that tests can fail it; time through user/base/clock.h, so that a replay is
# repeatable; the rest has no bound, no error, or hidden state.
MEMORY='malloc|calloc|realloc|reallocarray|free|strdup|strndup|asprintf|vasprintf'
CLOCK='clock_gettime|gettimeofday|time'
NEVER='strcpy|strcat|sprintf|vsprintf|gets|strtok|atoi|atol|atoll|atof|alloca|system|popen|localtime|gmtime|asctime'
NEVER="$NEVER|ctime|rand|srand|tmpnam|mktemp|tempnam"
banned_in() {
	case $1 in
	user/base/mem.c) echo "$NEVER|$CLOCK" ;;
	user/base/clock.c) echo "$NEVER|$MEMORY" ;;
	user/*/* | exporter/*) echo "$NEVER|$CLOCK|$MEMORY" ;;
	user/*) echo "$NEVER|$MEMORY" ;; # the wiring gives the time to the stages
	*) echo "$NEVER|$CLOCK|$MEMORY" ;;
	esac
}
while read -r f; do
	out=$(strip_c "$f" | grep -E "(^[0-9]+:|[^a-zA-Z0-9_.>])($(banned_in "$f"))[[:space:]]*\(" | sed "s#^#$f:#")
	[ -z "$out" ] || complain "banned function:"$'\n'"$out"
done < <(list_files 'user/*.c' 'user/*.h' 'exporter/*.c' 'exporter/*.h')

# ---- where it was written -----------------------------------------------------------------------
# (The brackets keep this file from finding itself.)
places='(^|[^a-zA-Z0-9_.])/(work|root|home)[/]|[.][.]/shared[/]'
hosts='deb[.]debian[.]org|pypi[.]org|npmjs[.]org|proxy[.]golang[.]org|repo1[.]maven'
out=$(list_files '*' | grep -v '^exporter/proto/' | xargs -r grep -nIE "$places|$hosts" /dev/null)
[ -z "$out" ] || complain "a path or a host of somebody's machine:"$'\n'"$out"

out=$(list_files '*.c' '*.h' '*.py' '*.sh' | xargs -r grep -nE '(TO''DO|FIX''ME|[^X]XX''X([^X]|$))' /dev/null)
[ -z "$out" ] || complain "unfinished:"$'\n'"$out"

exit $failed
