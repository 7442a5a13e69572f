# A fresh machine needs python3.11 (or newer), pip, git and make. Every target sets up what it needs.
PYTHON ?= python3.11
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: demo test lint clean

demo: $(VENV)/.plots
	$(BIN)/jumpsteps demo --out demo

test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

lint: $(VENV)/.dev
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

$(VENV)/bin/python:
	$(PYTHON) -m venv $(VENV)

# torch first and alone: its pinned version installs as a small CPU build.
$(VENV)/.torch: $(VENV)/bin/python constraints.txt
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt torch
	touch $@

$(VENV)/.plots: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[plots]'
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

clean:
	rm -rf $(VENV) demo build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
