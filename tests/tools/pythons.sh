#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Further builds of CPython, for `make runtimes` and `make accuracy`: those that a Java project ships (shared libpython,
# no distribution's), and Debian's others in a root of their own (static, stripped, another libc). Each becomes
# DIRECTORY/VERSION/python3, which runs with this machine's /tmp, /proc and files of the project, the latter in a mount
# namespace and a root as a container has them. Says what could not be had; that is no error. Usage: pythons.sh DIRECTORY
set -eu

out=$(mkdir -p "$1" && cd "$1" && pwd)
project=$(cd "$(dirname "$0")/../.." && pwd)
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
trap 'exit 1' INT TERM HUP

install_missing() {
	missing=
	for p in "$@"; do
		[ "$(dpkg-query -W -f='${db:Status-Status}' "$p" 2>/dev/null)" = installed ] || missing="$missing $p"
	done
	[ -n "$missing" ] || return 0
	# shellcheck disable=SC2086 # a list
	apt-get -qq update && DEBIAN_FRONTEND=noninteractive apt-get -qq install -y --no-install-recommends $missing >/dev/null
}

from_java() { # VERSION BUILD
	dir=$out/$1
	[ ! -x "$dir/python3" ] || return 0
	echo "  PYTHON  $1"
	command -v mvn >/dev/null || install_missing maven
	command -v unzip >/dev/null || install_missing unzip
	(cd "$work" && mvn -B -q dependency:copy "-Dartifact=org.bytedeco:cpython:$1-$2:jar:linux-x86_64" -DoutputDirectory=.) || return 1
	mkdir -p "$dir"
	unzip -qo "$work/cpython-$1-$2-linux-x86_64.jar" -d "$dir" || return 1
	rm "$work/cpython-$1-$2-linux-x86_64.jar"
	home=$dir/org/bytedeco/cpython/linux-x86_64
	chmod +x "$home"/bin/*
	cat >"$dir/python3" <<EOF
#!/bin/sh
PYTHONHOME=$home LD_LIBRARY_PATH=$home exec $home/bin/python${1%.*} "\$@"
EOF
	chmod +x "$dir/python3"
}

from_debian() { # SUITE SERIES
	dir=$out/$1
	[ ! -x "$dir/python3" ] || return 0
	echo "  PYTHON  $2 of $1"
	install_missing mmdebstrap
	mirror=$(awk '$1 == "URIs:" { print $2; exit } $1 == "deb" { print $2 ~ /^\[/ ? $3 : $2; exit }' \
		/etc/apt/sources.list.d/*.sources /etc/apt/sources.list.d/*.list /etc/apt/sources.list 2>/dev/null)
	rm -rf "$dir"
	mkdir -p "$dir"
	mmdebstrap --quiet --variant=extract --aptopt='Acquire::Check-Valid-Until "false"' \
		--include="base-files,python$2,libpython$2-stdlib" "$1" "$dir/root" "deb $mirror $1 main" 2>"$work/log" || {
		tail -3 "$work/log" >&2
		rm -rf "$dir"
		return 1
	}
	for d in proc dev tmp "$project"; do
		mkdir -p "$dir/root/$d"
	done
	cat >"$dir/python3" <<EOF
#!/bin/sh
exec unshare --mount sh -c 'cd / && for d in proc dev tmp ${project#/}; do mount --rbind /\$d "\$0/\$d" || exit; done
exec chroot "\$0" /usr/bin/python$2 "\$@"' '$dir/root' "\$@"
EOF
	chmod +x "$dir/python3"
}

# What their ctypes was linked with has left this distribution.
lend_libffi() { # VERSION
	home=$out/$1/org/bytedeco/cpython/linux-x86_64
	"$out/$1/python3" -c 'import ctypes' 2>/dev/null || cp -a "$out"/bullseye/root/usr/lib/*/libffi.so.7* "$home"
}

builds="3.9.6:1.5.6 3.10.8:1.5.8 3.11.3:1.5.9 3.12.1:1.5.10 3.13.5:1.5.12 3.14.3:1.5.13"
for build in $builds; do
	from_java "${build%:*}" "${build#*:}" || echo "pythons.sh: CPython ${build%:*}: could not be had" >&2
done
for suite in bullseye:3.9 trixie:3.13 sid:3.14; do
	from_debian "${suite%:*}" "${suite#*:}" || echo "pythons.sh: CPython of ${suite%:*}: could not be had" >&2
done
for build in $builds; do
	lend_libffi "${build%:*}" || echo "pythons.sh: CPython ${build%:*}: has no ctypes" >&2
done
