#!/bin/sh
# Runs the service on this machine.
set -eu
cd "$(dirname "$0")/.."
export PORT="${PORT:-3000}"
exec node src/server.js
