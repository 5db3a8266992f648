#!/bin/sh
# SPDX-License-Identifier: Apache-2.0
# Process 1 of a guest. Stage 1, in the initramfs: the host's files, read-only, under a tmpfs. Stage 2, in them:
# what a machine has mounted after boot, then the command, then power off. What to do is in the initramfs's /run:
# "settings" (variables), "environment" (export lines), "command". What happens is told on the control port.
# shellcheck disable=SC1090,SC1091,SC2154 # files of the guest, and variables in them
export PATH=/bin:/sbin:/usr/bin:/usr/sbin

say() { echo "$*" >"$control"; }

give_up() {
	echo "init: $*"
	[ -z "$control" ] || say "failed $*"
	sleep 1
	poweroff -f
}

mount_cgroups() {
	if [ "$cgroup" = 2 ]; then
		mount -t cgroup2 none /sys/fs/cgroup || give_up "cgroup v2"
		return
	fi
	# As machines have it that still use v1: one hierarchy per controller, and v2 without controllers beside them.
	mount -t tmpfs -o mode=755 none /sys/fs/cgroup
	awk '!/^#/ && $4 == 1 { print $1 }' /proc/cgroups | while read -r c; do
		mkdir "/sys/fs/cgroup/$c"
		mount -t cgroup -o "$c" none "/sys/fs/cgroup/$c" || rmdir "/sys/fs/cgroup/$c"
	done
	mkdir /sys/fs/cgroup/unified
	mount -t cgroup2 none /sys/fs/cgroup/unified || give_up "cgroup v1"
}

stage1() {
	/bin/busybox --install -s
	mount -t proc none /proc
	mount -t sysfs none /sys
	mount -t devtmpfs none /dev
	for m in /modules/*; do
		[ ! -e "$m" ] || insmod "$m" || give_up "$m cannot be loaded"
	done
	# Ports show up some time after their driver.
	n=0
	while [ ! -e /dev/vport0p1 ] || [ ! -e /dev/vport0p3 ]; do
		n=$((n + 1))
		[ $n -lt 200 ] || give_up "no virtio ports"
		usleep 50000
	done
	control=/dev/vport0p1
	. /run/settings
	say init
	{ mount -t tmpfs -o mode=755 none /upper && mkdir /upper/upper /upper/work; } || give_up "tmpfs"
	mount -t 9p -o "ro,trans=virtio,version=9p2000.L,msize=$msize,cache=$cache" host /lower || give_up "9p"
	mount -t overlay -o lowerdir=/lower,upperdir=/upper/upper,workdir=/upper/work none /new || give_up "overlay"
	# What the caller works with may lie in a directory that is fresh in the guest.
	mkdir /held
	mount -o bind /new /held
	for d in /run /tmp /dev/shm; do
		[ $d = /dev/shm ] || mount -t tmpfs -o "mode=$([ $d = /tmp ] && echo 1777 || echo 755)" none /new$d
	done
	for d in $keep; do
		{ mkdir -p "/new$d" && mount -o bind "/held$d" "/new$d"; } || give_up "$d of the host"
	done
	umount /held
	mkdir -p /new/run/vm /new/lib/modules
	cp /init /bin/busybox /run/settings /run/environment /run/command /new/run/vm/
	for d in /proc /sys /dev; do mount -o move $d /new$d; done
	exec switch_root /new /run/vm/busybox sh /run/vm/init stage2
}

mount_rest() {
	mkdir -p /dev/pts /dev/shm /dev/mqueue /run/lock /run/user
	mount -t devpts -o gid=5,mode=620,ptmxmode=666 none /dev/pts
	mount -t tmpfs -o mode=1777 none /dev/shm
	mount -t mqueue none /dev/mqueue
	for d in fd:fd stdin:fd/0 stdout:fd/1 stderr:fd/2; do ln -sfn "/proc/self/${d#*:}" "/dev/${d%%:*}"; done
	mount -t bpf -o mode=700 none /sys/fs/bpf
	mount -t debugfs none /sys/kernel/debug
	mount -t tracefs none /sys/kernel/tracing
	mount -t securityfs none /sys/kernel/security
	mount_cgroups
	[ "$results" = 0 ] || {
		mkdir -p /run/vm/results
		mount -t 9p -o "trans=virtio,version=9p2000.L,msize=$msize,cache=none" results /run/vm/results ||
			give_up "results share"
	}
}

# Ticks come in real time, work is done thirty times slower: what a tick interrupts is in the middle of something
# thirty times as often. Kernels that preempt themselves (6.18 and later, by default) are given longer slices; without,
# spans go missing there, counted (README, "Known gaps").
calm_down() {
	sched=/sys/kernel/debug/sched
	[ "$calm" = 1 ] && [ -e $sched/base_slice_ns ] || return 0
	echo 100000000 >$sched/base_slice_ns
	echo NO_WAKEUP_PREEMPTION >$sched/features
}

# Everything but kernel threads, this process and what it uses: "pid command".
left_running() {
	self=$(tr '\0' ' ' </proc/1/cmdline)
	for p in /proc/[0-9]*; do
		pid=${p#/proc/}
		case " $relays " in *" $pid "*) continue ;; esac
		line=$(tr '\0' ' ' 2>/dev/null <"$p/cmdline") || continue
		[ -z "$line" ] || [ "$line" = "$self" ] || echo "$pid $line"
	done 2>/dev/null
}

run_command() {
	# A port can be opened once only, but the command may open its standard output again by name.
	mkfifo /run/vm/out /run/vm/err
	cat </run/vm/out >/dev/vport0p2 &
	relays=$!
	cat </run/vm/err >/dev/vport0p3 &
	relays="$relays $!"
	say ready
	# In one process: a port can be opened once only, and what it starts would look left behind.
	mkfifo /run/vm/beat
	# shellcheck disable=SC3045 # busybox runs this
	while ! read -r -t 5 _ <>/run/vm/beat; do say alive; done &
	beat=$!
	setsid sh /run/vm/run </dev/null >/run/vm/out 2>/run/vm/err &
	wait $!
	code=$?
	kill $beat
	wait $beat
	left=$(left_running)
	if [ -n "$left" ]; then
		echo "$left" | while read -r line; do say "left $line"; done
		echo "$left" | while read -r pid _; do kill -9 "$pid"; done 2>/dev/null
	fi
	# shellcheck disable=SC2086 # two
	wait $relays
}

run_shell() {
	say ready
	exec 3<>/dev/hvc0 # kept open: a terminal forgets its size when nobody has it open
	stty sane rows "$rows" cols "$columns" <&3
	setsid -c sh /run/vm/run <&3 >&3 2>&1 3>&-
	code=$?
}

stage2() {
	control=/dev/vport0p1
	. /run/vm/settings
	mkdir /run/vm/bin
	/run/vm/busybox --install -s /run/vm/bin
	export PATH="/run/vm/bin:$PATH"
	mount_rest
	calm_down
	ln -sfn "$modules" "/lib/modules/$(uname -r)"
	[ ! -e "$config" ] || [ -e "/boot/config-$(uname -r)" ] || ln -s "$config" "/boot/config-$(uname -r)"
	hostname vm
	ip link set lo up || give_up "the loopback interface"
	# The host's shell for the command: busybox's would take its own applets for the programs that are meant.
	cat >/run/vm/run <<-'END'
		. /run/vm/environment
		cd "$PWD" || exit 125
		exec /bin/sh /run/vm/command
	END
	if [ "$shell" = 1 ]; then run_shell; else run_command; fi
	sync
	say "exit $code"
	poweroff -f
}

if [ "$1" = stage2 ]; then stage2; else stage1; fi
