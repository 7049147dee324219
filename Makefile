# Two commands do everything: `make quickstart` and `make test`. Python 3.11 or newer and make are
# all they need. Where a virtual environment is active, or VENV names one, that one is used.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
export TOKENIZERS_PARALLELISM = false

.PHONY: quickstart test test-all lint install clean

install: $(STAMP)

$(STAMP): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(STAMP)

quickstart: $(STAMP)  ## train a small model for about a minute and watch alignment emerge
	$(BIN)/python examples/quickstart.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## what every change must pass
	$(BIN)/python -m pytest -m "not slow and not gpu"

test-all: test .deepspeed  ## and what is slow
	$(BIN)/python -m pytest -m "slow and not gpu"

# Beside the environment, since accelerate imports it wherever it is found. It needs a compiler.
.deepspeed: $(STAMP)
	if command -v g++ >/dev/null; then $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt --upgrade --target $@ --no-deps --no-build-isolation \
	  deepspeed einops hjson msgpack ninja py-cpuinfo; fi

clean:
	rm -rf $(VENV) .deepspeed runs .mypy_cache .ruff_cache .pytest_cache .hypothesis
