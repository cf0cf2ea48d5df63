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

# Ends the servers whose data directories are given, if they run.
stop_servers() {
	local data
	for data; do
		if [ -f "$data/postmaster.pid" ]; then
			as_server "$("$PG_CONFIG" --bindir)/pg_ctl" -s -D "$data" -m immediate stop || true
		fi
	done
}

# Prints the major version of the distribution's server.
distribution_version() {
	apt-cache depends postgresql | sed -n 's/.*Depends: postgresql-\([0-9]*\)$/\1/p' | head -n 1
}
