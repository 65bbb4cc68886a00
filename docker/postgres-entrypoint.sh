# Starts PostgreSQL for evaluation, as an ordinary user with a read-only root file system. Only shell builtins are used.
#
#   POSTGRES_DATA (/data)     a volume for the database (made on first start)
#   POSTGRES_RUN              a small writable volume for the socket (/run/postgresql); /tmp is the other one
#   POSTGRES_PASSWORD_FILE    a file with the password; required
#   POSTGRES_LOGIN            the operator's login, set up at every start with bootstrap.sql: it is no superuser, and the superuser
#                             cannot come in over the network. Empty: the password is the superuser's
#   POSTGRES_BOOTSTRAP        where bootstrap.sql is (/usr/local/share/unjucks/bootstrap.sql); databases.sql is beside it
#   POSTGRES_DB               a database to make on first start (default: unjucks)
#   POSTGRES_TLS_DIR          a folder with tls.crt and tls.key (readable by this user only): TLS is then on
# Arguments are handed to the server, for example: -c max_connections=200
set -eu

for folder in /usr/lib/postgresql/*/bin; do PATH="$folder:$PATH"; done
export PATH
data="${POSTGRES_DATA:-/data}"
database="${POSTGRES_DB:-unjucks}"
login="${POSTGRES_LOGIN:-}"

if [ -z "${POSTGRES_PASSWORD_FILE:-}" ] || [ ! -r "$POSTGRES_PASSWORD_FILE" ]; then
  echo "POSTGRES_PASSWORD_FILE must name a readable file with the password" >&2
  exit 2
fi
case "$login" in *[!a-z0-9_]*)
  echo "POSTGRES_LOGIN must consist of lower-case letters, digits and _" >&2
  exit 2 ;;
esac

# $1 as an SQL literal
literal() {
  rest=$1 done=
  while :; do
    case $rest in
      *\'*) done="$done${rest%%\'*}''" rest=${rest#*\'} ;;
      *) break ;;
    esac
  done
  printf "'%s'" "$done$rest"
}

# Runs the SQL on stdin without a server, in one transaction; an empty line would end a statement, so there are none.
alone() {
  postgres --single -j -D "$PGDATA" -c jit=off -c exit_on_error=on -c log_min_error_statement=panic \
    -c password_encryption=scram-sha-256 "$1" >/dev/null
}

# $data/current names the finished database and is written last: a first start that was cut off is done again elsewhere.
if [ -s "$data/current" ]; then
  read -r name <"$data/current"
  PGDATA="$data/$name"
else
  number=1
  while [ -e "$data/pgdata$number" ]; do number=$((number + 1)); done
  PGDATA="$data/pgdata$number"
  echo "making a new database in $PGDATA"
  initdb --pgdata="$PGDATA" --username=postgres --pwfile="$POSTGRES_PASSWORD_FILE" --auth-local=peer \
    --auth-host=scram-sha-256 --encoding=UTF8 --locale=C.UTF-8 --data-checksums --no-instructions
  # A server without clients goes on counting where initdb stopped, below 16384, and what is numbered there counts as PostgreSQL's own:
  # row security is ignored on it. So the count is set to where it would be after a first real start.
  pg_resetwal -o 16384 -D "$PGDATA" >/dev/null
  printf 'CREATE DATABASE "%s"\n' "$database" | alone postgres
  echo "pgdata$number" >"$data/current"
fi

{
  # Local connections of this very user are the superuser's: only processes inside this container have them.
  echo "local all postgres peer map=own"
  if [ -n "$login" ]; then echo "host all postgres all reject"; fi
  echo "host all all all scram-sha-256"
} >"$PGDATA/pg_hba.conf"
echo "own unjucks postgres" >"$PGDATA/pg_ident.conf"

if [ -n "$login" ]; then
  read -r password <"$POSTGRES_PASSWORD_FILE" || [ -n "$password" ]
  bootstrap=${POSTGRES_BOOTSTRAP:-/usr/local/share/unjucks/bootstrap.sql}
  for file in "$bootstrap" "${bootstrap%/*}/databases.sql"; do
    while IFS= read -r line || [ -n "$line" ]; do
      if [ -n "$line" ]; then printf '%s\n' "$line"; fi
    done <"$file"
  done | alone "$database"
  printf '%s\n' \
    "DO \$\$ BEGIN IF NOT EXISTS (SELECT FROM pg_roles WHERE rolname = '$login') THEN CREATE ROLE $login; END IF; END \$\$;" \
    "ALTER ROLE $login LOGIN INHERIT NOSUPERUSER NOCREATEROLE NOCREATEDB PASSWORD $(literal "$password");" \
    "GRANT unjucks_service TO $login;" \
    "ALTER ROLE postgres PASSWORD NULL;" \
    "REVOKE CONNECT ON DATABASE postgres, template1 FROM PUBLIC;" | alone "$database"
fi

if [ -n "${POSTGRES_TLS_DIR:-}" ]; then
  set -- -c ssl=on -c ssl_cert_file="$POSTGRES_TLS_DIR/tls.crt" -c ssl_key_file="$POSTGRES_TLS_DIR/tls.key" "$@"
fi
exec postgres -D "$PGDATA" -c listen_addresses='*' -c unix_socket_directories="${POSTGRES_RUN:-/run/postgresql}" -c jit=off \
  -c password_encryption=scram-sha-256 -c logging_collector=off "$@"
