#!/usr/bin/env bash
# Multi-channel Libri2Mix, reverberant, max mode: train-clean-360 unlabelled, train-clean-100 labelled.
#   ./run.sh --librispeech DIR [--fs 16000] [--librimix_metadata DIR] [--noise_dir DIR] [--on_the_fly true]
#   ./run.sh --librispeech DIR --size cpu        stand-in sizes, hours on 2 cores
#   ./run.sh --dry_run true                      what the full size would make, and whether it fits
# Options and stages: ../../run.sh --help, --list.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
exec "$here/../../run.sh" --recipe_dir "$here" --corpus librispeech --own_corpus librispeech "$@"
