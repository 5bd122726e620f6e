#!/usr/bin/env bash
# One environment for everything: .venv in the repository, CPU or CUDA torch as the machine has it.
#   local/install.sh [--extras mini,test,lint]
# Idempotent, and safe to interrupt: run it again. An active environment that is complete is used as it is.
# Prints the directory of the environment's programs on standard output; all else goes to standard error.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
venv=$root/.venv
extras=mini,test

say() { echo "install: $*" >&2; }
die() { say "error: $*"; exit 2; }

while [ $# -gt 0 ]; do
  case $1 in
    --help | -h) sed -n '2,/^[^#]/s/^# \{0,1\}//p' "${BASH_SOURCE[0]}"; exit 0 ;;
    --extras) [ $# -ge 2 ] || die "--extras needs a value; --help explains it"; extras=$2; shift 2 ;;
    *) die "unknown argument '$1'; --help lists them" ;;
  esac
done
declared=$(sed -n '/^\[options.extras_require\]/,/^\[tool/s/^\([a-z]\{1,\}\) =.*/\1/p' "$root/setup.cfg")
for extra in ${extras//,/ }; do
  grep -qxF -- "$extra" <<<"$declared" || die "unknown extra '$extra'; setup.cfg has ${declared//$'\n'/, }"
done

# What is missing for all we need, with python $1: exit code 0 if nothing is.
problems() { "$1" "$root/local/check_install.py" "$root" "$extras" 2>&1; }
complete() { problems "$1" >/dev/null; }

# 1. An active environment that has all we need.
active=${VIRTUAL_ENV:-${CONDA_PREFIX:-}}
if [ -n "$active" ] && [ "$active" != "$venv" ] && complete "$active/bin/python"; then
  echo "$active/bin"; exit 0
fi

# 2. Our own, made before with the same declarations.
wanted=$(cat "$root/setup.cfg" "$root/local/overrides.txt" "${BASH_SOURCE[0]}" | cksum)
use_ours_if_complete() {
  if [ "$(cat "$venv/complete" 2>/dev/null)" = "$wanted" ] && complete "$venv/bin/python"; then
    echo "$venv/bin"; exit 0
  fi
}
use_ours_if_complete

# 3. Make or mend it, one at a time.
touch "$venv.lock" 2>/dev/null || die "$root cannot be written in; activate an environment that has ${root}[$extras] installed"
if command -v flock >/dev/null; then
  exec 8>"$venv.lock"
  flock -n 8 || { say "another set-up of $venv is at work; waiting for it"; flock 8; use_ours_if_complete; }
fi
python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "no $python here; install Python 3.10 to 3.12, or name one: PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
  die "Python 3.10 to 3.12 is needed, $python is $("$python" -V 2>&1 | cut -d' ' -f2); name another one: PYTHON=/path/to/python"
say "setting up $venv (about a minute, 1.5 GB with CPU torch)"
rm -f "$venv/complete"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || { rm -rf "$venv"; "$python" -m venv "$venv"; } >&2 ||
  die "$python cannot make virtual environments; on Debian: apt-get install python3-venv"
"$venv/bin/python" -m uv --version >/dev/null 2>&1 || "$venv/bin/python" -m pip install -q uv >&2 ||
  die "the installer 'uv' cannot be had from PyPI; check the network or PIP_INDEX_URL, then run this again"

# pip's local wheel folders (blank-separated there, comma-separated here) and index are meant for uv as well.
pip_setting() { "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
folders=$(echo "${PIP_FIND_LINKS:-$(pip_setting find-links)}" | xargs | tr ' ' ,)
export UV_FIND_LINKS=${UV_FIND_LINKS:-$folders} UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(pip_setting index-url)}}
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
[ -n "$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX
torch_is_here() { # among the wheels of this machine
  local folder folders
  IFS=, read -ra folders <<<"${UV_FIND_LINKS:-}"
  for folder in "${folders[@]}"; do ls "$folder"/torch-*.whl >/dev/null 2>&1 && return 0; done
  return 1
}

errors=$(mktemp)
trap 'rm -f "$errors"' EXIT
uv_install() { # [options of uv]; what it says is kept in $errors too
  "$venv/bin/python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" \
    --override "$root/local/overrides.txt" "$@" --editable "${root}[$extras]" 2>&1 | tee "$errors" >&2
}
said() { grep -qE "$1" "$errors"; }
failed() {
  if said 'Python\.h'; then
    die "Python's headers are missing, needed to build pesq and pyworld; on Debian: apt-get install python3-dev; then run this again"
  elif said "command '[^']*(cc|\+\+)[^']*' failed: No such|No such file or directory: '[^']*(cc|\+\+)|cc1plus"; then
    die "a C and a C++ compiler are needed to build pesq and pyworld; on Debian: apt-get install g++; then run this again"
  elif said 'Failed to (fetch|download)|error sending request'; then
    die "a package cannot be had (see above); check the network, then run this again: what is there is kept"
  fi
  die "uv could not install what setup.cfg asks for (see above)"
}
if torch_is_here; then
  uv_install || failed
elif ! uv_install --torch-backend auto; then # PyTorch's own index: the build that fits the driver, or the CPU
  said 'Failed to fetch.*pytorch\.org' || failed
  say "PyTorch's index cannot be reached; taking torch from PyPI (several GB)"
  uv_install || failed
fi

# torchaudio's wheel on PyPI links CUDA; beside a CPU torch it works once its optional libraries are gone.
"$venv/bin/python" -c 'import torchaudio' 2>/dev/null ||
  rm -f "$venv"/lib/python3*/site-packages/torchaudio/lib/*.so
left=$(problems "$venv/bin/python") || die "$venv is incomplete; remove it and run this again:"$'\n'"$left"
echo "$wanted" > "$venv/complete"
say "done: $("$venv/bin/python" -c 'import torch; print("torch", torch.__version__, "with CUDA" if torch.cuda.is_available() else "on the CPU")')"
echo "$venv/bin"
