# hotpath. Two commands need nothing set up before: `make demo` and `make test`.
SHELL := /bin/bash
.SHELLFLAGS := -eu -o pipefail -c
.DEFAULT_GOAL := help
MAKEFLAGS += --no-print-directory

VENV ?= .venv
BIN := $(VENV)/bin
DATA_DIR ?= data
# More for pytest, for example: make test ARGS="-k lock -x"
ARGS ?=
# A run that hangs is a failure, not a wait.
TEST_SECONDS ?= 1200
# Test files at a time; 0 runs all in one process.
WORKERS ?= 2
# Of the order of tests and of what they draw at random; TEST_SEED=default takes another each run.
TEST_SEED ?= 20261121
NODE_TESTS := tests/interop/node
PYTEST := timeout --kill-after=15 $(TEST_SECONDS) $(BIN)/python -m pytest \
	--randomly-seed=$(TEST_SEED)

.PHONY: crash fuzz-index interop help install run demo test test-unit test-contract test-property test-interop test-fault \
	cov fmt lint types arch check audit bench clean ci node

help: ## show this help
	@awk 'BEGIN { FS = ":.*## " } /^[a-z-]+:.*## / { printf "  \033[1m%-14s\033[0m %s\n", $$1, $$2 }' \
		$(MAKEFILE_LIST)

# --- setting up -------------------------------------------------------------------------------

$(BIN)/python:
	@for python in $${PYTHON:-} python3 python3.13 python3.12 python3.11 python3.14; do \
		if "$$python" -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then \
			echo "making $(VENV) with $$("$$python" --version)"; \
			"$$python" -m venv $(VENV) && exit 0; \
			rm -rf $(VENV); \
			echo "$$python cannot make virtual environments; on Debian: apt-get install python3-venv" >&2; \
			exit 1; \
		fi; \
	done; \
	echo "Python 3.11 or later is needed; name one with: make PYTHON=/path/to/python3" >&2; exit 1

# What the service needs, and on top of it what its tests and checks need.
$(VENV)/.service: pyproject.toml | $(BIN)/python
	@echo "installing hotpath into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.workshop: pyproject.toml | $(BIN)/python
	@echo "installing hotpath with its tests and checks into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/.service

install: $(VENV)/.workshop ## make .venv with everything that running, testing and checking needs

# --- running ----------------------------------------------------------------------------------

demo: $(VENV)/.service ## see the whole thing work, live, in half a minute
	@$(BIN)/hotpath demo

run: $(VENV)/.service ## run the service on 127.0.0.1:8080 (REST) and :5672 (AMQP), data in ./data
	@$(BIN)/hotpath serve --data-dir $(DATA_DIR)

# --- testing ----------------------------------------------------------------------------------

# Clients that are Node packages; without npm their tests are skipped and say so.
node:
	@if [ -f $(NODE_TESTS)/package-lock.json ] && command -v npm >/dev/null; then \
		if [ ! -d $(NODE_TESTS)/node_modules ] || \
			[ $(NODE_TESTS)/package-lock.json -nt $(NODE_TESTS)/node_modules ]; then \
			echo "installing the Node clients"; \
			(cd $(NODE_TESTS) && npm ci --no-audit --no-fund --loglevel=error && touch node_modules) \
				|| echo "the Node clients could not be installed; their tests are skipped" >&2; \
		fi; \
	elif [ -f $(NODE_TESTS)/package-lock.json ]; then \
		echo "npm is not there; tests with Node clients are skipped" >&2; \
	fi

test: $(VENV)/.workshop node ## all tests
	@$(PYTEST) -n $(WORKERS) --dist loadfile $(ARGS)

test-unit: $(VENV)/.workshop ## tests of single parts, fast
	@$(PYTEST) tests/unit $(ARGS)

test-contract: $(VENV)/.workshop ## the suites that every storage adapter passes
	@$(PYTEST) tests/contract $(ARGS)

test-property: $(VENV)/.workshop ## laws that hold for any input
	@$(PYTEST) tests/property $(ARGS)

test-interop: $(VENV)/.workshop node ## AMQP clients of other projects against the running service
	@$(PYTEST) tests/interop $(ARGS)

interop: $(VENV)/.workshop node ## every scenario with every client; writes docs/interop.md
	@PYTHON=$(abspath $(BIN))/python bash tests/interop/install
	@HOTPATH_INTEROP=full $(PYTEST) tests/interop/test_matrix.py -p no:randomly $(ARGS)

test-fault: $(VENV)/.workshop ## kill -9, full disks, cut connections
	@$(PYTEST) tests/fault $(ARGS)

crash: $(VENV)/.workshop ## kill -9 at POINTS (1000) named and random points, checked by an independent model
	@$(BIN)/python -m tests.fault.crash --points $(or $(POINTS),1000) $(ARGS)

fuzz-index: $(VENV)/.workshop ## a million filter-message pairs: the filter index against the scan (SEED=1)
	@QEL_INDEX_PAIRS=1000000 QEL_INDEX_SEED=$(or $(SEED),1) timeout --kill-after=15 3600 \
		$(BIN)/python -m pytest -q -s --timeout=3600 -p no:randomly \
		tests/property/test_qel_index.py -k many_pairs

cov: $(VENV)/.workshop node ## all tests, with branch coverage (htmlcov/index.html)
	@$(PYTEST) --cov=hotpath --cov=qel --cov-branch --cov-report=term:skip-covered \
		--cov-report=html $(ARGS)

# --- checking ---------------------------------------------------------------------------------

fmt: $(VENV)/.workshop ## put the code into shape
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix --exit-zero --quiet .

lint: $(VENV)/.workshop ## shape and rules
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .

types: $(VENV)/.workshop ## mypy --strict
	@$(BIN)/mypy --strict

arch: $(VENV)/.workshop ## who may import whom
	@$(BIN)/lint-imports

# AUDIT=--skip-unreachable: where the advisory service cannot be reached, say so and go on.
audit: $(VENV)/.workshop ## known vulnerabilities of what is installed
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'pip-audit>=2.7,<3'
	@$(BIN)/python .ci/audit $(AUDIT)

check: lint types arch ## lint, types, arch

ci: ## what the build server runs
	@./.ci/run

# --- measuring and cleaning -------------------------------------------------------------------

bench: $(VENV)/.service ## throughput through the real path (needs Proton's C library); see bench/README.md
	@$(MAKE) -C bench/clients
	@$(BIN)/python -m bench $(ARGS)

clean: ## remove what was made, the virtual environment too (data stays)
	rm -rf $(VENV) $(NODE_TESTS)/node_modules build dist htmlcov .coverage .mypy_cache .ruff_cache \
		.pytest_cache .import_linter_cache .hypothesis *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -f bench/clients/Makefile ]; then $(MAKE) -C bench/clients clean; fi
