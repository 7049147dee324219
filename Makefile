# `make quickstart` shows what this is; `make test` and `make test-all` check a change. Each installs
# into VENV (default: .venv). They need make and Python 3.11 or newer.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
PACKAGE := $(VENV)/.package
QUICK := -m "not slow and not distributed and not browser and not zoo and not gpu"
export TOKENIZERS_PARALLELISM = false

.PHONY: quickstart test test-all docs gpu lint install build clean

install: $(STAMP)

$(PACKAGE): pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt torch
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e .
	touch $(PACKAGE)

$(STAMP): $(PACKAGE)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[test]'
	touch $(STAMP)

quickstart: $(PACKAGE)  ## train a small model for about a minute and watch alignment emerge
	$(BIN)/python examples/quickstart.py

lint: $(STAMP)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

test: lint  ## lint, types, contracts, unit tests and one real Trainer run: about 3 minutes
	$(BIN)/python -m pytest -n 2 $(QUICK)

test-all: test docs .deepspeed .torchao  ## and everything else: ranks, browser, every model type, what is slow
	$(BIN)/python -m pytest -m "(slow or distributed or browser or zoo) and not gpu"

gpu: $(STAMP)  ## what only a GPU can show: at most 8 minutes, one table, kept in benchmarks/
	timeout 480 $(BIN)/python benchmarks/gpu.py --budget 300 --out benchmarks/gpu_$$(date +%Y%m%d).md

docs: $(STAMP)  ## the pages of docs/ and the API reference as a site in build/docs
	$(BIN)/python -m sphinx -q -W --keep-going -b html docs build/docs

# The wheel of the source archive is the same, byte for byte; the quickstart runs from the archive
# with the installed wheel, in an environment that has nothing else.
BUILT := build/package
build: $(STAMP)  ## wheel and source archive in dist/, checked in a clean environment
	rm -rf dist $(BUILT)
	$(BIN)/python -m hatchling build
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation -w $(BUILT)/again dist/*.tar.gz
	cmp dist/*.whl $(BUILT)/again/*.whl
	mkdir -p $(BUILT)/source
	tar -xzf dist/*.tar.gz -C $(BUILT)/source --strip-components=1
	rm -r $(BUILT)/source/neuronxa_callback
	$(PYTHON) -m venv $(BUILT)/venv
	$(BUILT)/venv/bin/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  dist/*.whl
	cd $(BUILT)/source && ../venv/bin/neuronxa --version && ../venv/bin/neuronxa --help >/dev/null \
	  && ../venv/bin/python examples/quickstart.py

# Not in the environment: accelerate imports DeepSpeed wherever it finds it. It needs a compiler.
.deepspeed: $(STAMP)
	if command -v g++ >/dev/null; then $(BIN)/python -m pip install --quiet --disable-pip-version-check \
	  -c constraints.txt --upgrade --target $@ --no-deps --no-build-isolation \
	  deepspeed einops hjson msgpack ninja py-cpuinfo; fi

# Not in the environment either: transformers imports torchao wherever it finds it.
.torchao: $(STAMP)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -c constraints.txt \
	  --upgrade --target $@ --no-deps torchao

clean:
	rm -rf $(VENV) .deepspeed .torchao runs build dist .mypy_cache .ruff_cache .pytest_cache .hypothesis
