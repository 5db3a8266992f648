#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Installs what building and testing need on Debian 12 and 13; says nothing and costs nothing when it
# is there. Usage: deps.sh OUTPUT-DIRECTORY [arm64] (the Python environment goes to OUTPUT-DIRECTORY/venv;
# arm64: also a compiler and a machine for the arm64 row of the kernel matrix).
set -eu

out=$1
here=$(cd "$(dirname "$0")/.." && pwd)
stamp=$out/.deps${2:+-$2}.stamp
want=$(cat "$0" "$here/requirements.txt" | sha256sum)

[ "$(cat "$stamp" 2>/dev/null)" != "$want" ] || [ ! -x "$out/venv/bin/python" ] || exit 0

# Building: compilers, libbpf, OTLP, options.
build="gcc make pkg-config git clang llvm bpftool libbpf-dev libelf-dev zlib1g-dev libcap-dev
	libcurl4-openssl-dev libprotobuf-c-dev protobuf-c-compiler libjansson-dev libyaml-dev
	libmicrohttpd-dev uthash-dev"
# Testing: unit tests and fuzzers, then the real peers, then the tools that pose them.
tests="libcmocka-dev liburing-dev libclang-rt-dev clang-format nginx wrk curl wget nodejs haproxy postgresql
	python3 python3-venv iproute2 iptables openssl libssl-dev strace gdb shellcheck procps util-linux libcap2-bin"
# Virtual machines with other kernels.
tests="$tests qemu-system-x86 busybox-static kmod zstd"
[ "${2:-}" != arm64 ] || tests="$tests qemu-system-arm gcc-aarch64-linux-gnu"
# The Collector is written in Go; any Go on the PATH does.
PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || tests="$tests golang-go"

missing=
for p in $build $tests; do
	[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
done

if [ -n "$missing" ]; then
	[ "$(id -u)" = 0 ] || { echo "make deps: not installed:$missing: run it as root" >&2; exit 1; }
	echo "  APT     $missing"
	# A package that brings a daemon must not start it: the tests run their own, elsewhere.
	policy=/usr/sbin/policy-rc.d
	if [ ! -e $policy ]; then
		printf '#!/bin/sh\nexit 101\n' >$policy
		chmod +x $policy
		trap 'rm -f $policy' EXIT
		trap 'exit 1' INT TERM HUP
	fi
	log=$(mktemp)
	export DEBIAN_FRONTEND=noninteractive
	# shellcheck disable=SC2086 # a list
	{ apt-get -qq update && apt-get -qq install -y --no-install-recommends $missing; } >"$log" 2>&1 || {
		tail -20 "$log" >&2
		echo "make deps: apt-get failed, see $log" >&2
		exit 1
	}
	rm -f "$log"
fi

mkdir -p "$out"
if ! cmp -s "$here/requirements.txt" "$out/venv/.requirements"; then
	echo "  VENV    $out/venv"
	rm -rf "$out/venv"
	# Debian's own interpreter: stripped, as the one that services run in production.
	/usr/bin/python3 -m venv "$out/venv"
	"$out/venv/bin/pip" install -q --disable-pip-version-check -r "$here/requirements.txt"
	cp "$here/requirements.txt" "$out/venv/.requirements"
fi
echo "$want" >"$stamp"
