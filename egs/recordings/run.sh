#!/usr/bin/env bash
# Your own unlabelled multi-channel recordings: teacher and student learn from them alone, or start from
# a model of another recipe; the recordings are separated and, with transcripts given, recognised.
# Options and stages: egs/recordings/run.sh --help, --list.
exec "$(dirname "${BASH_SOURCE[0]}")/local/recordings.sh" "$@"
