#!/usr/bin/env bash
# From nothing to the table: sets up .venv, then runs the stages of a recipe (frontend/pipeline/recipes.py).
#   ./run.sh             the embedded default, egs/mini; ./run.sh --quick: the same stages on less
#   ./run.sh --help      all options; --list: the stages and their state; --dry_run: every command, ready to paste
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
began=$SECONDS
bin=$("$root/local/install.sh" --extras mini)
export SETUP_SECONDS=$((SECONDS - began)) PATH="$bin:$PATH" PYTHONUNBUFFERED=1 MIXIT_COMMAND=${MIXIT_COMMAND:-$0}
export PYTHONPATH="$root${PYTHONPATH:+:$PYTHONPATH}"
exec python -m frontend run "$@"
