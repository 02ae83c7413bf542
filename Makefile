# `make demo` and `make test` need only Python 3.11 to 3.13: they make .venv and install into it
# what constraints.txt says.
PYTHON ?= python3
VENV := .venv
BIN = $(VENV)/bin
CONSTRAINTS := constraints.txt
PINS = $(if $(CONSTRAINTS),--constraint $(CONSTRAINTS))
INSTALL = $(BIN)/python -m pip install --quiet $(PINS) $(if $(CONSTRAINTS),--build-constraint $(CONSTRAINTS))
MARKS := not long and not slow and not gpu and not speed
export OMP_NUM_THREADS ?= 1
export OMP_WAIT_POLICY ?= PASSIVE

.PHONY: demo test test-all ray-tests other-tests test-newest upgrade lint format speed gpu docs clean

demo: $(VENV)/.installed
	$(BIN)/raymcu demo

# Two processes at once: one has the Ray session.
test: $(VENV)/.installed-test
	$(MAKE) --jobs=2 ray-tests other-tests

# What `make test` runs and what takes longer.
test-all: $(VENV)/.installed-test
	$(MAKE) --jobs=2 ray-tests other-tests MARKS="not slow and not gpu and not speed"

ray-tests other-tests:
	$(BIN)/pytest -q -m "$(if $(filter ray-tests,$@),ray,not ray) and $(MARKS)"

# With the newest releases that pyproject.toml allows, in a venv of its own: what is about to break.
test-newest:
	rm -rf .venv-newest
	$(MAKE) test VENV=.venv-newest CONSTRAINTS=

# Writes constraints.txt anew from these releases, and tests with it. The oldest Python has to do
# it, as releases for a newer one may not support it. What torch's CUDA build alone needs is left
# out: torch itself says which of it fits.
upgrade:
	rm -rf .venv-newest
	$(MAKE) .venv-newest/.installed-test VENV=.venv-newest CONSTRAINTS= PYTHON=python3.11
	.venv-newest/bin/python -m pip install --quiet hatchling editables --editable ".[8bit,docs,mlflow,wandb]"
	.venv-newest/bin/python -m pip freeze --all --exclude-editable \
	  | sed -E 's/\+[a-z0-9.]+$$//; /^(nvidia|cuda|triton)/d; 1i # Written by `make upgrade`.' \
	  > constraints.txt
	$(MAKE) test-all

lint: $(VENV)/.installed-test
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: $(VENV)/.installed-test
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

speed: $(VENV)/.installed-test
	$(BIN)/pytest -q -s -m speed tests/speed

# On one CUDA device: that it does what the CPU does, and how fast and in how much memory.
gpu: $(VENV)/.installed-test
	$(BIN)/pytest -q -s -m gpu tests/gpu

docs: $(VENV)/.installed
	$(INSTALL) --editable ".[docs]"
	$(BIN)/python -m sphinx -W --keep-going -q -b html docs docs/_build/html
	@echo docs/_build/html/index.html

$(VENV)/.installed: pyproject.toml $(CONSTRAINTS)
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet $(PINS) --upgrade pip
	$(INSTALL) --editable .
	touch $@

$(VENV)/.installed-test: $(VENV)/.installed
	$(INSTALL) --editable ".[test]"
	touch $@

clean:
	rm -rf $(VENV) .venv-newest runs dist docs/_build docs/reference/generated
	rm -rf .pytest_cache .mypy_cache .ruff_cache
