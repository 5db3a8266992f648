#!/bin/bash
# SPDX-License-Identifier: Apache-2.0
# Data flows one way, so includes do: a stage knows the nouns, itself and what it pushes to. And only user/proto knows
# a protocol by its name.
set -u
. tests/lint/files.inc

# directory: what it may include ("user" directories without their prefix; "abi" is bpf/event.h and bpf/limits.h)
allowed_in() {
	case $1 in
	bpf) echo 'bpf vmlinux' ;;
	user/base) echo 'base str opts-abi' ;;
	user/model) echo 'base model abi' ;;
	user/source) echo 'base model abi source stream' ;;
	user/stream) echo 'base model abi stream proto' ;;
	user/proto) echo 'base model proto' ;;
	user/match) echo 'base model abi match stream-item runtime enrich' ;;
	user/runtime) echo 'base model abi runtime enrich' ;; # /proc is read in one way
	user/enrich) echo 'base model abi enrich sample' ;;
	user/sample) echo 'base model sample batch' ;;
	user/batch) echo 'base model batch' ;;
	user/loader) echo 'base model abi loader skeleton runtime enrich' ;; # selection asks who a process is
	user/tls) echo 'base model abi tls runtime' ;; # files are read in one way
	exporter) echo 'base model batch exporter pb' ;;
	*) echo '' ;;
	esac
}

# What an include is, in the words of the table.
class_of() {
	local class
	case $1 in
	bpf/event.h | bpf/limits.h) echo abi ;;
	bpf/*.skel.h) echo skeleton ;;
	bpf/*) echo bpf ;;
	user/model/str.h) echo str ;;
	user/*/*)
		class=${1#user/}
		echo "${class%%/*}"
		;;
	exporter/*) echo exporter ;;
	opentelemetry/*) echo pb ;;
	vmlinux.h) echo vmlinux ;;
	*.bpf.h | event.h | limits.h) echo bpf ;;
	*) echo unknown ;;
	esac
}

is_allowed() { # file, include
	local dir=${1%/*} class
	class=$(class_of "$2")
	case " $(allowed_in "$dir") " in *" $class "*) return 0 ;; esac
	case $1:$2 in
	*:user/model/str.h) case " $(allowed_in "$dir") " in *' model '*) return 0 ;; esac ;;
	# Sizes and their limits as options.
	user/base/opts*:bpf/limits.h) return 0 ;;
	# The items that cross from one thread or stage to the next.
	user/match/*:user/stream/stream.h | user/match/*:user/proto/proto.h) return 0 ;;
	user/loader/*:user/source/*.h) return 0 ;;
	esac
	return 1
}

while read -r f; do
	case $f in user/*/* | exporter/* | bpf/*) ;; *) continue ;; esac # user/*.c is the wiring and sees all
	while IFS=: read -r line inc; do
		is_allowed "$f" "$inc" || complain "$f:$line: ${f%/*} may not include $inc"
	done < <(awk -F'"' '/^[ \t]*#[ \t]*include[ \t]*"/ { print FNR ":" $2 }' "$f")
done < <(list_files '*.c' '*.h' | grep -v '^vmlinux/')

# Names of the table, and of protocols that will be in it. HTTP is how the exporter sends, and what OTLP options name.
names=$(sed -n 's/^PROTO(\([a-z0-9_]*\))/\1/p' user/proto/proto_list.h | paste -sd'|')
others='redis|mysql|mariadb|pgsql|postgres|postgresql|kafka|mongo|mongodb|amqp|rabbitmq|nats|cassandra|memcached|dns'
others="$others|grpc|http2?"
while read -r f; do
	words="$names|$others"
	# Blanks credentials in recordings, before anything has parsed them.
	[ "$f" != user/source/mask.c ] || continue
	case $f in exporter/*) words=$(echo "$words" | sed 's/|grpc//; s/|http2?//') ;; esac
	strip=strip_comments
	case $f in user/enrich/*) strip=strip_c ;; esac # its strings name programs: a broker is called after what it speaks
	out=$($strip "$f" | grep -iE "(^[0-9]+:|[^a-zA-Z0-9])_?($words)([^a-zA-Z0-9]|\$)" | sed "s#^#$f:#")
	[ -z "$out" ] || complain "a protocol's name outside user/proto:"$'\n'"$out"
done < <(list_files 'bpf/*.[ch]' 'exporter/*.[ch]' 'user/source/*' 'user/stream/*' 'user/match/*' 'user/enrich/*' \
	'user/sample/*' 'user/batch/*' 'user/runtime/*' 'user/model/*' 'user/loader/*')

exit $failed
