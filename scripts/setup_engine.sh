#!/usr/bin/env bash
# Create or refresh the engine's environment, .venv/engine. Safe to run again.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
engine=.venv/engine

say() { printf 'setup: %s\n' "$*"; }
fail() { printf 'setup: %s\n' "$*" >&2; exit 1; }
is_new_enough() { "$1" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; }

# The engine needs Python 3.11 or newer; 3.11 comes first because wheels exist for it everywhere.
find_python() {
  local candidate
  for candidate in ${PYTHON:-python3.11 /usr/bin/python3.11 python3.12 python3.13 python3.14 python3 /usr/bin/python3}; do
    if is_new_enough "$candidate"; then
      "$candidate" -c 'import sys; print(sys.executable)'
      return
    fi
  done
  return 1
}

# A virtual environment holds pip only where ensurepip is installed; Debian keeps it apart.
install_uv() {
  local python=$1
  say "uv is missing, putting it into .venv/tools"
  if ! "$python" -m venv .venv/tools 2>/dev/null; then
    rm -rf .venv/tools
    if [ "$(id -u)" = 0 ] && command -v apt-get >/dev/null; then
      say "installing python3-venv with apt-get"
      { apt-get update -q && apt-get install -y -q --no-install-recommends python3-venv; } >build/apt.log 2>&1 ||
        fail "apt-get failed: $(grep -m1 '^E:' build/apt.log || tail -n 1 build/apt.log)"
      "$python" -m venv .venv/tools
    else
      fail "neither uv nor Python's ensurepip is here. Install uv (https://docs.astral.sh/uv) or python3-venv, then run make setup again."
    fi
  fi
  .venv/tools/bin/python -m pip install --quiet uv
}

python=$(find_python) || fail "no Python 3.11 or newer found (${PYTHON:-looked for python3.11 .. python3.14}). Install one, or name it: make setup PYTHON=/path/to/python"
uv=uv
if ! uv --version >/dev/null 2>&1; then
  uv=.venv/tools/bin/uv
  [ -x "$uv" ] || install_uv "$python"
fi

if ! is_new_enough "$engine/bin/python"; then
  say "creating $engine with $("$python" -V)"
  "$uv" venv --quiet --clear -p "$python" "$engine"
fi
say "installing the engine into $engine"
"$uv" pip install --quiet -p "$engine/bin/python" -c constraints.txt -e '.[onnx,plots,sam,vectors,test,dev]'
say "engine ready: $("$engine/bin/dehaze" --version)"
