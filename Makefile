# Needs python3 (3.11 or newer, with venv), make and a package index: every target sets up .venv first, once.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready
MUTATION := .venv/.mutation
BENCH := .venv/.bench
PEERS := .bench-peers
# Three files of tests at once: half of a test's time is waiting.
AT_ONCE := -n 3 --dist loadfile --no-loadscope-reorder

.PHONY: help demo test check format docs drawings chaos soak fleet fuzz mutants versions build bench import-time clean
.DEFAULT_GOAL := help

help: ## list the targets
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  make %-11s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo: $(READY) ## watch a real client cancel a withdrawal and a failed ticket on an embedded exchange
	@$(BIN)/aioalphapoint demo

test: check ## everything: format, lint, types, tests with branch coverage
	rm -f .coverage .coverage.*
	$(BIN)/coverage run -m pytest $(AT_ONCE)
	$(BIN)/coverage combine --quiet
	$(BIN)/coverage report

check: $(READY) ## format, lint and types alone
	$(BIN)/ruff format --check src tests examples benchmarks docs
	$(BIN)/ruff check src tests examples benchmarks docs
	$(BIN)/mypy

format: $(READY) ## put the code in the project's format
	$(BIN)/ruff check --fix src tests examples benchmarks docs
	$(BIN)/ruff format src tests examples benchmarks docs

docs: $(READY) ## build the site of documentation into docs/_build/html; warnings are errors
	$(BIN)/sphinx-build --builder html --fail-on-warning --keep-going --nitpicky --quiet docs docs/_build/html

drawings: ## draw the pictures of the documentation anew; it needs Node and npm
	cd docs/drawings && npm ci --silent && node draw.mjs

chaos: $(READY) ## the promises under fire, for half an hour; docs/proof/chaos.md tells what was seen
	ALPHAPOINT_CAMPAIGN_SECONDS=60 ALPHAPOINT_CAMPAIGN_TICKETS=10000 \
	ALPHAPOINT_CHAOS_EXAMPLES=1500 \
		$(BIN)/pytest -q -o faulthandler_timeout=900 tests/test_truth.py tests/test_bulk.py tests/test_machine.py
	cd tests && ../$(BIN)/python -m chaos --write

soak: $(READY) ## an hour of calls and outages; docs/proof/soak.md tells whether a client grew; SECONDS=600 for less
	cd tests && ../$(BIN)/python -m chaos.soak --seconds $(or $(SECONDS),3600)

fleet: $(READY) ## five minutes: the fleet of examples/fleet under fire; docs/proof/fleet.md tells what was seen
	cd tests && ../$(BIN)/python -m chaos.fleet --write

versions: ## the tests on each Python from 3.11 to 3.14 that is here, and with the lowest versions allowed; minutes each
	@.ci/versions

mutants: $(MUTATION) ## half an hour or more: change the core in some 950 ways, one at a time, and list those that no test notices
	rm -rf mutants
	PYTHONHASHSEED=0 $(BIN)/mutmut run
	$(BIN)/mutmut results

build: $(READY) ## make the wheel and the source archive in dist/
	rm -rf dist
	$(BIN)/python -m build --no-isolation

# Atheris comes as a wheel for some versions of Python on Linux alone; without it the program says so.
fuzz: $(READY) ## fuzz what reads the exchange's words for a minute, and keep what that finds; SECONDS=600 for more
	@$(BIN)/python -c 'import atheris' 2>/dev/null || PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install \
		--quiet --disable-pip-version-check --only-binary atheris --editable '.[fuzz]' >/dev/null 2>&1 || true
	cd tests && ../$(BIN)/python -m chaos.fuzz --seconds $(or $(SECONDS),60)

bench: $(BENCH) $(PEERS)/.ready ## ten minutes: what a call costs, beside other clients; docs/speed.md shows it
	cd benchmarks && ../$(BIN)/python -m speed --write

import-time: $(READY) ## what importing the library costs, beside what it stands on
	@$(BIN)/python benchmarks/import_time.py

clean: ## remove the environment and everything that a run leaves behind
	rm -rf .venv .versions .bench-peers dist mutants docs/_build docs/drawings/node_modules .hypothesis .mypy_cache .pytest_cache .ruff_cache
	rm -f .coverage .coverage.*
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# The stamp is newer than what it was made from: set-up runs again only when one of them changes.
$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "aioalphapoint needs Python 3.11 or newer; '$(PYTHON)' is older. Try: make PYTHON=python3.12" >&2; exit 1; }
	$(PYTHON) -m venv --clear .venv
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

$(MUTATION): $(READY)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[mutation]'
	@touch $@

$(BENCH): $(READY)
	PIP_CONSTRAINT=constraints.txt $(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[bench]'
	@touch $@

# notbank pins versions that go with no others. Without it the table says so.
$(PEERS)/.ready: benchmarks/requirements-notbank.txt
	$(PYTHON) -m venv --clear $(PEERS)
	-$(PEERS)/bin/python -m pip install --quiet --disable-pip-version-check --requirement $< && touch $@
