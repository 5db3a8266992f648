#!/bin/bash
# SPDX-License-Identifier: GPL-2.0-only OR BSD-2-Clause
# Makes vmlinux/x86/vmlinux.h and vmlinux/arm64/vmlinux.h from types.txt and a kernel's BTF.
#
#   vmlinux/gen.sh                    both, from Debian's kernel packages of $SUITE
#   vmlinux/gen.sh x86                one of them
#   vmlinux/gen.sh x86 FILE           from a file: raw BTF (/sys/kernel/btf/vmlinux), vmlinux, vmlinuz, Image
#
# Packages come through apt, with lists, status and cache of its own under $CACHE: the machine's apt is not touched.
# Only its first Debian mirror and its keyring are used. Set MIRROR to use another one.
set -euo pipefail

SUITE=${SUITE:-trixie}
CACHE=${CACHE:-${TMPDIR:-/tmp}/wirespan-kernels}
HERE=$(cd "$(dirname "$0")" && pwd)

die() {
	echo "gen.sh: $*" >&2
	exit 1
}

# Empty output with status 0 where nothing is configured.
first_mirror() {
	{
		cat /etc/apt/sources.list.d/*.sources 2>/dev/null |
			sed -n 's/^URIs: *\([^ ]*debian\/\{0,1\}\)\( .*\)\{0,1\}$/\1/p'
		cat /etc/apt/sources.list /etc/apt/sources.list.d/*.list 2>/dev/null |
			sed -n 's/^deb \(\[[^]]*\] \)\{0,1\}\([^ ]*debian\/\{0,1\}\) .*/\2/p'
	} | head -n1
}

# $1 Debian architecture. Writes an apt configuration that knows nothing of this machine, prints its path.
make_apt_conf() {
	local dir=$CACHE/$SUITE-$1 mirror
	mirror=${MIRROR:-$(first_mirror)}
	[ -n "$mirror" ] || die "no Debian mirror configured in /etc/apt: set MIRROR"
	mkdir -p "$dir/lists/partial" "$dir/cache/archives/partial"
	: >"$dir/status"
	echo "deb [signed-by=/usr/share/keyrings/debian-archive-keyring.gpg] $mirror $SUITE main" >"$dir/sources.list"
	cat >"$dir/apt.conf" <<-CONF
		APT::Architecture "$1";
		APT::Architectures { "$1"; };
		#clear APT::Update::Post-Invoke;
		Dir::State::lists "$dir/lists";
		Dir::State::status "$dir/status";
		Dir::Cache "$dir/cache";
		Dir::Etc::sourcelist "$dir/sources.list";
		Dir::Etc::sourceparts "-";
		APT::Sandbox::User "";
	CONF
	echo "$dir/apt.conf"
}

# $1 Debian architecture. Prints the path of a kernel image taken out of the suite's newest plain cloud kernel:
# the same types as the full one, at a third of the size.
fetch_kernel() {
	local conf dir=$CACHE/$SUITE-$1 meta pkg
	conf=$(make_apt_conf "$1")
	meta=linux-image-cloud-$1
	APT_CONFIG=$conf apt-get -qq update >&2
	pkg=$(APT_CONFIG=$conf apt-cache depends "$meta" |
		sed -n 's/^ *Depends: \(linux-image-[0-9].*\)/\1/p' | head -n1)
	[ -n "$pkg" ] || die "$SUITE has no $meta"
	if ! [ -d "$dir/$pkg" ]; then
		(cd "$dir" && APT_CONFIG=$conf apt-get -qq download "$pkg" >&2)
		dpkg-deb -x "$dir/$pkg"_*.deb "$dir/$pkg.part"
		mv "$dir/$pkg.part" "$dir/$pkg"
		rm -f "$dir/$pkg"_*.deb
	fi
	find "$dir/$pkg" -name 'vmlinuz*' -type f | head -n1
}

# $1 architecture in our words, $2 file or nothing
generate() {
	local arch=$1 image=${2:-} deb
	case $arch in
	x86) deb=amd64 ;;
	arm64) deb=arm64 ;;
	*) die "unknown architecture $arch: x86 or arm64" ;;
	esac
	[ -n "$image" ] || image=$(fetch_kernel "$deb")
	[ -n "$image" ] || die "no kernel image in the package for $deb"
	mkdir -p "$HERE/$arch"
	python3 "$HERE/gen.py" --types "$HERE/types.txt" --output "$HERE/$arch/vmlinux.h" "$image"
}

if [ $# -eq 0 ]; then
	generate x86
	generate arm64
else
	generate "$@"
fi
