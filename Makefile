# The project's commands. `make help` is their documentation: a target without a text there is a bug.
SHELL := /bin/bash
.DEFAULT_GOAL := help
.DELETE_ON_ERROR:

PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PACKAGES := unjucks_api unjucks_operator unjucks_engine unjucks_runtime unjucks_webhooks
CLUSTER = PYTHONPATH=tests $(BIN)/python -m e2e.cluster
PYTEST = $(BIN)/pytest
STAGE = $(BIN)/python tests/support/stage.py

# Tests with real servers depend on a machine that is sometimes busy: what failed is shown, and run once more on its own. What fails
# twice has failed. Unit tests get no second chance.
twice = $(PYTEST) $(1) -q $(2) || { echo "== some tests failed; once more, these alone"; $(PYTEST) $(1) -q --last-failed --last-failed-no-failures none; }

##@ Start here

.PHONY: help
help: ## This text
	@awk 'BEGIN {FS = ":.*## "} /^##@/ {printf "\n%s\n", substr($$0, 5)} /^[a-zA-Z0-9_-]+:.*## / {printf "  %-16s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo

.PHONY: demo
demo: $(READY) ## A cluster with the operator, a tenant and generated files; a second run is fast and changes nothing
	@PYTHONPATH=tests $(BIN)/python -m e2e.demo up

.PHONY: demo-down
demo-down: $(READY) ## Remove the demo and its cluster; nothing is left behind
	@PYTHONPATH=tests $(BIN)/python -m e2e.demo down

.PHONY: test
test: $(READY) ## Everything that can be tested: lint, types, unit, chart, integration, end to end; shows how long each stage took
	@$(STAGE) packages "$(BIN)/python -m e2e.cluster.packages --all"
	@$(STAGE) check "$(MAKE) --no-print-directory check"
	@$(STAGE) unit "$(MAKE) --no-print-directory test-unit"
	@$(STAGE) programs "$(CLUSTER) build"
	@$(STAGE) integration "$(MAKE) --no-print-directory test-integration"
	@$(STAGE) e2e "$(MAKE) --no-print-directory test-e2e"
	@$(STAGE) --summary

##@ Tests one by one

.PHONY: test-unit
test-unit: $(READY) ## Unit tests, conformance and golden tests: seconds, no services
	@$(PYTEST) tests/unit tests/conformance tests/fuzz -q -n 2

.PHONY: test-integration
test-integration: $(READY) ## Against a real control plane, PostgreSQL, PgBouncer and renderer processes; no nodes
	@$(call twice,tests/integration tests/chart,-n 2 --dist loadfile)

.PHONY: test-e2e
test-e2e: $(READY) ## On the real cluster: pods, packets, the chart, the images
	@$(call twice,tests/e2e)

.PHONY: isolation
isolation: $(READY) ## Every attack on the isolation of tenants, tried with everything up and with us down; ARGS="--help" for more
	@PYTHONPATH=tests $(BIN)/python -m isolation $(ARGS)

.PHONY: check
check: $(READY) ## Format, lint, types, import rules, and that everything generated is up to date
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports
	@$(BIN)/unjucks-crdgen --check
	@PYTHONPATH=tests $(BIN)/python -m support.generated --check --pure

.PHONY: format
format: $(READY) ## Put the code into its format and mend what the linter can
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

.PHONY: conformance
conformance: $(READY) ## Nunjucks conformance, passed/total by area: CASES=DIR for other cases, REGENERATE=1 to ask Node again
	@$(BIN)/python tests/conformance/run.py $(if $(CASES),$(CASES)) $(if $(REGENERATE),--regenerate)

.PHONY: fuzz
fuzz: $(READY) ## Compare random templates with Node's nunjucks: PAIRS=100000 SEED=1
	@$(BIN)/python tests/fuzz/run.py --install --pairs $(or $(PAIRS),10000) --seed $(or $(SEED),1)

##@ The cluster alone

.PHONY: cluster-up
cluster-up: $(READY) ## Start the test cluster: kind where a Docker engine answers, else built from Go modules
	@$(CLUSTER) up

.PHONY: cluster-down
cluster-down: $(READY) ## Remove the test cluster: processes, mounts, network devices, rules
	@$(CLUSTER) down

.PHONY: cluster-status
cluster-status: $(READY) ## Whether the test cluster runs and is ready
	@$(CLUSTER) status

.PHONY: images
images: $(READY) ## Build the container images and load them into the test cluster
	@$(CLUSTER) load-images

.PHONY: image-context
image-context: $(READY) ## Fill dist/image-context, the folder for `docker build`, and print its path
	@$(CLUSTER) image-context

##@ Measurements: one line of JSON each, with a ratio to a floor or a peer of the same run

.PHONY: bench-tenants
bench-tenants: $(READY) ## Set up N=100 tenants (DATABASE=dedicated: a database for each); beside the same objects from a plain client
	@PYTHONPATH=tests $(BIN)/python tests/perf/bench_tenants.py --tenants $(or $(N),100) --database $(or $(DATABASE),shared)

.PHONY: bench-drift
bench-drift: $(READY) ## How long an edit stands: each child of a tenant deleted, each held field changed and taken away; N=20 tenants
	@PYTHONPATH=tests $(BIN)/python tests/perf/bench_drift.py --tenants $(or $(N),20)

.PHONY: bench-jobs
bench-jobs: $(READY) ## N=200 jobs at RATE=10 a second on a warm renderer; 1,000 jobs of 50 tenants (fairness); on a cluster: a pod for each job, and a bad neighbour
	@PYTHONPATH=tests $(BIN)/python tests/perf/bench_jobs.py --jobs $(or $(N),200) --rate $(or $(RATE),10)
	@PYTHONPATH=tests $(BIN)/python tests/perf/bench_fairness.py
	@PYTHONPATH=tests $(BIN)/python tests/perf/bench_cluster_jobs.py

.PHONY: bench-render
bench-render: $(READY) ## Our engine, plain Jinja2 and Node's nunjucks (fetched with npm, pinned) on the same templates in turns
	@$(BIN)/python tests/perf/bench_render.py --install

##@ For maintainers

.PHONY: venv
venv: $(READY) ## The virtual environment with everything pinned by hash

.PHONY: generate
generate: $(READY) ## Everything that is generated: CRDs, references, the static install file
	@$(BIN)/unjucks-crdgen
	@PYTHONPATH=tests $(BIN)/python -m support.generated

.PHONY: lock
lock: $(READY) ## Choose the newest allowed versions of all dependencies and pin them by hash
	@for role in operator renderer webhooks courier; do $(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header \
		--no-emit-index-url --upgrade --extra $$role pyproject.toml --output-file requirements/$$role.txt; done
	@$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-header --no-emit-index-url --upgrade \
		--all-extras --group dev pyproject.toml --output-file requirements/dev.txt

.PHONY: clean
clean: ## Remove the virtual environment and what tools left; caches in the user's cache folder stay
	rm -rf $(VENV) dist build .pytest_cache .mypy_cache .ruff_cache .import_linter_cache

$(READY): requirements/dev.txt pyproject.toml
	@$(PYTHON) -c 'import sys; sys.exit("Python 3.11 or newer is needed: set PYTHON=") if sys.version_info < (3, 11) else None'
	@echo "making the virtual environment in $(VENV) (about a minute)"
	@$(PYTHON) -m venv $(VENV) || { echo "on Debian: sudo apt-get install python3-venv"; exit 3; }
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements/dev.txt
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@
