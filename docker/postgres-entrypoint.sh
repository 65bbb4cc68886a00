# Starts PostgreSQL for evaluation, as an ordinary user with a read-only root file system. Only shell builtins are used.
#
#   /data                     a volume for the database (made on first start)
#   /run/postgresql, /tmp     small writable volumes
#   POSTGRES_PASSWORD_FILE    a file with the superuser's password; required
#   POSTGRES_DB               a database to make on first start (default: unjucks)
#   POSTGRES_TLS_DIR          a folder with tls.crt and tls.key (readable by this user only): TLS is then on
# Arguments are handed to the server, for example: -c max_connections=200
set -eu

for folder in /usr/lib/postgresql/*/bin; do PATH="$folder:$PATH"; done
export PATH

if [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || [ ! -r "$POSTGRES_PASSWORD_FILE" ]; then
  echo "POSTGRES_PASSWORD_FILE must name a readable file with the superuser's password" >&2
  exit 2
fi

# /data/current names the finished database and is written last: a first start that was cut off is done again elsewhere.
if [ -s /data/current ]; then
  read -r name </data/current
  PGDATA="/data/$name"
else
  number=1
  while [ -e "/data/pgdata$number" ]; do number=$((number + 1)); done
  PGDATA="/data/pgdata$number"
  echo "making a new database in $PGDATA"
  initdb --pgdata="$PGDATA" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=peer \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-instructions
  # Local connections of this very user are the superuser's: only processes inside this container have them.
  echo "local all postgres peer map=own" >"$PGDATA/pg_hba.conf"
  echo "host all all all scram-sha-256" >>"$PGDATA/pg_hba.conf"
  echo "own unjucks postgres" >"$PGDATA/pg_ident.conf"
  echo "CREATE DATABASE \"${POSTGRES_DB:-unjucks}\"" | postgres --single -D "$PGDATA" -c jit=off postgres >/dev/null
  echo "pgdata$number" >/data/current
fi

if [ -n "${POSTGRES_TLS_DIR:-}" ]; then
  set -- -c ssl=on -c ssl_cert_file="$POSTGRES_TLS_DIR/tls.crt" -c ssl_key_file="$POSTGRES_TLS_DIR/tls.key" "$@"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories=/run/postgresql -c jit=off \
  -c password_encryption=scram-sha-256 -c logging_collector=off "$@"
