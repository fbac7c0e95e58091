# make demo    sets itself up, then detects objects in two real clips: see demo/
# make test    sets itself up, then checks style and types and runs the tests
# make gpu-check    on a machine with an NVIDIA GPU: measures it, and runs the tests that need one (docs/tensorrt.md)
# make test-v4l2    sets itself up, then tests capture from a real V4L2 camera in a small machine (QEMU): 5 minutes

PYTHON ?= python3
VENV := .venv
PIP := $(VENV)/bin/python -m pip install --quiet --disable-pip-version-check --constraint constraints.txt

.PHONY: demo setup test test-v4l2 gpu-check lint types unit bench clean

demo: $(VENV)/.installed
	$(VENV)/bin/frameloom demo --out demo

setup: $(VENV)/.developed

test: setup lint types unit

lint:
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

types:
	$(VENV)/bin/mypy

unit:
	$(VENV)/bin/pytest

test-v4l2: setup
	$(VENV)/bin/python -m tests.v4l2

# An environment of your own, on a machine without a package index: make gpu-check CHECKER=/place/bin/python
CHECKER ?= $(VENV)/bin/python

gpu-check: $(if $(filter $(VENV)/%,$(CHECKER)),setup)
	$(CHECKER) -m tools.cli bench gpu --json gpu-check.json
	$(CHECKER) -m pytest -m gpu tests/engines/cuda tests/engines/tensorrt/test_engine.py \
	  tests/engines/tensorrt/test_engine_frames.py tests/engines/tensorrt/test_on_gpu.py

bench: $(VENV)/.installed
	$(VENV)/bin/frameloom bench

$(VENV)/bin/python:
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 10) or sys.exit("Frameloom needs Python 3.10 or newer: make PYTHON=python3.11 ...")'
	$(PYTHON) -m venv $(VENV)

$(VENV)/.installed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable .
	@touch $@

$(VENV)/.developed: pyproject.toml constraints.txt | $(VENV)/bin/python
	$(PIP) --editable '.[dev,rtx]'
	@touch $@ $(VENV)/.installed

clean:
	rm -rf $(VENV) demo .mypy_cache .ruff_cache .pytest_cache .hypothesis
