# Everything a developer or CI runs. `make` alone prints this list.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
# faiss-gpu takes the place of faiss-cpu where an NVIDIA GPU answers.
FAISS := $(shell nvidia-smi -L >/dev/null 2>&1 && echo gpu || echo cpu)
INSTALLED := $(VENV)/.installed-$(FAISS)

.DEFAULT_GOAL := help
.PHONY: help setup setup-system check test demo bench bench-full bench-peers clean

help:  ## print this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(INSTALLED)  ## create .venv and install what constraints.txt pins

$(INSTALLED): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || \
	  { echo "Python 3.11 or newer is needed and '$(PYTHON)' is not; name one with: make PYTHON=python3.11"; exit 1; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || \
	  { echo "Python's venv module is missing; on Debian and Ubuntu: apt-get install python3-venv"; exit 1; }
	@echo "installing into $(VENV) (faiss-$(FAISS)); the first time takes a few minutes"
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --quiet -c constraints.txt torch==2.13.0
	$(BIN)/pip install --quiet --quiet -c constraints.txt -e '.[$(FAISS),dashboard,dev]'
	@touch $@

setup-system:  ## apt-get: Chromium for the page tests (the only target that needs root)
	@if command -v chromium >/dev/null; then echo "chromium is installed"; \
	else apt-get update -qq && DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends chromium; fi

check: $(INSTALLED)  ## ruff (lint and format) and mypy strict
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

test: $(INSTALLED)  ## all tests; those whose tool is absent are skipped with the reason
	$(BIN)/python -m pytest -n 2 --dist loadscope --no-loadscope-reorder

demo: $(INSTALLED)  ## the whole loop on synthetic faces, a few minutes on two CPU cores
	$(BIN)/facequarry demo

bench: $(INSTALLED)  ## the ratios of docs/benchmarks.md
	$(BIN)/python -m benchmarks

bench-full: $(INSTALLED)  ## the miner to a million rows, an hour and a half; goes on where it was stopped
	$(BIN)/python -m benchmarks.full bench-full.jsonl
	$(BIN)/python -m benchmarks.approximate --growth

bench-peers: $(INSTALLED)  ## against sentence-transformers, in a virtualenv of its own (optional)
	$(BIN)/python -m benchmarks.peers

clean:  ## remove the virtualenv and caches (never runs/ or faces/)
	rm -rf $(VENV) .venv-peers .mypy_cache .pytest_cache .ruff_cache .hypothesis
