# Everything a fresh machine needs is set up by the first target that needs it.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.PHONY: demo demo-vision demo-lm test bench bench-quick fuzz lint format clean

demo: $(STAMP)  ## export a real network once, answer three tasks by swapping prompts
	$(BIN)/python examples/demo.py

demo-vision: $(STAMP)  ## the same with an image backbone, and a picture of its answers
	$(BIN)/python examples/demo_vision.py

demo-lm: $(STAMP)  ## the same with a language model: generated answers, time to the first token
	$(BIN)/python examples/demo_lm.py

test: $(STAMP)  ## every test, those on real weights too
	$(BIN)/python -m pytest -n auto --dist loadfile

bench: $(STAMP)  ## every benchmark beside its peers, in about an hour: .cache/bench/report.html
	$(BIN)/python benchmarks/all.py

bench-quick: $(STAMP)  ## the same from few samples, within five minutes: .cache/bench/quick/report.html
	$(BIN)/python benchmarks/all.py --quick

SECONDS ?= 900
FUZZED := $(VENV)/.fuzz-installed

fuzz: $(FUZZED)  ## hostile files for every reader, led by coverage, SECONDS for each; docs/security.md
	$(BIN)/python tests/fuzzing/fuzz.py all --seconds $(SECONDS)

$(FUZZED): $(STAMP)
	$(BIN)/python -m pip install --quiet --group fuzz
	touch $@

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy

format: $(STAMP)
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

$(STAMP): pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --upgrade 'pip>=25.1'
	$(BIN)/python -m pip install --quiet -c constraints.txt -e '.[quantize,sign,watch]' --group test --group lint --group bench
	touch $@

clean:
	rm -rf $(VENV) .cache build dist
