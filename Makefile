# The first target that needs an environment sets it up. `make` lists the targets.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/$(if $(filter Windows_NT,$(OS)),Scripts,bin)
STAMP := $(VENV)/.installed
PYTEST := python -m pytest -n auto --dist loadfile

.PHONY: help demo demo-vision demo-lm test test-lowest test-newest lock bench bench-quick fuzz docs lint format clean

help:  ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "make %-12s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

# FULL=1 scores whole test splits instead of a sample.
DEMO_OPTIONS = $(if $(FULL),--full)

demo: $(STAMP)  ## Answer three text tasks with one network by swapping prompts
	@$(BIN)/python examples/demo.py $(DEMO_OPTIONS)

demo-vision: $(STAMP)  ## Do the same with an image network, and draw its answers
	@$(BIN)/python examples/demo_vision.py $(DEMO_OPTIONS)

demo-lm: $(STAMP)  ## Do the same with a language model that generates its answers
	@$(BIN)/python examples/demo_lm.py $(DEMO_OPTIONS)

test: $(STAMP)  ## Run every test, real weights included, with branch coverage
	$(BIN)/$(PYTEST) --cov --cov-report=term

test-lowest:  ## Run the tests on the lowest supported dependency versions
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python $(INSTALL) -c tests/lowest.txt pip hatchling editables
	.venv-lowest/bin/python $(INSTALL) -c tests/lowest.txt $(PROJECT) --group bench
	.venv-lowest/bin/$(PYTEST)

test-newest:  ## Run the tests on the newest dependency versions
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python $(INSTALL) --upgrade pip hatchling editables
	.venv-newest/bin/python $(INSTALL) $(PROJECT) --group bench
	.venv-newest/bin/$(PYTEST)

bench: $(STAMP)  ## Run all benchmarks and write a report (about an hour)
	$(BIN)/python benchmarks/all.py

bench-quick: $(STAMP)  ## Run all benchmarks on few samples (within five minutes)
	$(BIN)/python benchmarks/all.py --quick

SECONDS ?= 900
FUZZED := $(VENV)/.fuzz-installed

fuzz: $(FUZZED)  ## Fuzz every file reader for SECONDS each (default: 900)
	$(BIN)/python tests/fuzzing/fuzz.py all --seconds $(SECONDS)

$(FUZZED): $(STAMP)
	$(BIN)/python $(INSTALL) -c constraints.txt --group fuzz
	touch $@

DOCS := $(VENV)/.docs-installed

docs: $(DOCS)  ## Build the documentation site into build/site, strictly
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict

$(DOCS): $(STAMP)
	$(BIN)/python $(INSTALL) -c constraints.txt --group docs
	touch $@

lint: $(STAMP)  ## Check formatting, lint rules and types
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache

format: $(STAMP)  ## Format the code and apply automatic fixes
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# constraints.txt is the lock: exact versions of everything, for Python 3.11 to 3.14 on Linux, macOS and Windows. pip
# installs from it, since uv would fetch a CUDA build of torch. What is built is built with locked tools as well.
INSTALL := -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
	--annotation-style line --custom-compile-command 'make lock'
GROUPS := build test lint bench fuzz docs lock
PROJECT := --no-build-isolation -e '.[quantize,sign,watch,metrics]' --group test

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c constraints.txt pip hatchling editables
	$(BIN)/python $(INSTALL) -c constraints.txt $(PROJECT) --group lint --group bench
	touch $@

lock: $(STAMP)  ## Update the lock files, constraints.txt and tests/lowest.txt
	$(BIN)/python $(INSTALL) --upgrade --group lock
	$(COMPILE) --all-extras $(GROUPS:%=--group %) --output-file constraints.txt
	$(COMPILE) --no-config --resolution lowest-direct --extra quantize --extra sign --extra watch --extra metrics \
		--group build --group test --group bench --output-file tests/lowest.txt

clean:  ## Remove environments, caches and build output
	rm -rf $(VENV) .venv-lowest .venv-newest .cache build dist
