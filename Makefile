# Freya Push. `make run` and `make test` need nothing but make and Python 3.11 or newer.
#
#   make setup   .venv with everything pinned in requirements.lock
#   make run     the server on 127.0.0.1:8080, with its own PostgreSQL
#   make test    format, lint, types, tests
#   make model   a million random steps over sessions and connections: STEPS=100000 SEED=7
#   make chaos   replicas, faults and an oracle, for five minutes: ARGS="--minutes 60 --seed 7"
#   make soak    ten minutes of mixed load, memory and all else watched: ARGS="--minutes 2", ARGS="--churn"
#   make browser Debian's Chromium, for the dashboard's tests (make test tries, too)
#   make fuzz    rubbish against the readers and a live server, for two minutes: ARGS="--minutes 10 --seed 7"
#   make siege   attacks of every kind, a bystander and the server's memory: ARGS="--seconds 20"
#   make fmt     format, and fix what the linter can
#   make load    the load driver: make load ARGS="fanout --connections 1000 --rate 10"
#   make native  the fan-out's loop in C, where there is a compiler: optional, see docs/performance.md
#   make bench   every figure of docs/performance.md, each beside what it is compared with
#   make audit   whether anything the locks name is known to be vulnerable, by osv.dev
#   make lock    resolve the dependencies of pyproject.toml anew
#   make clean   remove .venv and caches (never data)

SHELL := /bin/sh
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

# The interpreter that builds .venv: PYTHON=/path/to/python, or the first new enough one found.
PYTHON ?=
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.ready
UV := $(VENV)/lock-tools/bin/uv
AUDIT := $(VENV)/audit-tools/bin/pip-audit

.PHONY: model help setup run test chaos soak fuzz lock fmt clean load bench native

help:
	@sed -n 's/^#   //p' Makefile

setup: $(STAMP)

$(STAMP): requirements.lock pyproject.toml tools/setup.sh
	@PYTHON="$(PYTHON)" sh tools/setup.sh $(VENV)
	@touch $@

# Prints the address, a token to try, and the next line to type. Arguments: make run ARGS="--port 9000"
run: setup
	$(BIN)/python -m server serve $(ARGS)

# Each of pytest's workers has a PostgreSQL and a Redis of its own. Arguments: make test ARGS="-k resume"
test: setup browser
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/pyright
	$(BIN)/python -m pytest -n logical --maxprocesses 4 --dist worksteal $(ARGS)

# Installs it where root and apt are; else, and where that fails, the dashboard's tests are skipped and say so.
browser:
	@sh tools/browser.sh

# Three replicas, a PostgreSQL and a Redis, and everything that can go wrong between them. Prints its seeds.
chaos: setup
	$(BIN)/python -m tests.faults $(ARGS)

# Fails where memory is not flat or something is left over. A plot: make soak ARGS="--svg docs/soak.svg"
soak: setup
	$(BIN)/python -m tests.soak $(ARGS)

# Random walks of a million steps over sessions and connections, beside the oracle; seeds are printed.
model: setup
	FREYA_MODEL_STEPS=$(or $(STEPS),1000000) FREYA_MODEL_SEED=$(or $(SEED),$(shell date +%s)) \
	$(BIN)/python -m pytest tests/model -q -s -n logical --maxprocesses 4 $(ARGS)

# Prints its seed; what it finds is found again under the number that it names.
fuzz: setup
	$(BIN)/python -m tests.fuzz $(ARGS)

fmt: setup
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

load: setup
	$(BIN)/python -m tests.load $(or $(ARGS),steady)

# For this .venv's Python alone. A server uses it where FREYA_NATIVE_FANOUT names the file.
native: setup
	$(BIN)/python -m server.build_native build/fanout_loop.so

bench: setup
	$(BIN)/python -m tests.bench $(ARGS)

# The tool has an environment of its own, so that it is none of the project's dependencies.
.PHONY: siege
siege: setup
	$(BIN)/python -m tests.attack $(ARGS)

.PHONY: audit
audit: $(AUDIT)
	$(AUDIT) --requirement requirements.lock --disable-pip --require-hashes --vulnerability-service osv \
		--progress-spinner off $(ARGS)

$(AUDIT): $(STAMP)
	$(BIN)/python -m venv $(VENV)/audit-tools
	$(VENV)/audit-tools/bin/python -m pip install --quiet pip-audit

# One resolution for every platform and Python; the server's lock is the same one without the tests' tools.
# Upgrades everything: make lock ARGS=--upgrade
COMPILE := $(UV) pip compile pyproject.toml --quiet --universal --python-version 3.11 --generate-hashes \
	--no-emit-index-url --no-emit-find-links --custom-compile-command "make lock"
lock: $(UV)
	$(COMPILE) --extra server --extra otel --extra test --output-file requirements.lock $(ARGS)
	$(COMPILE) --extra server --extra otel --constraints requirements.lock --output-file requirements-server.lock
	@! grep -nE '://|^ *(-i|-f|--index|--extra-index|--find-links|--trusted)|@ ' requirements.lock requirements-server.lock \
		|| { echo 'make lock: a lock names a package host or a path; it must not' >&2; exit 1; }

$(UV): $(STAMP)
	$(BIN)/python -m venv $(VENV)/lock-tools
	$(VENV)/lock-tools/bin/python -m pip install --quiet uv

clean:
	rm -rf $(VENV) .pytest_cache .ruff_cache .hypothesis build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
