# Two commands do everything: `make demo` and `make test`.
PYTHON ?= python3
# The release that the tests run with; any torch in pyproject's range trains.
TORCH ?= torch==2.13.0
VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check

.PHONY: demo test lint format protos bench-server bench-graph bench-gpu package-check audit chaos fuzz clean

demo: $(VENV)/.runtime
	$(BIN)/python examples/demo.py

test: $(VENV)/.development
	$(BIN)/python -m pytest

lint: $(VENV)/.development
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/hadolint deploy/Dockerfile
	cd protos && ../$(BIN)/buf lint

format: $(VENV)/.development
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

protos: $(VENV)/.development
	$(BIN)/python scripts/generate_stubs.py

# QUICK=1 takes under a minute and gives figures without worth; DATA names the corpora.
bench-server: $(VENV)/.bench
	$(BIN)/python -m benchmarks.server $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA)) $(BENCHMARKS)

# QUICK=1 takes under a minute; ONLY names parts (bare memory passes server roofline), whose figures alone are then replaced.
bench-graph: $(VENV)/.bench
	$(BIN)/python -m benchmarks.graph $(if $(QUICK),--quick) $(if $(DATA),--data $(DATA)) $(addprefix --only=,$(ONLY))

# DRY=1 runs on the CPU what a CPU can run of it.
bench-gpu: $(VENV)/.bench
	$(BIN)/python -m benchmarks.gpu $(if $(DRY),--dry)

# Known vulnerabilities in what is installed. It asks the network, and so is no part of the tests.
audit: $(VENV)/.runtime $(VENV)/.audit
	$(BIN)/python scripts/audit.py $(VENV)/audit/bin/pip-audit $(BIN)/python

# The steps of deploy/Dockerfile without Docker, in a fresh environment. It asks the network, and so is no part of the tests.
package-check: $(VENV)/.development
	KNIV_PACKAGE_CHECK=1 $(BIN)/python -m pytest tests/deploy/test_image.py

# All faults of docs/faults.md, with storms that last; interrupted after ten minutes, should anything hang.
chaos: $(VENV)/.development
	KNIV_CHAOS=1 timeout --signal INT --kill-after 30 600 $(BIN)/python -m pytest tests/e2e/chaos \
		$$(grep -o 'tests/[a-z0-9_/]*\.py::[A-Za-z0-9_]*' docs/faults.md | grep -v ^tests/e2e/chaos/ | sort -u)

# SECONDS of bytes through the stream's protocol, as many shared by all that reads foreign bytes, then about as many of
# sequences of messages.
fuzz: SECONDS ?= 600
fuzz: $(VENV)/.fuzz
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS) stream
	$(BIN)/python -m tests.fuzz --seconds $(SECONDS)
	KNIV_FUZZ_EXAMPLES=$$((5 * $(SECONDS))) $(BIN)/python -m pytest tests/fuzz/test_protocol.py

clean:
	rm -rf $(VENV)

$(BIN)/python:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "kniv-serve needs Python 3.11 or newer; name one with make PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -m venv $(VENV) || \
		{ rm -rf $(VENV); echo "no virtual environment could be made; on Debian: apt install python3-venv" >&2; exit 1; }

# The first that knows --group. Of an environment that was there before, too; one that is new enough stays.
$(VENV)/.pip: | $(BIN)/python
	$(PIP) 'pip>=25.1'
	touch $@

# What `make demo` needs: server and client, no training, no development tools.
$(VENV)/.runtime: pyproject.toml client/pyproject.toml | $(VENV)/.pip
	$(PIP) -e ./client -e .
	touch $@

$(VENV)/.development: $(VENV)/.runtime
	$(PIP) '$(TORCH)' -e ./client -e '.[training]' --group dev
	touch $@

$(VENV)/.bench: $(VENV)/.development
	$(PIP) --group bench
	touch $@

$(VENV)/.fuzz: $(VENV)/.development
	$(PIP) --group fuzz
	touch $@

# In an environment of its own, so that what it needs itself is not audited.
$(VENV)/.audit: pyproject.toml | $(BIN)/python
	$(BIN)/python -m venv $(VENV)/audit
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check --upgrade 'pip>=25.1'
	$(VENV)/audit/bin/python -m pip install --quiet --disable-pip-version-check --group audit
	touch $@
