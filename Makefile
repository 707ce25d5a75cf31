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
# One more than there are processors here: tests wait for processes and disks, too.
TEST_WORKERS ?= 3
# Of the order of tests and of what they draw at random; TEST_SEED=default takes another each run.
TEST_SEED ?= 20261121
# The tests start the service some hundred times: compiled modules take a third off each start.
unexport PYTHONDONTWRITEBYTECODE
NODE_TESTS := tests/interop/node tests/console
# The C helper is built again when it changes.
NATIVE := setup.py $(wildcard hotpath/native/*.c hotpath/native/*.h)
PYTEST := timeout --kill-after=15 $(TEST_SECONDS) $(BIN)/python -m pytest \
	--randomly-seed=$(TEST_SEED)

.PHONY: test-cluster cluster-crash cluster-demo native-sanitize fuzz fuzz-guided abuse crash soak fuzz-index interop help install run demo test test-unit test-contract test-property test-interop test-fault \
	cov fmt lint types arch check audit bench clean ci node bench-peers bench-all bench-compare

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
$(VENV)/.service: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "installing hotpath into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable .
	@touch $@

$(VENV)/.workshop: pyproject.toml $(NATIVE) | $(BIN)/python
	@echo "installing hotpath with its tests and checks into $(VENV)"
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[test,lint]'
	@touch $@ $(VENV)/.service

install: $(VENV)/.workshop ## make .venv with everything that running, testing and checking needs

# --- running ----------------------------------------------------------------------------------

demo: $(VENV)/.service ## see the whole thing work, live, in half a minute
	@$(BIN)/hotpath demo

cluster-demo: $(VENV)/.workshop ## three nodes on three nats-servers, a feed that goes on while one of each is killed
	@$(BIN)/python -m examples.cluster_demo $(ARGS)

run: $(VENV)/.service ## run the service on 127.0.0.1:8080 (REST) and :5672 (AMQP), data in ./data
	@$(BIN)/hotpath serve --data-dir $(DATA_DIR)

# --- testing ----------------------------------------------------------------------------------

# Clients that are Node packages; without npm their tests are skipped and say so.
node:
	@if ! command -v npm >/dev/null; then \
		echo "npm is not there; tests with Node clients and of accessibility are skipped" >&2; \
		exit 0; \
	fi; \
	for place in $(NODE_TESTS); do \
		if [ ! -d $$place/node_modules ] || \
			[ $$place/package-lock.json -nt $$place/node_modules ]; then \
			echo "installing what $$place needs of npm"; \
			(cd $$place && npm ci --no-audit --no-fund --loglevel=error && touch node_modules) \
				|| echo "it could not be installed; tests that need it are skipped" >&2; \
		fi; \
	done

test: $(VENV)/.workshop node ## all tests
	@$(PYTEST) -n $(TEST_WORKERS) --dist loadfile --durations=30 $(ARGS)

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
	@HOTPATH_INTEROP=full timeout --kill-after=15 3000 $(BIN)/python -m pytest \
		tests/interop/test_matrix.py -p no:randomly $(ARGS)

test-fault: $(VENV)/.workshop ## kill -9, full disks, cut connections
	@$(PYTEST) tests/fault $(ARGS)

crash: $(VENV)/.workshop ## kill -9 at POINTS (1000) named and random points, checked by an independent model
	@$(BIN)/python -m tests.fault.crash --points $(or $(POINTS),1000) $(ARGS)

soak: $(VENV)/.workshop ## mixed load with random faults for SECONDS (1800), everything counted (ARGS="--seed 1")
	@$(BIN)/python -m tests.soak --seconds $(or $(SECONDS),1800) $(ARGS)

test-cluster: $(VENV)/.workshop node ## the black-box tests (REST, feed, SDKs, webhooks) against three nodes on three nats-servers
	@HOTPATH_LONG=1 HOTPATH_TEST_CLUSTER=3 timeout --kill-after=15 3000 $(BIN)/python -m pytest \
		--randomly-seed=$(TEST_SEED) --timeout=200 -ra tests/e2e tests/cluster_blackbox \
		tests/interop/test_matrix.py tests/fault/test_cluster_crash.py $(ARGS)

cluster-crash: $(VENV)/.workshop ## ROUNDS (200) of kills and cuts of nodes and servers under load; SEED, ARGS="--report FILE"
	@$(BIN)/python -m tests.fault.cluster --rounds $(or $(ROUNDS),200) \
		$(if $(SEED),--seed $(SEED)) $(ARGS)

abuse: $(VENV)/.service ## a good client beside 5,000 bad ones of each kind (ARGS="--count 500")
	@ulimit -n $$(ulimit -Hn); $(BIN)/python -m bench abuse $(ARGS)

screenshots: $(VENV)/.workshop node ## take the console's pictures in docs/images anew (needs Chromium)
	@HOTPATH_SCREENSHOTS=1 $(PYTEST) --randomly-dont-reorganize -rs tests/console/test_console.py -k pictures $(ARGS)

fuzz-index: $(VENV)/.workshop ## a million filter-message pairs: the filter index against the scan (SEED=1)
	@QEL_INDEX_PAIRS=1000000 QEL_INDEX_SEED=$(or $(SEED),1) timeout --kill-after=15 3600 \
		$(BIN)/python -m pytest -q -s --timeout=3600 -p no:randomly \
		tests/property/test_qel_index.py -k many_pairs

fuzz: $(VENV)/.workshop ## INPUTS (10000000) hostile AMQP inputs, SEED=1, at most SECONDS (0: no limit); goes on where it was
	@$(BIN)/python -m tests.fuzz --inputs $(or $(INPUTS),10000000) --seconds $(or $(SECONDS),0) \
		--seed $(or $(SEED),1) --workers $(WORKERS) $(ARGS)

GUIDED := values messages properties sasl frames requests addresses sas jwt qel bodies amqp

fuzz-guided: $(VENV)/.workshop ## coverage-guided: each parser for SECONDS (60); TARGETS="qel jwt" for some
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'atheris>=3,<4'
	@for target in $(or $(TARGETS),$(GUIDED)); do \
		echo "== $$target"; \
		$(BIN)/python -m tests.fuzz.guided $$target --seconds $(or $(SECONDS),60) \
			--seed $(or $(SEED),1) $(ARGS) 2>&1 | tail -n 12 || exit 1; \
	done

native-sanitize: $(VENV)/.workshop ## tests of the C helper with the address and undefined-behaviour sanitizers
	@BIN=$(abspath $(BIN)) bash tests/native-sanitize

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

bench: $(VENV)/.service ## throughput through the real path (needs a C compiler); see bench/README.md
	@$(MAKE) -C bench/clients PYTHON=$(abspath $(BIN)/python)
	@$(BIN)/python -m bench $(ARGS)

bench-peers: ## fetch the brokers that hotpath is measured against and no package here has
	@bash bench/peers.sh

bench-all: $(VENV)/.service ## all that docs/performance.md tells, peers included (ARGS="--minutes 60 --docs")
	@$(MAKE) -C bench/clients PYTHON=$(abspath $(BIN)/python)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'matplotlib>=3.9'
	@ulimit -n $$(ulimit -Hn); $(BIN)/python -m bench all $(ARGS)

bench-compare: $(VENV)/.service ## is HEAD slower than BASE, beyond noise? (BASE=v0.1.0 ARGS="--rounds 12")
	@test -n "$(BASE)" || { echo "name a commit: make bench-compare BASE=HEAD~1" >&2; exit 2; }
	@$(MAKE) -C bench/clients PYTHON=$(abspath $(BIN)/python)
	@$(BIN)/python -m bench guard $(BASE) $(ARGS)

docs: $(VENV)/.workshop ## the pages of docs/ as a site, in site/
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check 'mkdocs>=1.6,<2'
	@$(BIN)/python -m mkdocs build --strict --quiet
	@echo "site/index.html"

clean: ## remove what was made, the virtual environment too (data stays)
	rm -rf $(VENV) $(addsuffix /node_modules,$(NODE_TESTS)) build dist site htmlcov .coverage .mypy_cache .ruff_cache \
		.pytest_cache .import_linter_cache .hypothesis *.egg-info hotpath/native/*.so
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
	@if [ -f bench/clients/Makefile ]; then $(MAKE) -C bench/clients clean; fi
