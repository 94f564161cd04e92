# Everything a developer or a new user runs. `make help` lists the targets.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help

# uv does not read pip's variable: a folder of wheels given to pip (a CPU build of torch, say) counts for uv too.
export UV_FIND_LINKS ?= $(PIP_FIND_LINKS)
# The version tested with; asked for exactly, so that a folder of wheels wins over the index.
TORCH := torch==2.13.0

ENGINE := .venv/engine/bin/python
ENGINE_STAMP := .venv/engine/.dehaze-ready
CODE := dehaze_core qgis_plugin processing_algorithms scripts benchmarks tests
PRESENT = $(wildcard $(CODE))

.PHONY: help setup engine qgis demo test test-engine test-qgis lint format plugin link train-lite train-smoke benchmark \
  quality constraints clean

help: ## list the targets
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /\1\t/' | expand -t 14

setup: engine qgis ## both environments: the engine's, and QGIS with its test tools

engine: $(ENGINE_STAMP)

$(ENGINE_STAMP): pyproject.toml constraints.txt scripts/setup_engine.sh
	@scripts/setup_engine.sh
	@touch $@

qgis: engine
	@scripts/setup_qgis.sh

demo: setup ## dehaze a real raster through QGIS; INPUT=path takes your own
	@$(ENGINE) scripts/demo.py $(if $(INPUT),--input "$(INPUT)")

test: setup ## the engine's tests, then those inside QGIS
	@$(MAKE) --no-print-directory test-engine
	@$(MAKE) --no-print-directory test-qgis

test-engine: engine ## only the tests that need no QGIS; ARGS="-k name" selects
	OMP_NUM_THREADS=1 OMP_WAIT_POLICY=PASSIVE $(ENGINE) -m pytest -m "not qgis" --ignore=tests/qgis -n logical --dist loadfile $(ARGS)

test-qgis: qgis ## only the tests inside QGIS; ARGS="-k name" selects
	@scripts/test_qgis.sh $(ARGS)

lint: engine ## style, types, architecture, sizes, security
	$(ENGINE) -m ruff check $(PRESENT)
	$(ENGINE) -m ruff format --check $(PRESENT)
	$(ENGINE) -m mypy
	.venv/engine/bin/lint-imports --no-logo --cache-dir build/import-linter
	$(ENGINE) scripts/check_sizes.py $(PRESENT)
	$(ENGINE) scripts/assemble_plugin.py --output build/plugin
	$(ENGINE) -m bandit -q -r build/plugin/dehaze dehaze_core
	$(ENGINE) scripts/check_secrets.py build/plugin/dehaze $(PRESENT)

format: engine ## let ruff rewrite what it can
	$(ENGINE) -m ruff check --fix $(PRESENT)
	$(ENGINE) -m ruff format $(PRESENT)

plugin: engine ## assemble the QGIS plugin: build/plugin/dehaze and its zip
	$(ENGINE) scripts/assemble_plugin.py --output build/plugin --zip

link: engine ## link the plugin into your QGIS profile, for development
	$(ENGINE) scripts/assemble_plugin.py --link

train-lite: engine ## train the shipped model again; DATA=dir TEXTURES=dir OUT=dir STEPS=n RECIPE=lite-cpu
	.venv/engine/bin/dehaze train dehazexl-lite --recipe "$(or $(RECIPE),lite-cpu)" --data "$(DATA)" \
	  $(if $(TEXTURES),--textures "$(TEXTURES)") $(if $(STEPS),--steps $(STEPS)) --out "$(or $(OUT),build/train)"

train-smoke: engine ## five minutes of training on procedural ground: does it learn?
	$(ENGINE) scripts/train_smoke.py $(if $(MINUTES),--minutes $(MINUTES))

benchmark: engine ## speed and memory; PAIRS=dir adds image quality, ours and the dark channel prior's
	$(ENGINE) -m benchmarks.speed network
	$(ENGINE) -m benchmarks.speed file --side 10000
	$(ENGINE) -m benchmarks.speed file --side 30000 --virtual
	$(if $(PAIRS),.venv/engine/bin/dehaze score "$(PAIRS)")
	$(if $(PAIRS),.venv/engine/bin/dehaze score "$(PAIRS)" --method dehaze_core.baselines.dark_channel:restore)

quality: engine ## write docs/quality.md and docs/models.md: PAIRS=dir REAL=dir AOD=file TITLE=text
	.venv/engine/bin/dehaze benchmark "$(PAIRS)" --out build/quality $(if $(REAL),--real "$(REAL)") \
	  $(if $(AOD),--aod-weights "$(AOD)") --title "$(or $(TITLE),Fixed pairs)" --doc docs/quality.md --record
	(printf '# Model cards\n\nWritten by `dehaze models card`.\n\n'; .venv/engine/bin/dehaze models card) > docs/models.md

constraints: engine ## pin the versions again after a change of dependencies
	@sed -i.bak -e '/^torch==/d' constraints.txt  # or the old pin would hide the folder of wheels
	echo '$(TORCH)' | uv pip compile -q -p $(ENGINE) --no-header --no-annotate --no-emit-index-url \
	  --no-emit-find-links --all-extras -c - pyproject.toml -o constraints.txt >/dev/null
	@sed -i.bak -e 's/+cpu$$//' constraints.txt && rm constraints.txt.bak

clean: ## remove environments and everything built
	rm -rf .venv build dist demo
