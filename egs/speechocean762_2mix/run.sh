#!/usr/bin/env bash
# Two talkers, four microphones, real read English: speechocean762 (OpenSLR 101), given by --corpus_dir DIR.
# --size cpu (hours on 2 cores), gpu (with --ngpu 1 --asr_config asr_gpu) or tiny (for the tests).
# Options and stages: ../../run.sh --help, --list.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../../run.sh" --recipe_dir "$here" --corpus speechocean762 --own_corpus speechocean762 \
  --size cpu --own_size cpu "$@"
