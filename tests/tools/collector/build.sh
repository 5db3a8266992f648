#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Builds the OpenTelemetry Collector of builder.yaml once per machine, and prints the path of the
# binary. It lives outside the build tree (a build takes minutes, `make clean` should not cost them):
# $WIRESPAN_CACHE, by default /var/cache/wirespan, or ~/.cache/wirespan where that cannot be written.
#
#	build.sh            build if needed, print the path
#	build.sh --path     print where it is or will be, build nothing
#
# Two builds at once: the second waits for the lock and finds the work done. The binary appears by
# rename, so a build that was interrupted leaves nothing that looks finished.
set -eu

here=$(cd "$(dirname "$0")" && pwd)
version=$(sed -n 's/^  version: //p' "$here/builder.yaml")
builder=v0.164.0 # the first builder that its proxy serves whole; it builds older components too
cache=${WIRESPAN_CACHE:-/var/cache/wirespan}
[ -n "${WIRESPAN_CACHE:-}" ] || mkdir -p "$cache" 2>/dev/null && [ -w "$cache" ] || cache=$HOME/.cache/wirespan
out=$cache/otelcol-$version/otelcol

[ "${1:-}" != --path ] || { echo "$out"; exit 0; }
[ ! -x "$out" ] || { echo "$out"; exit 0; }

command -v go >/dev/null || [ ! -x /usr/local/go/bin/go ] || PATH=$PATH:/usr/local/go/bin
command -v go >/dev/null || { echo "collector: no Go compiler: install Go 1.25 or later, or set PATH" >&2; exit 3; }

mkdir -p "$cache"
exec 9>"$cache/otelcol.lock"
flock 9
[ ! -x "$out" ] || { echo "$out"; exit 0; }

work=$(mktemp -d "$cache/build.XXXXXX")
trap 'chmod -R u+w "$work" 2>/dev/null; rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP
cp "$here/builder.yaml" "$work/"
cd "$work"
echo "collector: building $version, about seven minutes" >&2
{
	GOBIN=$work/bin go install "go.opentelemetry.io/collector/cmd/builder@$builder" &&
		"$work/bin/builder" --config builder.yaml --skip-strict-versioning
} >"$cache/otelcol.log" 2>&1 || {
	tail -20 "$cache/otelcol.log" >&2
	echo "collector: build failed, see $cache/otelcol.log" >&2
	exit 1
}
mkdir -p "$(dirname "$out")"
mv dist/otelcol "$out"
echo "$out"
