#!/bin/sh
# Starts PostgreSQL as the official image does, with the variables that tests use:
#   POSTGRES_USER (postgres), POSTGRES_PASSWORD, POSTGRES_DB (the user's name),
#   POSTGRES_HOST_AUTH_METHOD (scram-sha-256), PGDATA,
#   POSTGRES_PRIMARY_HOST, POSTGRES_PRIMARY_PORT (5432): follow that server as a streaming replica.
# Unlike there, no second server runs while the data folder is made, so the line "ready to
# accept connections" is printed once.
set -eu

fail() {
    echo "entrypoint: $1" >&2
    exit 1
}

user=${POSTGRES_USER:-postgres}
database=${POSTGRES_DB:-$user}
method=${POSTGRES_HOST_AUTH_METHOD:-scram-sha-256}

case "${1:-postgres}" in
-*) set -- postgres "$@" ;;
postgres) [ $# -gt 0 ] || set -- postgres ;;
*) exec "$@" ;;
esac

if [ "$(id -u)" = 0 ]; then
    mkdir -p "$PGDATA" /run/postgresql
    chown postgres:postgres "$PGDATA" /run/postgresql
    chmod 700 "$PGDATA"
    exec setpriv --reuid=postgres --regid=postgres --init-groups "$0" "$@"
fi

# Copies the primary, waiting until it answers.
follow_primary() {
    export PGPASSWORD="${POSTGRES_PASSWORD:-}"
    primary="host=$POSTGRES_PRIMARY_HOST port=${POSTGRES_PRIMARY_PORT:-5432} user=$user"
    tries=0
    until pg_isready -q -d "$primary"; do
        tries=$((tries + 1))
        [ $tries -lt 300 ] || fail "the primary $POSTGRES_PRIMARY_HOST does not answer"
        sleep 0.1
    done
    pg_basebackup -d "$primary" -D "$PGDATA" -X stream -c fast -R
}

# Unpacks the cluster that the image was built with (initdb takes seconds in a container) and adds
# the role and the databases that were asked for.
make_cluster() {
    [ -n "${POSTGRES_PASSWORD:-}" ] || [ "$method" = trust ] ||
        fail "set POSTGRES_PASSWORD, or POSTGRES_HOST_AUTH_METHOD=trust for a server without passwords"
    case "$user$database" in
    *[!A-Za-z0-9_-]*) fail "POSTGRES_USER and POSTGRES_DB take letters, digits, _ and - only" ;;
    esac
    tar -xf /cluster.tar -C "$PGDATA"
    {
        echo "local all all trust"
        echo "local replication all trust"
        echo "host all all all $method"
        echo "host replication all all $method"
    } >"$PGDATA/pg_hba.conf"
    statements=$(wanted_statements)
    [ -z "$statements" ] || echo "$statements" | postgres --single -D "$PGDATA" postgres >/dev/null
}

# One statement a line, as a single-user server reads them; nothing for the plain case.
wanted_statements() {
    [ "$user" = postgres ] || echo "CREATE ROLE \"$user\" SUPERUSER CREATEDB CREATEROLE REPLICATION LOGIN"
    [ -z "${POSTGRES_PASSWORD:-}" ] || echo "ALTER ROLE \"$user\" PASSWORD \$word\$$POSTGRES_PASSWORD\$word\$"
    [ "$user" = postgres ] || echo "CREATE DATABASE \"$user\" OWNER \"$user\""
    [ "$database" = postgres ] || [ "$database" = "$user" ] || echo "CREATE DATABASE \"$database\" OWNER \"$user\""
}

if [ ! -s "$PGDATA/PG_VERSION" ]; then
    if [ -n "${POSTGRES_PRIMARY_HOST:-}" ]; then follow_primary; else make_cluster; fi
fi
exec "$@"
