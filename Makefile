# `make quickstart` and `make test` are all that a new user needs. Both make a virtual environment
# in this directory and install into it, once.

VENV ?= .venv
# The first Python of a version that TensorFlow has wheels for.
PYTHON ?= $(shell for p in python3 python3.13 python3.12 python3.11 python3.10; do \
	$$p -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null \
	&& echo $$p && break; done)
BIN := $(VENV)/bin
HOST := $(VENV)/.installed-host
DEV := $(VENV)/.installed-dev

.PHONY: quickstart test studies runtimes arm64 check format clean help

help: ## Say what can be made
	@grep -hE '^[a-z0-9]+:.*## ' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/'

$(BIN)/python:
	@test -n "$(PYTHON)" || { echo "No Python 3.10 to 3.13 was found; set PYTHON=/path/to/python3.11." >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(HOST): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[host]'
	@touch $@

$(DEV): pyproject.toml | $(BIN)/python
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e '.[dev]'
	@touch $@ $(HOST)

quickstart: $(HOST) ## Train, export, prove and benchmark a VAE, in a minute or two
	$(BIN)/vae-edge quickstart

# A file at a time to each of two processes: the tests of one file share what they have exported.
test: $(DEV) ## Run the tests
	$(BIN)/python -m pytest -n 2 --dist loadfile

studies: $(DEV) ## Run the tests that are studies of their own, of minutes each
	$(BIN)/python -m pytest -m study

runtimes: $(DEV) ## Run exported artifacts on the oldest and newest runtimes (needs Python 3.11)
	$(BIN)/python -m pytest -m runtimes tests/runtimes

arm64: $(HOST) ## Prove the wheel and a bundle on an emulated Raspberry Pi (needs qemu-user, see docs/arm64.md)
	$(BIN)/python -m benchmarks.device_proof build/arm64 --json build/arm64-proof.json

check: $(DEV) ## Lint, formatting and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(DEV) ## Format the code
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

clean: ## Remove the virtual environment and what was built
	rm -rf $(VENV) build dist *.egg-info
