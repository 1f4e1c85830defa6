# `make help` lists the targets. Everything happens in .venv; nothing is installed elsewhere.
MAKEFLAGS += --no-print-directory
.DEFAULT_GOAL := help
.PHONY: help app test oracle lint format wheel-test clean clean-all

PYTHON  ?= python3
PORT    ?= 8501
ADDRESS ?= 127.0.0.1
HEADLESS ?=
ORACLE  ?=
TORCH   ?= torch

VENV := .venv
BIN  := $(VENV)/bin
PIP  := $(BIN)/python -m pip --disable-pip-version-check install --quiet --quiet  # errors only

# A stamp is younger than pyproject.toml as long as what pyproject.toml asks for is installed.
APP_STAMP  := $(VENV)/.installed-app
TEST_STAMP := $(VENV)/.installed-test
ORACLE_STAMP := $(VENV)/.installed-oracle

help:  ## this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  make %-11s %s\n", $$1, $$2}' $(MAKEFILE_LIST)
	@echo "  Variables: PORT=$(PORT) ADDRESS=$(ADDRESS) HEADLESS=1 (open no browser) PYTHON=$(PYTHON)"
	@echo "             ORACLE=1 (test with the oracle too) TORCH=$(TORCH) (which torch it installs)"

app: $(APP_STAMP)  ## install what is needed and open the dashboard
	@$(BIN)/streamlit run app.py --server.port $(PORT) --server.address $(ADDRESS) \
	  --server.showEmailPrompt false --browser.gatherUsageStats false \
	  $(if $(filter 1 true yes,$(HEADLESS)),--server.headless true)

test: $(TEST_STAMP) $(if $(filter 1 true yes,$(ORACLE)),$(ORACLE_STAMP)) lint  ## lint, then every test; pytest's own summary is the last line
	@$(BIN)/python -m pytest

oracle: $(ORACLE_STAMP)  ## parameters, caches and flops, counted by transformers' own model code (installs torch)
	@$(BIN)/python -m pytest tests/oracle

lint: $(TEST_STAMP)  ## style, formatting, and the layers of the code
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .
	@$(BIN)/lint-imports --no-logo

format: $(TEST_STAMP)  ## let ruff put style and formatting right
	@$(BIN)/ruff check --fix .
	@$(BIN)/ruff format .

wheel-test: $(TEST_STAMP)  ## build the wheel, install it in an empty environment, run it there
	@$(BIN)/python -m pytest tests/test_package.py

clean:  ## remove build products and caches
	rm -rf build dist *.egg-info .pytest_cache .ruff_cache .hypothesis .import_linter_cache test-results
	find . -path ./$(VENV) -prune -o -name __pycache__ -type d -prune -exec rm -rf {} +

clean-all: clean  ## ... and the virtual environment
	rm -rf $(VENV)

$(BIN)/python:
	@echo "Creating $(VENV) with $$($(PYTHON) --version)"
	@$(PYTHON) -m venv $(VENV) || { rm -rf $(VENV); exit 1; }

$(APP_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing the calculator and its dashboard into $(VENV)"
	@$(PIP) --editable '.[app]'
	@touch $@

$(TEST_STAMP): pyproject.toml | $(BIN)/python
	@echo "Installing the calculator, its dashboard and the test tools into $(VENV)"
	@$(PIP) --editable '.[app,test]'
	@touch $(APP_STAMP) $@

$(ORACLE_STAMP): pyproject.toml | $(TEST_STAMP)
	@echo "Installing $(TORCH) and transformers into $(VENV)"
	@$(PIP) '$(TORCH)'
	@$(PIP) --editable '.[app,test,oracle]'
	@touch $@
