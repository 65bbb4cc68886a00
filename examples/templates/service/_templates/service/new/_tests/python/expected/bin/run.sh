#!/bin/sh
# Runs the service on this machine.
set -eu
cd "$(dirname "$0")/.."
export PORT="${PORT:-8080}"
exec python3 -m app.main
