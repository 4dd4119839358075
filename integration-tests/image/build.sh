#!/usr/bin/env bash
# Makes a PostgreSQL image out of the server that is installed on this machine, for places where
# no registry can be reached. Usage: integration-tests/image/build.sh [NAME:TAG]
# Prints the image's name on stdout, everything else on stderr. An image that was made from the
# same scripts and the same server is kept.
set -euo pipefail

here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
label=runledger.test.made-from

say() { echo "image: $*" >&2; }
fail() {
    say "$*"
    exit 1
}

server=$(printf '%s\n' /usr/lib/postgresql/* | sort -V | tail -n 1)
[ -x "$server/bin/postgres" ] ||
    fail "no PostgreSQL server under /usr/lib/postgresql: install Debian's package postgresql"
docker info >/dev/null 2>&1 || fail "no Docker engine answers: start one, or set DOCKER_HOST"
version=${server##*/}
image=${1:-runledger-test-postgres:$version}
made_from=$({ cat "$here"/{build.sh,entrypoint.sh,Dockerfile} && "$server/bin/postgres" --version; } | sha256sum | cut -c1-16)

if [ "$(docker image inspect -f "{{index .Config.Labels \"$label\"}}" "$image" 2>/dev/null)" = "$made_from" ]; then
    say "$image is up to date"
    echo "$image"
    exit 0
fi

umask 022
root=$(mktemp -d)
chmod 755 "$root"
trap 'rm -rf "$root"' EXIT

# Copies a file to the same place below the root, links on the way resolved.
copy() {
    local folder
    folder=$(realpath "$(dirname "$1")")
    mkdir -p "$root$folder"
    cp -L --preserve=mode "$1" "$root$folder/$(basename "$1")"
}

mkdir -p "$root"/{etc,proc,sys,dev,run/postgresql,var/lib/postgresql,usr/bin,usr/lib,usr/lib64}
mkdir -m 1777 "$root/tmp"
ln -s /run "$root/var/run"
ln -s usr/bin "$root/bin"
ln -s usr/lib "$root/lib"
ln -s usr/lib64 "$root/lib64"

# The server, without what only compiling queries or extensions needs.
mkdir -p "$root$server" "$root/usr/share/postgresql" "$root/usr/lib/locale"
cp -a "$server/bin" "$server/lib" "$root$server/"
rm -rf "$root$server"/lib/{bitcode,pgxs,llvmjit.so,llvmjit_types.bc}
ln -s "$version/bin" "$root/usr/lib/postgresql/bin"
cp -a "/usr/share/postgresql/$version" "$root/usr/share/postgresql/"
cp -a /usr/share/zoneinfo "$root/usr/share/"
cp -a /usr/lib/locale/C.utf8 "$root/usr/lib/locale/"

# The shell is dash by name: busybox's static one crashes when it looks a name up.
copy "$(realpath /bin/sh)"
[ -e "$root/usr/bin/sh" ] || ln -s "$(basename "$(realpath /bin/sh)")" "$root/usr/bin/sh"
for tool in cat chmod chown cp env id ls mkdir rm setpriv sleep tar; do copy "$(command -v "$tool")"; done

# Libraries: what ldd names for every program and extension that was copied.
find "$root" -type f \( -path '*/bin/*' -o -name '*.so' -o -name '*.so.*' \) -print0 |
    xargs -0 -n 64 ldd 2>/dev/null |
    grep -oE '(^|[[:space:]])/[^ :]+' | tr -d '[:blank:]' | grep -vF "$root" | sort -u |
    while read -r library; do copy "$library"; done

# A cluster made here: initdb reads and writes some thousand small files, slow in a container.
cluster=$(mktemp -d)
trap 'rm -rf "$root" "$cluster"' EXIT
as_server=()
if [ "$(id -u)" = 0 ]; then
    # initdb refuses root; whoever owns the files here, they are the server's in the image.
    chown nobody "$cluster"
    as_server=(setpriv --reuid=nobody --clear-groups)
fi
TZ=UTC "${as_server[@]}" "$server/bin/initdb" -D "$cluster" -U postgres -E UTF8 --locale=C.UTF-8 --auth=trust --no-sync >/dev/null
echo "listen_addresses = '*'" >>"$cluster/postgresql.conf"
tar -C "$cluster" --owner=999 --group=999 -cf "$root/cluster.tar" .

printf 'root:x:0:0:root:/root:/bin/sh\npostgres:x:999:999::/var/lib/postgresql:/bin/sh\n' >"$root/etc/passwd"
printf 'root:x:0:\npostgres:x:999:\n' >"$root/etc/group"
printf 'passwd: files\ngroup: files\nhosts: files dns\n' >"$root/etc/nsswitch.conf"
chmod 644 "$root"/etc/*
install -m 755 "$here/entrypoint.sh" "$root/entrypoint.sh"

tar -C "$root" --owner=0 --group=0 -c . | docker import - runledger-test-postgres:base >&2
# The classic builder takes a FROM that is only on this engine; buildkit would ask a registry.
DOCKER_BUILDKIT=0 docker build -q --label "$label=$made_from" -t "$image" - <"$here/Dockerfile" >&2
docker image rm runledger-test-postgres:base >/dev/null
say "made $image from $("$server/bin/postgres" --version)"
echo "$image"
