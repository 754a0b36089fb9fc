# `make` lists the targets. Everything is installed into .venv, nothing outside it.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
WORKERS ?= 2
BIN := .venv/bin
INSTALLED := .venv/installed
# Two test processes share the cores already: threads inside each would only get in each other's way.
ONE_THREAD := OMP_NUM_THREADS=1 MKL_NUM_THREADS=1

.DEFAULT_GOAL := help
.PHONY: help install demo test lint docs benchmarks

help: ## list the targets
	@sed -n 's/^\([a-z]*\):.*## /  make \1\t/p' $(MAKEFILE_LIST) | expand -t 18

install: $(INSTALLED) ## create .venv and install strays with everything it needs

demo: $(INSTALLED) ## score ten synthetic scenes with the built-in model: pictures, numbers and a page in demo/
	$(BIN)/strays demo --out demo

test: lint ## lint, types, import layers, doctests and tests
	$(ONE_THREAD) $(BIN)/pytest -n $(WORKERS) --dist loadgroup

lint: $(INSTALLED) ## style, types and import layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-logo

docs: $(INSTALLED) ## write the tables of docs/reference from the cards
	$(BIN)/python docs/generate.py

benchmarks: $(INSTALLED) ## measure speed, memory and published numbers; takes a while
	@set -e; for script in $(filter-out benchmarks/real_sets.py,$(wildcard benchmarks/*.py)); do \
		if grep -qE 'parents\[2\] / "shared"|from real_sets' "$$script" && [ ! -d ../shared ]; then \
			echo "== $$script: skipped, the data in ../shared is not here"; \
		else \
			echo "== $$script"; $(BIN)/python "$$script"; \
		fi; \
	done

# Anew only after one of the two files has changed; the stamp is written last, so a broken install is tried again.
$(INSTALLED): pyproject.toml constraints.txt
	@"$(PYTHON)" -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "strays needs Python 3.11 or newer: make PYTHON=/path/to/python3.11"; exit 1; }
	@echo "installing strays into .venv: some minutes the first time"
	@"$(PYTHON)" -m venv .venv
	@$(BIN)/python -m pip install -qq --editable '.[train,export,search,submit,dev]' --constraint constraints.txt
	@touch $@
