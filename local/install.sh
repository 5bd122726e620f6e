#!/usr/bin/env bash
# One environment for everything: .venv in the repository, CPU or CUDA torch as the machine has it.
#   local/install.sh [--extras mini,test]
# Idempotent, and safe to interrupt: run it again. An active environment that is complete is used as it is.
# Prints the directory of the environment's programs on standard output; all else goes to standard error.
set -euo pipefail
root=$(cd "$(dirname "${BASH_SOURCE[0]}")/.." && pwd)
extras=mini,test
[ "${1:-}" = --extras ] && extras=$2

say() { echo "install: $*" >&2; }
die() { say "error: $*"; exit 2; }

# What a complete environment must be able to do; prints nothing.
complete() { "$1" "$root/local/check_install.py" "$root/setup.cfg" "$extras" >/dev/null 2>&1; }

# 1. An active environment that has all we need.
if [ -n "${VIRTUAL_ENV:-${CONDA_PREFIX:-}}" ] && [ "${VIRTUAL_ENV:-}" != "$root/.venv" ]; then
  active=${VIRTUAL_ENV:-$CONDA_PREFIX}/bin
  if complete "$active/python"; then echo "$active"; exit 0; fi
fi

# 2. Our own, made before with the same declarations.
venv=$root/.venv
wanted=$(cat "$root/setup.cfg" "$root/local/overrides.txt" "${BASH_SOURCE[0]}" | cksum)" $extras"
if [ -x "$venv/bin/python" ] && [ "$(cat "$venv/complete" 2>/dev/null)" = "$wanted" ] && complete "$venv/bin/python"; then
  echo "$venv/bin"; exit 0
fi

# 3. Make or mend it.
python=${PYTHON:-python3}
command -v "$python" >/dev/null || die "no $python here; install Python 3.10 to 3.12, or name one: PYTHON=/path/to/python"
"$python" -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' ||
  die "Python 3.10 to 3.12 is needed, $python is $("$python" -V 2>&1 | cut -d' ' -f2); name another one: PYTHON=/path/to/python"
command -v gcc >/dev/null || command -v cc >/dev/null || die "a C compiler is needed to build pesq and pyworld; install gcc"
say "setting up $venv (about a minute, 1.5 GB with CPU torch)"
rm -f "$venv/complete"
"$venv/bin/python" -m pip --version >/dev/null 2>&1 || { rm -rf "$venv"; "$python" -m venv "$venv"; } ||
  die "$python cannot make virtual environments; on Debian: apt-get install python3-venv"
"$venv/bin/python" -m uv --version >/dev/null 2>&1 || "$venv/bin/python" -m pip install -q uv >&2 ||
  die "the installer 'uv' cannot be had from PyPI; check the network or PIP_INDEX_URL, then run this again"

# pip's local wheel folders and indexes are meant for uv as well.
pip_setting() { "$venv/bin/python" -m pip config get "global.$1" 2>/dev/null || true; }
export UV_FIND_LINKS=${UV_FIND_LINKS:-${PIP_FIND_LINKS:-$(pip_setting find-links)}}
export UV_DEFAULT_INDEX=${UV_DEFAULT_INDEX:-${PIP_INDEX_URL:-$(pip_setting index-url)}}
[ -n "$UV_FIND_LINKS" ] || unset UV_FIND_LINKS
[ -n "$UV_DEFAULT_INDEX" ] || unset UV_DEFAULT_INDEX
uv_install() {
  "$venv/bin/python" -m uv pip install --quiet --compile-bytecode --python "$venv/bin/python" --override "$root/local/overrides.txt" \
    "$@" --editable "${root}[$extras]" >&2
}
if ls "${UV_FIND_LINKS:-/nonexistent}"/torch-*.whl >/dev/null 2>&1; then
  uv_install                             # the torch of this machine's wheel folder
else
  uv_install --torch-backend auto ||     # PyTorch's own index: the build that fits the driver, or the CPU
    { say "PyTorch's index cannot be reached; taking torch from PyPI (several GB)"; uv_install; }
fi || die "a package cannot be had (see above); check the network, then run this again: what is there is kept"

# torchaudio's wheel on PyPI links CUDA; beside a CPU torch it works once its optional libraries are gone.
"$venv/bin/python" -c 'import torchaudio' 2>/dev/null ||
  rm -f "$venv"/lib/python3*/site-packages/torchaudio/lib/*.so
complete "$venv/bin/python" || { "$venv/bin/python" "$root/local/check_install.py" "$root/setup.cfg" "$extras" >&2 || true
  die "the environment is incomplete (see above); remove $venv and run this again"; }
"$venv/bin/python" -c 'import torch, torchaudio' || die "torch or torchaudio does not import; remove $venv and run this again"
echo "$wanted" > "$venv/complete"
say "done: $("$venv/bin/python" -c 'import torch; print("torch", torch.__version__, "with CUDA" if torch.cuda.is_available() else "on the CPU")')"
echo "$venv/bin"
