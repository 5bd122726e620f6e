#!/usr/bin/env bash
# Corpora -> speech sets OUT/{train,dev,test}. From the recipe directory: local/data.sh --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here/../../..${PYTHONPATH:+:$PYTHONPATH}"
exec python "$here/any_speech.py" "$@"
