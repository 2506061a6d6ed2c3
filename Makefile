# Every entry point sets itself up: on a fresh Debian 12 with Python 3.11, make and gcc, `make demo` is enough.
# PIP_ARGS reaches every pip install; with
#   make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"
# torch comes without its CUDA libraries, which saves gigabytes.

PYTHON   ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
PYTEST_ARGS ?=

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/edgepack-setup

.PHONY: demo test test-all bench coverage lint format setup system test-packages check-docker update-constraints wheel clean help
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done

demo: setup ## Run the main job on real input: digits, for x86-64 and an emulated Raspberry Pi 4
	$(BIN)/edgepack run recipes/digits.yaml

test: test-packages setup lint ## Lint, types and every test that does not take minutes
	$(BIN)/python -m pytest -m "not slow" $(PYTEST_ARGS)

test-all: test-packages setup lint ## All tests
	$(BIN)/python -m pytest $(PYTEST_ARGS)

# The results that stand in benchmarks/ come from a machine with nothing else to do; so should yours.
bench: setup ## edgepack beside its peers; a part of it: make bench NETS=ds_cnn,lstm PEERS=onnxruntime MINUTES=20
	$(BIN)/python -m benchmarks.peers $(if $(NETS),--nets '$(NETS)') $(if $(PEERS),--peers '$(PEERS)') \
		$(if $(MINUTES),--minutes '$(MINUTES)') $(BENCH_ARGS)

coverage: setup ## The onnx package's own test cases through edgepack and stock TVM; writes docs/onnx-coverage.md
	$(BIN)/python -m benchmarks.coverage $(COVERAGE_ARGS)

lint: $(STAMP) ## Lint, formatting and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Format the sources and fix what lint can fix
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: system $(STAMP) ## Virtual environment, pinned dependencies and system packages

system:
	@PYTHON='$(PYTHON)' scripts/system-packages.sh

test-packages:
	@PYTHON='$(PYTHON)' scripts/system-packages.sh --tests

# Two steps: the build backend from the constraints file first, so that nothing unpinned builds edgepack.
$(STAMP): pyproject.toml constraints.txt | system
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt \
		--no-build-isolation --editable '.[cuda,dev]'
	@touch $@

wheel: $(STAMP) ## Build dist/edgepack-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

check-docker: $(STAMP) ## Run the Dockerfile's steps in a fresh Debian, without Docker (root, minutes)
	$(BIN)/python scripts/check-dockerfile.py --run $(CHECK_DOCKER_ARGS)

update-constraints: ## Resolve the dependencies anew and write constraints.txt
	PIP_ARGS='$(PIP_ARGS)' PYTHON='$(PYTHON)' scripts/update-constraints.sh

clean: ## Remove the virtual environment and what tools left in the tree
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
