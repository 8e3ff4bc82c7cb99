# The two commands of a new user: `make demo` and `make test`. A second run rebuilds nothing without need.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin
ARGS   ?=

.PHONY: demo test check lint types unit docs bench clean help

help:            ## what can be made
	@grep -E '^[a-z]+: .*##' $(MAKEFILE_LIST) | sed 's/:.*##/\t/'

demo: $(VENV)/.run    ## watch a whole window of a real service on this machine (ARGS="--fault read-errors")
	$(BIN)/freezewatch demo $(ARGS)

test: $(VENV)/.dev    ## every check and every test
	./.ci/check $(BIN)

lint: $(VENV)/.dev    ## style only
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: $(VENV)/.dev   ## types only
	$(BIN)/mypy

unit: $(VENV)/.dev    ## the tests that start no demo window
	$(BIN)/pytest -q -n auto -m "not window" $(ARGS)

bench: $(VENV)/.dev   ## speed and memory, as ratios in one run
	$(BIN)/python -m bench $(ARGS)

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

$(VENV)/.run: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing freezewatch and what it needs into $(VENV); the first time takes a minute or two"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable .
	touch $@

$(VENV)/.dev: $(VENV)/bin/python pyproject.toml constraints.txt
	@echo "installing freezewatch, what it needs and what checks it into $(VENV)"
	$(BIN)/pip install --quiet --constraint constraints.txt --editable '.[dev]'
	touch $@ $(VENV)/.run

clean:           ## forget the environment and what was built
	rm -rf $(VENV) build dist .mypy_cache .ruff_cache .pytest_cache freezewatch-demo
