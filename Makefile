# On a fresh machine `make demo` and `make test` are all there is to type; `make help` lists the rest.
#
#   make test PYTHON=python3.12       another interpreter for the environment
#   make test VENV=~/envs/mine        an environment of yours; a torch that is already in it stays as it is
#   make test SYSTEM=1                an environment that sees the packages (so the torch) of PYTHON
#   make test-only ARGS="-k window"   some of the tests

PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11; do \
            $$p -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null && echo $$p && break; done)
VENV   ?= .venv
CXX    := $(or $(EINSUM_CXX),$(if $(filter default,$(origin CXX)),g++,$(CXX)))
JOBS   ?= 2
ARGS   ?=
SHELL  := bash

RUN    := $(VENV)/bin/python
STAMP  := $(VENV)/.einsum-compiler-installed
ours   := einsum_compiler ir passes backends templates tests examples benchmarks

.DEFAULT_GOAL := help
.PHONY: help venv demo test test-only test-all test-gpu golden lint types format bench clean

help: ## this list
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F':.*## ' '{ printf "  make %-10s %s\n", $$1, $$2 }'

demo: $(STAMP) ## compile two attentions, show what the compiler derived, run a sentence model with them
	@$(RUN) examples/demo.py

test: lint types ## everything that must pass before a commit: style, types, tests
	@echo "== tests"
	@$(RUN) -m pytest -q -n $(JOBS) $(ARGS)

test-only: $(STAMP) ## the tests alone, in one process, e.g. ARGS="tests/zoo -x -k window"
	@$(RUN) -m pytest -q $(ARGS)

test-all: lint types ## slow tests too
	@echo "== tests, slow ones too"
	@$(RUN) -m pytest -q -n $(JOBS) -m "" $(ARGS)

test-gpu: $(STAMP) ## the tests that need a GPU
	@$(RUN) -m pytest -q -m gpu $(ARGS)

golden: $(STAMP) ## rewrite the golden texts of the tests; read the diff afterwards
	@$(RUN) -m pytest -q --update-golden tests $(ARGS)

lint: $(STAMP) ## ruff: rules and format
	@echo "== ruff"
	@$(RUN) -m ruff check .
	@$(RUN) -m ruff format --check .

types: $(STAMP) ## mypy, strict
	@echo "== mypy"
	@$(RUN) -m mypy -p einsum_compiler

format: $(STAMP) ## let ruff repair and format
	@$(RUN) -m ruff check --fix .
	@$(RUN) -m ruff format .

bench: $(STAMP) ## measure against the peers; results with machine and versions go to benchmarks/results/
	@$(RUN) -m benchmarks $(ARGS)

venv: $(STAMP) ## the environment alone

clean: ## remove caches and build products (the environment stays)
	rm -rf build dist *.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find $(ours) -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is newer than what it was made from, so a second `make` costs nothing.
# A torch that stood in the environment before us is the user's: its version, and what else it needs, stay.
$(STAMP): pyproject.toml constraints.txt
	@test -n "$(PYTHON)" || { echo "error: no Python 3.11 or newer found; name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@command -v $(firstword $(CXX)) >/dev/null || { echo "error: no C++ compiler '$(CXX)', which the CPU backend needs (Debian and Ubuntu: apt install g++); name another: make $(MAKECMDGOALS) CXX=g++-13" >&2; exit 1; }
	@test -x $(RUN) || { echo "== $(VENV): a new environment of $$($(PYTHON) --version)"; \
	  $(PYTHON) -m venv $(if $(SYSTEM),--system-site-packages) $(VENV) || \
	  { echo "error: $(PYTHON) cannot make environments (Debian and Ubuntu: apt install python3-venv)" >&2; rm -rf $(VENV); exit 1; }; }
	@if [ ! -e $(VENV)/.einsum-compiler-constraints ] && $(RUN) -c 'import torch' 2>/dev/null; then \
	  echo "== keeping torch $$($(RUN) -c 'import torch; print(torch.__version__)')"; touch $(VENV)/.einsum-compiler-keeps-torch; fi
	@if [ -e $(VENV)/.einsum-compiler-keeps-torch ]; then grep -v '^torch==' constraints.txt; else cat constraints.txt; fi \
	  > $(VENV)/.einsum-compiler-constraints
	@echo "== $(VENV): installing (PyTorch is the largest part)"
	@$(RUN) -m pip install --disable-pip-version-check -c $(VENV)/.einsum-compiler-constraints -e '.[test,demo]'
	@touch $@
