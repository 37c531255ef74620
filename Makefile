# What can be done here? `make` lists it. Everything sets itself up: a machine with python3 (3.11 or later) is enough.

PYTHON ?= python3
BIN := .venv/bin
CONFIG ?=

# Nothing is written outside the checkout and TMPDIR: neither pip's cache nor compiled modules.
export PIP_CACHE_DIR := $(CURDIR)/.venv/cache/pip
export PIP_DISABLE_PIP_VERSION_CHECK := 1
export PYTHONPYCACHEPREFIX := $(CURDIR)/.venv/cache/pycache

# Progress bars on a terminal, silence in a pipe.
PIP := $(BIN)/python -m pip $$([ -t 2 ] || echo --quiet) install

TEST_PACKAGES := postgresql-15 prometheus prometheus-alertmanager chromium iptables iproute2 nginx-light etcd-server pgbouncer gcc libc6-dev
RULES := $(wildcard alerts/*.rules.yaml)
PAPERWORK := $(wildcard tests/test_layers.py tests/test_docs.py)

.DEFAULT_GOAL := help
.PHONY: help demo run test check bench format lock packages

help: ## this list
	@awk -F ':.*## ' '/^[a-z]+:.*## / {printf "make %-10s %s\n", $$1, $$2}' $(firstword $(MAKEFILE_LIST))

demo: .venv/demo.done ## two PostgreSQL regions, regiondrift, Prometheus and Alertmanager on this machine, to be broken
	@command -v prometheus >/dev/null || sh requirements/debian.sh prometheus || true
	@command -v prometheus-alertmanager >/dev/null || command -v alertmanager >/dev/null || sh requirements/debian.sh prometheus-alertmanager || true
	@exec $(BIN)/regiondrift demo

run: .venv/demo.done ## serve a configuration: make run CONFIG=regiondrift.yaml
	@[ -n "$(CONFIG)" ] || { echo "usage: make run CONFIG=regiondrift.yaml" >&2; exit 2; }
	@exec $(BIN)/regiondrift serve --config.file="$(CONFIG)"

test: .venv/dev.done packages ## the whole test suite, against real servers
	@$(BIN)/python tests/servers/releases.py
	$(BIN)/python -m pytest --ignore=tests/bench

check: .venv/dev.done ## style, types, import direction, documentation, alert rules
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy exporter collectors tests
	$(if $(PAPERWORK),$(BIN)/python -m pytest -q $(PAPERWORK))
	@command -v promtool >/dev/null || sh requirements/debian.sh prometheus
	@command -v promtool >/dev/null || [ "$$CI" = true ] || { echo "promtool is not installed: alert rules are not checked" >&2; exit 0; }; \
	    $(if $(RULES),promtool check rules $(RULES),true)

bench: .venv/dev.done packages ## measure, and compare with the goals
	$(BIN)/python tests/bench/run.py

format: .venv/dev.done ## bring the code into its one form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

lock: ## pin every dependency anew, with hashes, from pyproject.toml
	$(PYTHON) -m venv .venv/lock && .venv/lock/bin/pip --quiet install uv
	@for extras in "demo" "demo --extra dev"; do \
	    .venv/lock/bin/uv pip compile --quiet --upgrade --universal --python-version 3.11 --generate-hashes \
	        --custom-compile-command "make lock" --extra $$extras pyproject.toml \
	        -o requirements/$${extras##* }.txt || exit 1; \
	done

packages:
	@sh requirements/debian.sh $(TEST_PACKAGES)

.venv/bin/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || { echo "Python 3.11 or later is needed: make PYTHON=python3.12 ..." >&2; exit 2; }
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || sh requirements/debian.sh python3-venv
	@$(PYTHON) -c 'import ensurepip, venv' 2>/dev/null || { echo "$(PYTHON) cannot make environments: as root, apt-get install python3-venv" >&2; exit 2; }
	@exec $(PYTHON) -m venv .venv >&2

# Only that the interpreter is there counts, not its time: it is a link to the system's own.
.venv/%.done: requirements/%.txt pyproject.toml | .venv/bin/python
	@[ ! -t 2 ] || echo "installing $< into .venv ..." >&2
	@exec $(PIP) --require-hashes -r $< >&2
	@exec $(PIP) --no-deps -e . >&2
	@touch $@
