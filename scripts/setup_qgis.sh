#!/usr/bin/env bash
# Make QGIS and its test tools available, .venv/qgis. Where that cannot be, say why and go on:
# the engine works without QGIS.
set -euo pipefail
cd "$(dirname "$0")/.."
mkdir -p build
stamp=.venv/qgis/.dehaze-ready
python=/usr/bin/python3

say() { printf 'setup: %s\n' "$*"; }
without() { say "QGIS is left out: $*"; exit 0; }
has_qgis() {
  [ -x "$python" ] && "$python" -c 'import qgis.core' 2>/dev/null &&
    { command -v qgis_process.bin || command -v qgis_process; } >/dev/null
}

[ -z "${SKIP_QGIS:-}" ] || without "SKIP_QGIS is set."
[ -f "$stamp" ] && exit 0

if ! has_qgis; then
  command -v apt-get >/dev/null || without "it is not installed and there is no apt-get here. Install QGIS 3.22 or newer, then run make setup again."
  [ "$(id -u)" = 0 ] || without "it is not installed and installing it needs root: sudo apt-get install qgis python3-qgis xvfb xauth"
  say "installing QGIS with apt-get (1.2 GB, some minutes)"
  export DEBIAN_FRONTEND=noninteractive
  { apt-get update -q && apt-get install -y -q --no-install-recommends qgis python3-qgis xvfb xauth; } >build/apt.log 2>&1 ||
    without "apt-get failed: $(grep -m1 '^E:' build/apt.log || tail -n 1 build/apt.log)"
  has_qgis || without "apt-get installed it, but $python cannot import qgis.core."
fi

uv=uv
uv --version >/dev/null 2>&1 || uv=.venv/tools/bin/uv
"$python" -m venv --clear --without-pip --system-site-packages .venv/qgis
"$uv" pip install --quiet -p .venv/qgis/bin/python -c constraints.txt pytest
touch "$stamp"
say "QGIS ready: $("$python" -c 'from qgis.core import Qgis; print(Qgis.QGIS_VERSION)' 2>/dev/null)"
