#!/usr/bin/env bash
# Two talkers, four microphones, 8 kHz: digit strings and short commands spoken by
# espeak-ng voices (nothing to download), or real digits: --corpus fsdd|audiomnist --corpus_dir DIR.
# Options and stages: ../../run.sh --help, --list.
exec "$(dirname "${BASH_SOURCE[0]}")/../../run.sh" --recipe_dir "$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)" "$@"
