# Sourced by the scripts that work in Debians of other versions than the
# machine's: $debians/N has PostgreSQL N.  They need root, and are killed with
# all that they have started when a signal ends them.

. "$(dirname "$0")/common.sh"
export LC_ALL=C

debians=${SUPERVISOR_VERSIONS:-/var/cache/supervisor}

# What is passed on: into the Debian, too.
settings=()
for var in PROVE_TESTS PROVE_FLAGS VALGRIND_OPTS "${!PG_TEST_@}"; do
	[ -z "${!var:-}" ] || settings+=("$var=${!var}")
done
# another directory may not be there
[ "${TMPDIR:-}" != /dev/shm ] || settings+=(TMPDIR=/dev/shm)

not_to_be_had() {
	say "$*"
	exit 77
}

# Goes on as root.
become_root() {
	[ "$(id -u)" -ne 0 ] || return 0
	command -v sudo >/dev/null || not_to_be_had "this needs root, and there is no sudo"
	exec sudo env SUPERVISOR_VERSIONS="$debians" "${settings[@]}" "$0" "$@"
}

# Runs a command in namespaces of its own: its mounts and processes end with it, however it ends.
in_namespaces() {
	local job= status=0
	trap '[ -z "$job" ] || kill -KILL "$job"; exit 130' INT TERM HUP
	unshare --mount --pid --fork --kill-child --mount-proc "$@" &
	job=$!
	wait "$job" || status=$?
	return "$status"
}

# Mounts what programs there need.
mount_in() {
	mount -t proc proc "$1/proc"
	mount --rbind /dev "$1/dev"
	mount -t tmpfs tmpfs "$1/dev/shm"
}

copy_source() {
	rm -rf --one-file-system "$1/supervisor"
	mkdir "$1/supervisor"
	tar -C "$root" --exclude=./.git --exclude=./.build --exclude=./tmp_check --exclude='*.o' --exclude='*.so' -cf - . |
		tar -C "$1/supervisor" --no-same-owner -xf -
}

# Runs commands in the copy of the source there.
enter() {
	chroot "$1" env -i PATH=/usr/sbin:/usr/bin:/sbin:/bin HOME=/root LC_ALL=C.UTF-8 DEBIAN_FRONTEND=noninteractive \
		"${settings[@]}" bash -euo pipefail -c "cd /supervisor; $2" </dev/null
}
