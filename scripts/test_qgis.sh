#!/usr/bin/env bash
# Run the tests that need QGIS in QGIS's own Python, without a screen.
set -euo pipefail
cd "$(dirname "$0")/.."
if [ ! -f .venv/qgis/.dehaze-ready ]; then
  echo "The tests inside QGIS are skipped: QGIS is not set up here (make setup says why)."
  exit 0
fi
XDG_RUNTIME_DIR=$(mktemp -d)
trap 'rm -rf "$XDG_RUNTIME_DIR"' EXIT
chmod 700 "$XDG_RUNTIME_DIR"
export XDG_RUNTIME_DIR QT_QPA_PLATFORM=offscreen
.venv/qgis/bin/python -m pytest -m qgis tests/qgis "$@"
