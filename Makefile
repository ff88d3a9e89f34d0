# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
# The release that the tests run with; any torch in pyproject's range trains.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint format protos bench-server clean

demo: $(VENV)/.runtime
	$(BIN)/python examples/demo.py

test: $(VENV)/.development
	$(BIN)/python -m pytest

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd protos && ../$(BIN)/buf lint

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.development
	$(BIN)/python scripts/generate_stubs.py

# QUICK=1 takes under a minute and gives figures without worth; DATA names the corpora.
bench-server: $(VENV)/.bench
	$(BIN)/python -m benchmarks.server $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA)) $(BENCHMARKS)

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kniv-serve needs Python 3.11 or newer; name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }
	$(PIP) --upgrade 'pip>=25.1'

# What `make demo` needs: server and client, no training, no development tools.
$(VENV)/.runtime: pyproject.toml client/pyproject.toml | $(BIN)/python
	$(PIP) -e ./client -e .
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(PIP) '$(TORCH)' -e ./client -e '.[training]' --group dev
	touch $@

$(VENV)/.bench: $(VENV)/.development
	$(PIP) --group bench
	touch $@
