.DEFAULT_GOAL := help
PYTHON ?= python3.11
CONSORTIUM ?= examples/demo.yaml
BIN := .venv/bin

export PREFECT_SERVER_ANALYTICS_ENABLED := false
export DO_NOT_TRACK := true
export MLFLOW_DISABLE_TELEMETRY := true

.PHONY: help install run test test-all check format clean

help: ## Show these targets
	@grep -hE '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 12

install: .venv/installed ## Make .venv and install the locked dependencies

.venv/installed: requirements.lock pyproject.toml
	test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

run: install ## Train the consortium of examples/demo.yaml (CONSORTIUM=… for another)
	@$(BIN)/chorus run $(CONSORTIUM)

test: install ## Run the tests (under 10 minutes)
	$(BIN)/pytest -q -n 2 --dist loadfile

test-all: install ## Run the slower proofs
	$(BIN)/pytest -q -n 2 --dist loadfile -m slow

check: install ## Format, lint, types and import contracts (under 15 seconds)
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .
	$(BIN)/mypy
	$(BIN)/lint-imports

format: install ## Rewrite the sources in the one format
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

clean: ## Remove what runs have left in .chorus
	rm -rf .chorus
