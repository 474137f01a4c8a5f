# Everything runs in .venv, which is made on first use; a changed pyproject.toml installs anew.
# To build it with another Python than python3:  make PYTHON=python3.12 test
# To show the inbox at another port:              make WEB=8026 inbox
# To run some of the tests:                      make TESTS=tests/wire test
# To run the tests fewer times than ten:         make RUNS=3 flaky
# To look for what one parser cannot take:       make SECONDS=600 PARSERS=certificates fuzz
# To measure some rows, in fewer rounds:         make ROWS="keywords idle" ROUNDS=3 bench
# To write the figures into the documentation:   make DOCS=docs bench

PYTHON ?= python3
VENV ?= .venv
WEB ?= 8025
BIN := $(VENV)/bin
DEMO := $(VENV)/installed-cli
DEV := $(VENV)/installed-all,dev
INTEROP := $(VENV)/interop
BENCH := $(VENV)/bench
export PIP_DISABLE_PIP_VERSION_CHECK := 1

help: ## list these targets
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' Makefile | expand -t 18

venv: $(DEV) ## make .venv with everything needed for development

demo: $(DEMO) ## send to the simulator over both protocols and show what failed
	@$(BIN)/python examples/demo.py

inbox: $(DEMO) ## show in a browser what programs send to the simulator, until Ctrl-C
	@exec $(BIN)/txapns simulate --http2 2197 --binary 2195 --feedback 2196 --web $(WEB) --state $(VENV)/inbox

test: $(DEV) ## run the tests
	$(BIN)/python -m pytest -n 3 --dist loadfile $(TESTS)

campaigns: $(DEV) ## run what make test leaves out, since it takes long: many seeds, a million rows, kills
	$(BIN)/python -m pytest -n 3 --dist loadfile -m campaign

test-all: ## run the tests with the latest Python and with 3.10, and the library's with those between
	@tools/each-python $(MAKE) test

flaky: $(DEV) ## run the tests ten times in random order, and show what was not green each time
	@tools/flaky $(BIN)/python $(RUNS)

fuzz: $(VENV)/installed-fuzz ## look for octets that a parser cannot take, 60 seconds for each parser
	$(BIN)/python -m fuzz --seconds $(or $(SECONDS),60) $(PARSERS)

interop: $(DEV) interop-environments ## run clients and servers of others against ours
	$(BIN)/python -m pytest -n 3 --dist loadfile -m interop

interop-environments: $(INTEROP)/installed $(INTEROP)-apns2/installed $(INTEROP)-synapse/installed $(INTEROP)-frameworks/installed $(INTEROP)-node/installed

test-postgresql: $(DEV) ## run the tests of the store on PostgreSQL on the version that the system has
	@for each in /usr/lib/postgresql/*/bin; do \
		test -x $$each/postgres || { echo 'the system has no PostgreSQL in /usr/lib/postgresql'; exit 0; }; \
		echo "== $$($$each/postgres --version)"; \
		TXAPNS_TEST_POSTGRESQL=$$each $(BIN)/python -m pytest -n 2 --dist loadfile \
			tests/test_postgresql.py tests/daemon/store/postgresql || exit; \
	done

cluster: $(DEV) ## kill daemons and servers of a cluster while it sends, in network namespaces where root can make them
	tools/in-namespaces $(BIN)/python -m pytest -m cluster tests/cluster

bench: $(DEV) ## measure all that has a goal, in about a quarter of an hour: each row with pass or fail
	@mkdir -p $(BENCH)
	$(BIN)/python benchmarks/goals.py --rounds $(or $(ROUNDS),5) $(and $(ROWS),--rows $(ROWS)) --json $(BENCH)/goals.json \
		--docs $(or $(DOCS),$(BENCH))

peers: $(VENV)/installed-bench $(BENCH)/aioapns/installed $(BENCH)/aapns/installed $(BENCH)/node/installed ## install what benchmarks/http2.py compares with

lint: $(DEV) ## check style, format and types
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy

container: $(DEV) ## build the containers and try them with podman, as root on Debian
	tools/try-container contrib/Containerfile.simulator apns-simulator \
		$(BIN)/python -m pytest -m interop tests/interop/test_simulator_container.py
	tools/try-container contrib/Containerfile txapns \
		$(BIN)/python -m pytest -m interop tests/interop/test_daemon_container.py

packaging: $(DEV) ## check that what we ship installs and works
	PATH="$(CURDIR)/$(BIN):$$PATH" tools/check-packaging

clean: ## remove .venv and all that was built
	rm -rf $(VENV) build dist *.egg-info .hypothesis .mypy_cache .pytest_cache .ruff_cache .fuzz _trial_temp*
	find . -name __pycache__ -prune -exec rm -rf {} +
	rm -f twisted/plugins/dropin.cache

# pip is the last thing venv installs: where it is missing, the environment is incomplete.
$(BIN)/pip:
	@$(PYTHON) -c 'import sys, venv; sys.exit(sys.version_info < (3, 10))' || { \
		echo 'txapns needs Python 3.10 or newer with venv; name one: make PYTHON=/path/to/python3' >&2; exit 1; }
	$(PYTHON) -m venv $(VENV)

$(VENV)/installed-%: pyproject.toml | $(BIN)/pip
	$(BIN)/pip install -q -e '.[$*]'
	@touch $@

$(INTEROP)/installed: tests/interop/requirements.txt | $(DEV)
	$(BIN)/python -m venv --clear $(INTEROP)
	$(INTEROP)/bin/pip install -q -c $< setuptools
	$(INTEROP)/bin/pip install -q --no-deps --no-build-isolation -r $<
	@touch $@

$(INTEROP)-apns2/installed $(INTEROP)-synapse/installed: $(INTEROP)-%/installed: tests/interop/%.txt | $(DEV)
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install -q --no-deps -r $<
	@touch $@

# A directory for PYTHONPATH and no environment, since they run txapns with all that it needs.
$(INTEROP)-frameworks/installed: tests/interop/frameworks.txt | $(DEV)
	rm -rf $(@D)
	$(BIN)/pip install -q --no-deps --target $(@D) -r $<
	@touch $@

# Where there is no npm, the tests of what it would install are skipped.
$(INTEROP)-node/installed: tests/interop/package.json tests/interop/package-lock.json | $(DEV)
	mkdir -p $(@D) && cp $^ $(@D)
	if command -v npm >/dev/null; then \
		npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; fi

# One environment each: they want different versions of the same library.
$(BENCH)/%/installed: benchmarks/peers/%.txt | $(BIN)/pip
	$(BIN)/python -m venv --clear $(@D)
	$(@D)/bin/pip install -q --no-deps -r $<
	@touch $@

$(BENCH)/node/installed: benchmarks/peers/package.json benchmarks/peers/package-lock.json
	mkdir -p $(@D) && cp $^ $(@D)
	if command -v npm >/dev/null; then \
		npm ci --prefix $(@D) --ignore-scripts --no-audit --no-fund --loglevel=error && touch $@; fi

.PHONY: help venv demo inbox test campaigns test-all flaky fuzz interop interop-environments test-postgresql cluster bench peers lint container packaging clean
