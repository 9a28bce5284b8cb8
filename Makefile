# Everything a fresh machine needs is set up by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PYTEST := python -m pytest -n auto --dist loadfile

.PHONY: demo demo-vision demo-lm test test-lowest test-newest lock bench bench-quick fuzz lint format clean

# FULL=1 scores whole test splits instead of a sample.
DEMO_OPTIONS = $(if $(FULL),--full)

demo: $(STAMP)  ## export a sentence encoder once and answer three tasks by swapping prompts
	@$(BIN)/python examples/demo.py $(DEMO_OPTIONS)

demo-vision: $(STAMP)  ## the same with an image backbone, and a picture of its answers
	@$(BIN)/python examples/demo_vision.py $(DEMO_OPTIONS)

demo-lm: $(STAMP)  ## the same with a language model: generated answers, time to the first token
	@$(BIN)/python examples/demo_lm.py $(DEMO_OPTIONS)

test: $(STAMP)  ## every test, those on real weights too
	$(BIN)/$(PYTEST)

test-lowest:  ## the tests on the lowest versions that the package's metadata states, in .venv-lowest
	$(PYTHON) -m venv --clear .venv-lowest
	.venv-lowest/bin/python $(INSTALL) -c tests/lowest.txt pip hatchling editables
	.venv-lowest/bin/python $(INSTALL) -c tests/lowest.txt $(PROJECT) --group bench
	.venv-lowest/bin/$(PYTEST)

test-newest:  ## the tests on the newest versions of everything, whatever the lock holds back, in .venv-newest
	$(PYTHON) -m venv --clear .venv-newest
	.venv-newest/bin/python $(INSTALL) --upgrade pip hatchling editables
	.venv-newest/bin/python $(INSTALL) $(PROJECT) --group bench
	.venv-newest/bin/$(PYTEST)

bench: $(STAMP)  ## every benchmark beside its peers, in about an hour: .cache/bench/report.html
	$(BIN)/python benchmarks/all.py

bench-quick: $(STAMP)  ## the same from few samples, within five minutes: .cache/bench/quick/report.html
	$(BIN)/python benchmarks/all.py --quick

SECONDS ?= 900
FUZZED := $(VENV)/.fuzz-installed

fuzz: $(FUZZED)  ## hostile files for every reader, led by coverage, SECONDS for each; docs/security.md
	$(BIN)/python tests/fuzzing/fuzz.py all --seconds $(SECONDS)

$(FUZZED): $(STAMP)
	$(BIN)/python $(INSTALL) -c constraints.txt --group fuzz
	touch $@

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

# constraints.txt is the lock: exact versions of everything, for Python 3.11 to 3.14 on Linux, macOS and Windows. pip
# installs from it, since uv would fetch a CUDA build of torch. What is built is built with locked tools as well.
INSTALL := -m pip install --quiet --disable-pip-version-check
COMPILE := $(BIN)/uv pip compile pyproject.toml --quiet --upgrade --universal --python-version 3.11 \
	--annotation-style line --custom-compile-command 'make lock'
GROUPS := build test lint bench fuzz lock
PROJECT := --no-build-isolation -e '.[quantize,sign,watch]' --group test

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python $(INSTALL) -c constraints.txt pip hatchling editables
	$(BIN)/python $(INSTALL) -c constraints.txt $(PROJECT) --group lint --group bench
	touch $@

lock: $(STAMP)  ## renew both locks: the newest versions that work together, and the lowest that are stated
	$(BIN)/python $(INSTALL) --upgrade --group lock
	$(COMPILE) --all-extras $(GROUPS:%=--group %) --output-file constraints.txt
	$(COMPILE) --no-config --resolution lowest-direct --extra quantize --extra sign --extra watch \
		--group build --group test --group bench --output-file tests/lowest.txt

clean:
	rm -rf $(VENV) .venv-lowest .venv-newest .cache build dist
