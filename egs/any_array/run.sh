#!/usr/bin/env bash
# The recipe of this folder: recipe.yaml says what it is. Options and stages: ../../run.sh --help, --list.
here=$(cd "$(dirname "${BASH_SOURCE[0]}")" && pwd)
MIXIT_COMMAND=${MIXIT_COMMAND:-$0} exec "$here/../../run.sh" --recipe "$here" "$@"
