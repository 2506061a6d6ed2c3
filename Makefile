# Every target sets up the environment it needs: on a fresh Debian 12 with Python 3.11, make and gcc, run `make demo`.
# PIP_ARGS is passed to every pip install. For a PyTorch build without CUDA libraries, which saves gigabytes:
#   make setup PIP_ARGS="--extra-index-url https://download.pytorch.org/whl/cpu"

PYTHON   ?= $(shell command -v python3.11 || command -v python3)
PIP_ARGS ?=
PYTEST_ARGS ?=
# Two files of tests at a time: most tests use one core.
PARALLEL := -n 2 --dist loadfile

VENV  := .venv
BIN   := $(VENV)/bin
STAMP := $(VENV)/edgepack-setup

.PHONY: demo test test-all bench coverage lint format setup system test-packages check-docker update-constraints wheel clean help
.NOTPARALLEL:
.DEFAULT_GOAL := help

help: ## Show this list
	@sed -n 's/^\([a-z-]*\):.*## /\1|/p' $(MAKEFILE_LIST) | while IFS='|' read -r name text; do printf '%-20s %s\n' "$$name" "$$text"; done

demo: setup ## Run the full pipeline on the digits example, for x86-64, an emulated Raspberry Pi 4 and Jetson Orin
	scripts/demo.sh $(BIN)/edgepack

test: test-packages setup lint ## Lint, type checks, and all tests except the slow ones
	$(BIN)/python -m pytest -m "not slow" $(PARALLEL) $(PYTEST_ARGS)

test-all: test-packages setup lint ## Lint, type checks, and all tests
	$(BIN)/python -m pytest $(PARALLEL) $(PYTEST_ARGS)

# Run it on an idle machine, as was done for the results in benchmarks/.
bench: setup ## Compare edgepack with its peers; for a subset: make bench NETS=ds_cnn,lstm PEERS=onnxruntime MINUTES=20
	$(BIN)/python -m benchmarks.peers $(if $(NETS),--nets '$(NETS)') $(if $(PEERS),--peers '$(PEERS)') \
		$(if $(MINUTES),--minutes '$(MINUTES)') $(BENCH_ARGS)

coverage: setup ## Run the onnx package's test cases through edgepack and stock TVM; writes docs/onnx-coverage.md
	$(BIN)/python -m benchmarks.coverage $(COVERAGE_ARGS)

lint: $(STAMP) ## Check lint, formatting and types only
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

format: $(STAMP) ## Format the sources and apply lint fixes
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

setup: system $(STAMP) ## Create the virtual environment and install dependencies and system packages

system:
	@PYTHON='$(PYTHON)' scripts/system-packages.sh

test-packages:
	@PYTHON='$(PYTHON)' scripts/system-packages.sh --tests

# The build backend is installed first, from the constraints file, so that edgepack is built with pinned packages only.
$(STAMP): pyproject.toml constraints.txt | system
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt hatchling editables
	$(BIN)/python -m pip install --quiet --disable-pip-version-check $(PIP_ARGS) -c constraints.txt \
		--no-build-isolation --editable '.[cuda,dev]'
	@touch $@

wheel: $(STAMP) ## Build dist/edgepack-*.whl
	$(BIN)/python -m pip wheel --quiet --no-deps --no-build-isolation --wheel-dir dist .

check-docker: $(STAMP) ## Run the Dockerfile's steps in a fresh Debian, without Docker (needs root, takes minutes)
	$(BIN)/python scripts/check-dockerfile.py --run $(CHECK_DOCKER_ARGS)

update-constraints: ## Resolve the dependencies again and write constraints.txt
	PIP_ARGS='$(PIP_ARGS)' PYTHON='$(PYTHON)' scripts/update-constraints.sh

clean: ## Remove the virtual environment, build output and caches
	rm -rf $(VENV) build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
