# Starts Redis for evaluation, as an ordinary user with a read-only root file system, in memory only. Only shell builtins are used.
#
#   REDIS_PASSWORD_FILE    a file with the password of the user default; required. It reaches the server on its standard input, so it
#                          stands neither in a file nor among the arguments of a process
#   REDIS_PORT             default 6379
#   REDIS_MAXMEMORY        default 64mb; then keys with a time to live go first
set -eu

if [ -z "${REDIS_PASSWORD_FILE:-}" ] || [ ! -r "$REDIS_PASSWORD_FILE" ]; then
  echo "REDIS_PASSWORD_FILE must name a readable file with the password" >&2
  exit 2
fi
read -r password <"$REDIS_PASSWORD_FILE" || [ -n "$password" ]
case "$password" in
  '' | *[!A-Za-z0-9_-]*)
    echo "the password must consist of letters, digits, _ and -" >&2
    exit 2 ;;
esac

exec redis-server - <<EOF
port ${REDIS_PORT:-6379}
bind * -::*
requirepass $password
dir /tmp
save ""
appendonly no
maxmemory ${REDIS_MAXMEMORY:-64mb}
maxmemory-policy volatile-lru
EOF
