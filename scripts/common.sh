# Sourced by the other scripts.

set -euo pipefail

root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)

say() { printf '%s\n' "$*" >&2; }
die() { say "error: $*"; exit 1; }

# Runs a command as root.
as_root() {
	if [ "$(id -u)" -eq 0 ]; then
		"$@"
	elif command -v sudo >/dev/null; then
		sudo "$@"
	else
		die "this needs root, and there is no sudo; run as root: $*"
	fi
}

# Runs apt-get, and shows what it says only if it fails.
apt() {
	local said
	said=$(as_root env DEBIAN_FRONTEND=noninteractive \
		apt-get -qq -o DPkg::Lock::Timeout=120 "$@" </dev/null 2>&1) && return
	say "$said"
	return 1
}

# Who runs servers: PostgreSQL refuses to run as root.
server_user() {
	if [ "$(id -u)" -ne 0 ]; then
		id -un
	elif id postgres >/dev/null 2>&1; then
		echo postgres
	else
		echo nobody
	fi
}

# Runs a command as that user.
as_server() {
	local user
	if [ "$(id -u)" -ne 0 ]; then
		"$@"
	else
		user=$(server_user)
		setpriv --reuid="$user" --regid="$(id -g "$user")" --init-groups "$@"
	fi
}

# Makes a directory $work, with this in its name.  When this script ends, however
# it ends, so do the job and the servers in that directory, and it goes.
make_work() {
	work=$(mktemp -d "${TMPDIR:-/tmp}/supervisor-$1.XXXXXX")
	job=
	trap end_work EXIT
	trap 'exit 130' INT
	trap 'exit 143' TERM HUP
}

end_work() {
	local data
	trap '' INT TERM HUP
	if [ -n "$job" ]; then
		kill -TERM -- "-$job" 2>/dev/null && wait "$job" 2>/dev/null || true
	fi
	find "$work" -name postmaster.pid -printf '%h\n' | while IFS= read -r data; do
		[ ! -f "$data/postmaster.pid" ] || as_server "$("$PG_CONFIG" --bindir)/pg_ctl" -s -D "$data" -m immediate stop </dev/null || true
	done
	rm -rf "$work"
}

# Runs the job: in a process group of its own, so that a signal to this script can end it at any time.
run_job() {
	local status=0
	set -m
	"$@" </dev/null &
	job=$!
	set +m
	wait "$job" || status=$?
	job=
	return "$status"
}

# What make was started with is not for one that a script runs, nor a user's
# settings of psql and libpq for its servers; except those that match $1.
forget_settings() {
	local var
	unset MAKEFLAGS MFLAGS MAKELEVEL MAKEOVERRIDES
	for var in "${!PG@}"; do
		[[ $var = PG_CONFIG || $var = ${1:-} ]] || unset "$var"
	done
}

# Prints the major version of the distribution's server.
distribution_version() {
	apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}
