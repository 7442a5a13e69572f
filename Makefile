# A fresh machine needs Python 3.11, 3.12 or 3.13, git and make. Every target sets up what it needs.
PYTHON ?= python3.11
VENV ?= .venv
DOCS_VENV ?= .venv-docs
BIN := $(VENV)/bin
PIP := $(BIN)/pip install -q --disable-pip-version-check -c constraints.txt
CODE := src tests experiments benchmarks website

.PHONY: demo test fast fuzz cov lint format tables check-tables docs hooks clean

# Finds schedules, samples and compares; writes demo/.
demo: $(VENV)/.plots
	$(BIN)/jumpsteps demo --out demo

# All tests, two processes.
test: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2

# Unit tests: without those marked slow and without the shipped networks. About a minute.
fast: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 -m 'not slow'

# 10,000 inputs at random for files and command lines. To repeat a run: make fuzz SEED=...
SEED ?= $(shell date +%Y%m%d)
fuzz: $(VENV)/.dev
	@echo "10000 inputs of seed $(SEED)"
	JUMPSTEPS_FUZZ=10000 $(BIN)/python -m pytest -n 2 tests/fuzz --hypothesis-seed=$(SEED)

# All tests, with the share of lines and branches that they run.
cov: $(VENV)/.dev
	$(BIN)/python -m pytest -n 2 --cov --cov-report=term:skip-covered --cov-report=xml

# Style, types and the order of the packages.
lint: $(VENV)/.dev
	$(BIN)/ruff check $(CODE)
	$(BIN)/ruff format --check $(CODE)
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.dev
	$(BIN)/ruff check --fix $(CODE)
	$(BIN)/ruff format $(CODE)

# The tables of README.md and docs/ from docs/results/*.json.
tables: $(BIN)/python
	$(BIN)/python experiments/tables.py

check-tables: $(BIN)/python
	$(BIN)/python experiments/tables.py --check

# The site of the documentation, in site/; a warning is an error. Needs no network once set up.
docs: $(DOCS_VENV)/.docs
	NO_MKDOCS_2_WARNING=1 $(DOCS_VENV)/bin/mkdocs build --strict --quiet
	@echo "The site is in site/: open site/index.html; its search works where it is served:"
	@echo "    python3 -m http.server -d site"

# Checks before every commit.
hooks: $(VENV)/.dev
	$(BIN)/pre-commit install

$(BIN)/python $(DOCS_VENV)/bin/python:
	@command -v $(PYTHON) >/dev/null || { \
	  echo "There is no $(PYTHON) here. Pass another Python, 3.11 to 3.13:"; \
	  echo "    $(strip make $(MAKECMDGOALS)) PYTHON=python3.12"; exit 1; }
	$(PYTHON) -m venv $(@D:/bin=)

# torch first and alone: its pinned version installs as a small CPU build where the index has one.
$(VENV)/.torch: $(BIN)/python constraints.txt
	$(PIP) torch
	touch $@

$(VENV)/.plots: $(VENV)/.torch pyproject.toml
	$(PIP) -e '.[plots,music]'
	touch $@

$(VENV)/.dev: $(VENV)/.torch pyproject.toml
	$(PIP) -e '.[dev]'
	touch $@

# A virtual environment of its own: without torch, and without slowing the others down.
$(DOCS_VENV)/.docs: $(DOCS_VENV)/bin/python constraints.txt website/requirements.txt
	$(DOCS_VENV)/bin/pip install -q --disable-pip-version-check -c constraints.txt \
	  -r website/requirements.txt
	touch $@

clean:
	rm -rf $(VENV) $(DOCS_VENV) demo site build dist .coverage coverage.xml
	rm -rf .mypy_cache .pytest_cache .ruff_cache .import_linter_cache .hypothesis
