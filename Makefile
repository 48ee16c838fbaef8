# Everything that is done with this source tree. `make build`, `make demo` and `make test` need nothing prepared.

VENV := .venv
BIN := $(VENV)/bin
PIP := $(BIN)/python -m pip install --quiet --disable-pip-version-check
ENGINE := $(shell find src -name '*.pyx' -o -name '*.pxd' -o -name '*.h')
TESTS ?= tests
JOBS ?= 4
PYTEST = $(BIN)/python -m pytest -n $(JOBS) --dist worksteal $(ARGS)

# A separate tree for the sanitizers, so that their build and the release build do not replace each other.
ASAN := .cache/asan

.PHONY: help build demo test test-all test-versions lint format test-asan soak adversary fuzz foreign drivers bench docs clean

help:  ## this list (make ARGS="..." adds arguments to the command behind a target)
	@sed -n 's/^\([a-z-]*\):.*## /  make \1\t/p' Makefile | expand -t 20

build: $(VENV)/.built $(VENV)/.installed  ## .venv/bin/pgferry

demo: build  ## pgferry at work on a private PostgreSQL, until Ctrl-C
	@$(BIN)/pgferry demo $(ARGS)

test: $(VENV)/.tests build  ## all tests: JOBS=4 at a time (they wait more than they work), TESTS=tests, ARGS="-k name"
	PGFERRY_TEST_MATRIX=$${PGFERRY_TEST_MATRIX-one} $(PYTEST) $(TESTS)

test-all: $(VENV)/.tests build  ## the same, each on the oldest and the newest PostgreSQL, one worker and two
	$(PYTEST) $(TESTS)

# What may depend on the version: the protocol, logins, TLS, session state, replication.
VERSIONED := $(addprefix tests/integration/test_,auth_query.py client.py console_show.py doctor.py login.py login_startup.py \
	pooling_limits.py pooling_modes.py pooling_timeouts.py pooling_upkeep.py protocol_copy.py protocol_extended.py \
	protocol_startup.py replication.py replication_tools.py session_catalog.py session_verdicts.py smoke.py \
	state_console.py state_differential.py state_listening.py tls_clients.py tls_servers.py upstream_flaws.py)
VERSIONS ?= 13,14,16,17

test-versions: $(VENV)/.tests build  ## some of the tests on each of PostgreSQL VERSIONS=13,14,16,17 (the others: test-all)
	failed=0; for version in $$(echo $(VERSIONS) | tr , ' '); do \
		PGFERRY_TEST_PG=$$version PGFERRY_TEST_MATRIX=one $(PYTEST) $(VERSIONED) || failed=1; \
	done; exit $$failed

lint: $(VENV)/.lint build  ## ruff, mypy, cython-lint, generated files
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	cd src && MYPYPATH=. ../$(BIN)/stubtest --ignore-missing-stub --ignore-disjoint-bases \
		$$(ls pgferry/engine/*/*.pyi | sed 's/\.pyi//; s/\//./g')
	PATH="$(CURDIR)/$(BIN):$$PATH" cython-lint src
	$(BIN)/python tools/check_engine.py
	$(BIN)/python tools/gen_settings_struct.py --check
	$(BIN)/python tools/gen_settings_doc.py --check
	$(BIN)/python tools/gen_doctor_doc.py --check
	$(BIN)/python tools/check_deploy.py

format: $(VENV)/.lint  ## ruff's formatter
	$(BIN)/ruff check --fix-only .
	$(BIN)/ruff format .

test-asan: $(VENV)/.tests build  ## the tests on an engine with AddressSanitizer and UBSan
	mkdir -p $(ASAN)
	cd $(ASAN) && find . -type f ! -name '*.so' ! -name '*.c' -delete
	tar -cf - --exclude=__pycache__ --exclude='*.so' --exclude='*.c' \
		Makefile README.md setup.py pyproject.toml mkdocs.yml MANIFEST.in deploy docs src tests tools bench | tar -xf - -C $(ASAN)
	cd $(ASAN) && PGFERRY_FLAVOUR=asan $(CURDIR)/$(BIN)/python setup.py --quiet build_ext --inplace -j 2 \
		>compile.log 2>&1 || { cat compile.log; exit 1; }
	printf '%s="%s"\n' python "$(CURDIR)/$(BIN)/python" libraries \
		"$$(gcc -print-file-name=libasan.so) $$(gcc -print-file-name=libubsan.so)" >$(ASAN)/tools/asan/where
	cd $(ASAN) && PYTHONPATH="$(CURDIR)/$(ASAN)/src" $(CURDIR)/$(ASAN)/tools/asan/python -m pytest \
		-p no:cacheprovider -n $(JOBS) -o timeout=400 -o faulthandler_timeout=380 $(ARGS) $(TESTS)

soak: SECONDS ?= 600
soak: $(VENV)/.tests build  ## the differential test for SECONDS=600
	PGFERRY_SOAK_SECONDS=$(SECONDS) $(PYTEST) --timeout=0 -o faulthandler_timeout=0 -m soak $(TESTS)

adversary: SECONDS ?= 600
adversary: $(VENV)/.tests build  ## programs that try to leave session state behind, for SECONDS=600: ARGS="--each"
	PYTHONPATH="$(CURDIR)/tests" $(BIN)/python -m support.adversary_run --seconds $(SECONDS) $(ARGS)

fuzz: SECONDS ?= 300
fuzz: $(VENV)/.tests build  ## the fuzz tests for SECONDS=300
	PGFERRY_FUZZ_SECONDS=$(SECONDS) $(PYTEST) --timeout=0 -o faulthandler_timeout=0 -m fuzz $(TESTS)

foreign: $(VENV)/.tests build  ## other projects' test suites, directly and through pgferry: ARGS="regress asyncpg"
	PYTHONPATH="$(CURDIR)/tests" $(BIN)/python -m foreign.run $(ARGS)

drivers: $(VENV)/.tests build  ## drivers of other languages (node, go, java) as docs/drivers.md has them; fetches them
	PGFERRY_FETCH_DRIVERS=1 $(PYTEST) tests/integration/test_drivers.py

bench: $(VENV)/.bench build  ## beside a direct connection and PgBouncer, into docs/benchmarks
	$(BIN)/python -m bench $(ARGS)

docs: $(VENV)/.docs  ## the documentation as a site, in build/site
	$(BIN)/mkdocs build --strict --quiet

clean:  ## remove everything that was built here
	rm -rf $(VENV) .cache build dist src/*.egg-info .pytest_cache .mypy_cache .ruff_cache .hypothesis
	find src \( -name '*.so' -o -path '*/engine/*/*.c' -o -path '*/engine/*/*.html' \) -delete
	find . -name __pycache__ -prune -exec rm -rf {} +

# --- how: a stamp for each step, so that a second call does nothing

$(VENV)/.made: tools/prepare
	@tools/prepare $(VENV)
	@touch $@

$(VENV)/.built: $(VENV)/.made setup.py $(ENGINE)
	@echo "Compiling the engine"
	@mkdir -p build
	@$(BIN)/python setup.py --quiet build_ext --inplace -j 2 >build/compile.log 2>&1 || { cat build/compile.log; exit 1; }
	@touch $@

# Without compiling: pip would compile everything again, one module after the other.
$(VENV)/.installed: $(VENV)/.made pyproject.toml | $(VENV)/.built
	@echo "Installing pgferry into $(VENV)"
	@PGFERRY_FLAVOUR=none $(PIP) --no-build-isolation --editable .
	@touch $@

$(VENV)/.tests: $(VENV)/.made pyproject.toml tools/prepare_browser
	@echo "Installing what the tests need"
	@$(PIP) --group test
	@mkdir -p build
	@$(PIP) 'bonsai>=1.5' >build/bonsai.log 2>&1 || echo "Without bonsai (it needs libldap2-dev and libsasl2-dev): no LDAP tests"
	@tools/prepare_browser
	@touch $@

$(VENV)/.lint: $(VENV)/.made pyproject.toml
	@$(PIP) --group test --group lint
	@touch $@

$(VENV)/.docs: $(VENV)/.made pyproject.toml
	@$(PIP) --group docs
	@touch $@

$(VENV)/.bench: $(VENV)/.made pyproject.toml
	@$(PIP) --group test --group bench
	@touch $@
