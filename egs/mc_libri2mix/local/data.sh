#!/usr/bin/env bash
# LibriSpeech -> speech sets OUT/{train,labelled,dev,test}. From the recipe directory: local/data.sh --help
set -euo pipefail
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
export PYTHONPATH="$here/../../..${PYTHONPATH:+:$PYTHONPATH}"
exec python "$here/libri_data.py" "$@"
