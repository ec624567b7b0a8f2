# Every command works as the only one on a fresh clone: it makes .venv when it is needed, and repairs it.

VENV := .venv
BIN := $(VENV)/bin
PEERS := .venv-peers/bin
TARGETS := .venv-targets/bin
SCALE := .venv-scale/bin
# Tests run in one process per core, each with one thread.
JOBS ?= $(shell getconf _NPROCESSORS_ONLN 2> /dev/null || echo 2)
# More arguments: make test TESTS=tests/unit/core; make bench BENCH="fgsm-mnist pgd-mnist";
# make bench-strength STRENGTH="apgd* *@lite0"; make bench-verified DIR=mnist_fc; make demo DEMO=--help
TESTS ?=
BENCH ?=
STRENGTH ?=
DIR ?=
DEMO ?=

export PYTHON TORCH_INDEX SYSTEM_TORCH TRITON_PYTHON

.DEFAULT_GOAL := help
.PHONY: help demo test test-slow coverage check format test-peers test-targets test-servers test-scale bench bench-strength bench-verified docs clean install install-dev

help: ## this list
	@echo 'make COMMAND, with Python 3.11 or newer and pip:'
	@sed -n 's/^\([a-z-]*\):.*## \(.*\)/  \1|\2/p' $(MAKEFILE_LIST) | awk -F'|' '{ printf "  %-14s %s\n", $$1, $$2 }'
	@echo
	@echo 'Where torch comes from (used when .venv is made):'
	@echo '  TORCH_INDEX=https://download.pytorch.org/whl/cpu    the CPU build, about 0.2 GB instead of 3.0'
	@echo '  SYSTEM_TORCH=1 PYTHON=/path/to/python               a torch that this Python already has'

install:
	@bash scripts/install.sh run 'make $(or $(MAKECMDGOALS),install)'

install-dev:
	@bash scripts/install.sh dev 'make $(or $(MAKECMDGOALS),install-dev)'

demo: install ## three models, real images, tables and a page: about 2 minutes on 2 cores
	@$(BIN)/assay demo $(DEMO)

test: install-dev ## the tests: some 18 minutes on 2 cores
	@$(BIN)/python -m pytest -q -rs -n $(JOBS) $(TESTS)

test-slow: install-dev ## the long tests as well
	@$(BIN)/python -m pytest -q -n $(JOBS) -m 'not peers and not targets and not servers and not scale' --timeout=3600 $(TESTS)

coverage: install-dev ## the tests again with the coverage gate (90 %), and which lines they do not run; a quarter slower
	@$(BIN)/python -m pytest -q -n $(JOBS) --cov --cov-report=
	@$(BIN)/python -m coverage report

check: install-dev ## format, lint, types, layers, sizes
	@$(BIN)/python -m ruff format --check --quiet . || { echo 'make format puts these right'; exit 1; }
	@$(BIN)/python -m ruff check --quiet .
	@$(BIN)/python -m mypy
	@$(BIN)/python -c "from importlinter.cli import lint_imports_command as main; main()" --no-logo
	@$(BIN)/python -m pytest -q tests/test_shape.py

format: install-dev ## put format and import order right
	@$(BIN)/python -m ruff check --quiet --fix-only .
	@$(BIN)/python -m ruff format .

test-peers: install-dev ## agreement with the five peers' attacks, in .venv-peers
	@bash scripts/install-beside.sh peers
	@$(PEERS)/python -m pytest -q -n 0 -m "peers and not slow" tests/peers

test-targets: install-dev ## models of Hugging Face, Keras and LiteRT, exports to ONNX, in .venv-targets
	@bash scripts/install-beside.sh targets
	@ASSAY_REQUIRE=targets $(TARGETS)/python -m pytest -q -n $(JOBS) -m "targets and not slow" $(or $(TESTS),tests/targets)

test-servers: install-dev ## endpoints of MLServer, KServe, Triton and LitServe, each in .venv-servers
	@bash scripts/install-beside.sh servers
	@$(BIN)/python -m pytest -q -n 0 -m "servers and not slow" $(or $(TESTS),tests/servers)

test-scale: install-dev ## clusters and object stores, as real parts, in .venv-scale
	@bash scripts/install-beside.sh scale
	@bash scripts/install-slurm.sh
	@ASSAY_REQUIRE=scale $(SCALE)/python -m pytest -q -n 0 -m "scale and not slow" $(or $(TESTS),tests/scale)

bench: install-dev ## time and memory against the peers and against the bare limit; BENCH="name …" picks some
	@bash scripts/install-beside.sh peers
	@bash scripts/install-beside.sh scale
	@$(PEERS)/python -m benchmarks.bench $(BENCH)

bench-strength: install-dev ## our attacks against the references at equal passes; STRENGTH="row …" picks some
	@bash scripts/install-beside.sh peers
	@$(PEERS)/python -m benchmarks.strength $(STRENGTH)

bench-verified: install-dev ## attack and certificate on a VNN-COMP benchmark that verifiers answered; DIR=folder
	@bash scripts/install-beside.sh peers
	@$(PEERS)/python -m benchmarks.verified $(or $(DIR),$(error DIR=… names a folder with instances.csv: docs/peers.md says where to get one)) --out benchmarks/verified.md

docs: install-dev ## the documentation, into site/
	@NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict --quiet
	@echo 'site/index.html'

clean: ## remove what the commands above made, environments included; runs/ stays
	rm -rf .venv .venv-peers .venv-targets .venv-servers .venv-scale site dist build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
