#!/usr/bin/env bash
# One environment for everything: .venv in the repository, with CPU or CUDA torch as the machine has it.
#   local/install.sh [--extras mini,test,lint]
# Idempotent, and safe to interrupt: run it again. An active environment that is complete is used as it is.
# Prints the directory of the environment's programs on standard output; all else goes to standard error.
# It is made of the newest Python from 3.11 to 3.13 that can build packages (docs/versions.md), or of $PYTHON; in $MIXIT_VENV, if that is given.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=${MIXIT_VENV:-$root/.venv} extras=mini,test
say() { echo "install: $*" >&2; }; die() { say "error: $*"; exit 2; }
[ $# = 0 ] || { [ $# = 2 ] && [ "$1" = --extras ] && extras=$2; } || die "found '$*', expected --extras mini,test,lint or nothing"
supported() { "$1" -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' >/dev/null 2>&1; }
builds() { "$1" -c 'import ensurepip, os, sysconfig; os.stat(sysconfig.get_path("include") + "/Python.h")' >/dev/null 2>&1; }
python=${PYTHON:-}
for name in python3.13 python3.12 python3.11; do [ -n "$python" ] || ! builds "$name" || python=$name; done
python=${python:-python3}
command -v "$python" >/dev/null || die "no $python here; install Python 3.11 to 3.13, or name one: PYTHON=/path/to/python"
wrong() { "$1" "$root/local/check_install.py" "$root" "$extras" 2>&1; } # what is missing; exit code 0 if nothing is
unknown=$(wrong "$python") || [ $? != 2 ] || die "$unknown"
use_if_complete() { if wrong "$1/bin/python" >/dev/null; then echo "$1/bin"; exit 0; fi; }
wanted=$(cat "$root/setup.cfg" "$root/local/overrides.txt" "$root/local/constraints.txt" | cksum)
use_ours() { [ "$(cat "$venv/complete" 2>/dev/null)" != "$wanted" ] || use_if_complete "$venv"; }
active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
[ -n "${MIXIT_VENV:-}" ] || [ -z "$active" ] || [ "$active" = "$venv" ] || use_if_complete "$active"
use_ours
touch "$venv.lock" 2>/dev/null || die "$root cannot be written in; activate an environment that has ${root}[$extras] installed"
exec 8>"$venv.lock" # one at a time
flock -n 8 || { say "another set-up of $venv is at work; waiting for it"; flock 8; use_ours; }
supported "$python" ||
  die "Python 3.11 to 3.13 is needed, $python is $("$python" -V 2>&1 | cut -d' ' -f2); name another one: PYTHON=/path/to/python"
say "setting up $venv (about a minute, 1.5 GB with CPU torch)"
rm -f "$venv/complete"
{ supported "$venv/bin/python" && "$venv/bin/python" -m pip --version >/dev/null 2>&1; } || { rm -rf "$venv"; "$python" -m venv "$venv"; } >&2 ||
  die "$python cannot make virtual environments; on Debian: apt-get install python3-venv"
"$venv/bin/python" -m uv --version >/dev/null 2>&1 || "$venv/bin/python" -m pip install -q uv >&2 ||
  die "the installer 'uv' cannot be had from PyPI; check the network or PIP_INDEX_URL, then run this again"
# pip's local wheel folders (blank-separated there, comma-separated here) and index are meant for uv as well.
pip_setting() { "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
folders=${UV_FIND_LINKS:-$(echo "${PIP_FIND_LINKS:-$(pip_setting find-links)}" | xargs | tr ' ' ,)}
index=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(pip_setting index-url)}}
[ -z "$folders" ] || export UV_FIND_LINKS=$folders
[ -z "$index" ] || export UV_DEFAULT_INDEX=$index
errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
uv_install() { # [options of uv]; what it prints is kept in $errors too
  "$venv/bin/python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
    --override "$root/local/overrides.txt" --constraint "$root/local/constraints.txt" "$@" --editable "${root}[$extras]" 2>&1 | tee "$errors" >&2
}
failed() {
  if grep -q 'Python\.h' "$errors"; then die "Python's headers are missing, needed to build pesq and pyworld; on Debian: apt-get install python3-dev; then run this again"; fi
  if grep -qE "command '[^']*(cc|\+\+)[^']*' failed: No such|No such file or directory: '[^']*(cc|\+\+)|cc1plus" "$errors"; then
    die "a C and a C++ compiler are needed to build pesq and pyworld; on Debian: apt-get install g++; then run this again"
  fi
  if grep -qE 'Failed to (fetch|download)|error sending request' "$errors"; then die "a package cannot be had (see above); check the network, then run this again: what is there is kept"; fi
  die "uv could not install what setup.cfg asks for (see above)"
}
tag=$("$venv/bin/python" -c 'import sys; print("cp%d%d" % sys.version_info[:2])')
if [ -n "$(IFS=,; for folder in $folders; do ls "$folder"/torch-*"$tag"-*.whl 2>/dev/null; done)" ]; then
  uv_install || failed # torch is among the wheels of this machine
elif ! uv_install --torch-backend auto; then # PyTorch's own index: the build that fits the driver, or the CPU
  grep -q 'Failed to fetch.*pytorch\.org' "$errors" || failed
  say "PyTorch's index cannot be reached; taking torch from PyPI (several GB)"
  uv_install || failed
fi
# torchaudio's wheel on PyPI links CUDA; beside a CPU torch it works once its optional libraries are gone.
"$venv/bin/python" -c 'import torchaudio' 2>/dev/null || rm -f "$venv"/lib/python3*/site-packages/torchaudio/lib/*.so
left=$(wrong "$venv/bin/python") || die "$venv is incomplete; remove it and run this again:"$'\n'"$left"
echo "$wanted" >"$venv/complete"
say "done: $("$venv/bin/python" -c 'import torch; print("torch", torch.__version__, "with CUDA" if torch.cuda.is_available() else "on the CPU")')"
echo "$venv/bin"
