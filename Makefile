# Every target sets up what it needs: Python 3.11 or later, make and a package index are enough.
SHELL := /bin/bash
.DEFAULT_GOAL := help
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
RUN_ARGS ?=
PYTEST_ARGS ?=
# Two processes, a file's tests all in one of them: what its fixtures make is made once.
SPREAD := -n 2 --dist loadfile --no-loadscope-reorder
# Two test processes share two cores: threads that spin while they wait would stall both.
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

help:  ## list the targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 14

$(STAMP): pyproject.toml setup.py constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt pip setuptools wheel
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	@touch $@

setup: $(STAMP)  ## create .venv and install assay into it

run: $(STAMP)  ## run the built-in example: poisoned source caught, model attacked, decision made, model traceable
	$(BIN)/assay run $(RUN_ARGS)

test: $(STAMP)  ## the tests, under 8 minutes on 2 cores
	$(BIN)/python -m pytest $(SPREAD) $(PYTEST_ARGS)

test-slow: $(STAMP)  ## the longer proofs
	$(BIN)/python -m pytest $(SPREAD) -m slow $(PYTEST_ARGS)

lint: $(STAMP) type  ## ruff and mypy
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

type: $(STAMP)  ## mypy --strict on the library
	$(BIN)/mypy

bench: $(STAMP)  ## every benchmark, each beside its peer or limit
	@failed=0; for file in benchmarks/bench_*.py; do echo "== $$file"; $(BIN)/python $$file || failed=1; done; exit $$failed

image: $(STAMP)  ## build the one image of all components with podman or docker (BASE_IMAGE=..., CUDA=1)
	bash manifests/image/build.sh

test-image: $(STAMP)  ## run the example's steps inside the image: non-root, read-only root, no network
	$(BIN)/python -m pytest -m container $(PYTEST_ARGS)

clean:  ## remove what make and assay made here
	rm -rf $(VENV) .assay build dist

.PHONY: help setup run test test-slow lint type bench image test-image clean
