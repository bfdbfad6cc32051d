# Every target is one line of purpose and the command CI runs. `make` alone lists them.
PYTHON ?= python3
VENV   := .venv
BIN    := $(VENV)/bin

.DEFAULT_GOAL := help
.PHONY: help run test test-cluster test-engines test-fast test-lua test-races lint format mutants simulate simulate-long chaos chaos-long fuzz fuzz-parsers reliability-page rolling-restart bench bench-quick bench-page load lock openapi schema settings drill audit doctor clean

help: ## list the targets
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  \033[1m%-17s\033[0m %s\n", $$1, $$2}' $(MAKEFILE_LIST)

# One stamp for the whole environment: made anew when the lock or the project file changes.
$(VENV)/.installed: requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Python 3.11 or newer is needed")'
	$(PYTHON) -m venv --clear $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes --requirement requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

run: $(VENV)/.installed ## start everything on http://localhost:8080
	@exec $(BIN)/seatrush up

PYTEST         := $(BIN)/python -m pytest
# Tests wait for engines and processes more than they work: three at once on two cores, each with engines of its own.
PYTEST_AT_ONCE := $(PYTEST) --dist loadfile --numprocesses
# What has the machine to itself: a bench, a rehearsal, a count that a starved server would change.
COUNTED        := tests/integration/bench tests/integration/counted
ALONE          := $(COUNTED) tests/load
# The simulator takes what is left of all cores for minutes; beside it, what waits most of its time.
LONG           := tests/simulation tests/chaos tests/cluster tests/sentinel
TOGETHER       := tests/unit tests/lua tests/contract tests/races tests/link tests/mutants tests/adversity \
	tests/e2e tests/integration $(addprefix --ignore=,$(COUNTED))

test: $(VENV)/.installed lint ## lint, then every test on real engines, also Debian's where found
	$(PYTEST_AT_ONCE) 3 $(TOGETHER)
	$(PYTEST) $(ALONE)
	$(PYTEST_AT_ONCE) 3 $(LONG)
	@$(MAKE) --no-print-directory test-engines

# Redis and PostgreSQL as a distribution ships them: what talks to an engine, once more on those.
DEBIAN_REDIS    := $(wildcard /usr/bin/redis-server)
DEBIAN_POSTGRES := $(wildcard /usr/lib/postgresql/15/bin)
ON_ENGINES      := tests/lua tests/contract tests/races tests/link tests/integration/checkout tests/integration/test_queries.py tests/integration/test_migrations.py

test-engines: $(VENV)/.installed ## the engine tests on Debian's Redis 7.0 and PostgreSQL 15, where found
	$(if $(DEBIAN_REDIS)$(DEBIAN_POSTGRES),TEST_REDIS_BINARY=$(DEBIAN_REDIS) TEST_POSTGRES_BIN=$(DEBIAN_POSTGRES) $(PYTEST_AT_ONCE) 3 $(ON_ENGINES),@echo "no other engines here")

# Tests that look at their server only through the platform: once more with a cluster in its place.
ON_CLUSTER := $(patsubst %,tests/contract/test_%.py,built_anew orphan_rule returned_holds seat_inventory seat_map) \
	$(patsubst %,tests/integration/checkout/test_%.py,commits completers in_between ledger lost_races over_http owners payments refunds short_ways states)

test-cluster: $(VENV)/.installed ## selling on a cluster, the core tests once more on one; with sentinels: KEEP=1
	$(if $(KEEP),TEST_KEEP_RESULTS=1) $(BIN)/python -m pytest tests/cluster tests/sentinel
	TEST_REDIS_CLUSTER=1 $(BIN)/python -m pytest $(ON_CLUSTER)

test-fast: $(VENV)/.installed ## only what needs no service
	$(BIN)/python -m pytest tests/unit

test-lua: $(VENV)/.installed ## every status of every script, on a real server
	$(BIN)/python -m pytest tests/lua tests/contract

test-races: $(VENV)/.installed ## races and their controls
	$(BIN)/python -m pytest tests/races

mutants: $(VENV)/.installed ## take every guard away once, in a copy; each must be missed by a test
	@$(BIN)/python -m tests.mutants $(WORDS)

simulate: $(VENV)/.installed ## 20,000 histories in virtual time, and what met what
	$(BIN)/python -m tests.simulation --seeds 1..20000 --processes 2 --coverage

simulate-long: $(VENV)/.installed ## a million of them, in pieces: goes on where it was stopped, docs/results/simulate.json
	$(BIN)/python -m tests.simulation --seeds 1..1000000 --processes 2 --coverage --keep

# Fuzzers want libraries that nothing else here needs: an environment of their own, like the benches.
FUZZ_VENV := tests/fuzz/.venv
FUZZ      := $(FUZZ_VENV)/bin/python

$(FUZZ_VENV)/.installed: tests/fuzz/requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(FUZZ_VENV)
	$(FUZZ) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement tests/fuzz/requirements.lock
	$(FUZZ) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

fuzz: $(FUZZ_VENV)/.installed ## 50,000 calls nobody would make: CALLS=2000 SEED=1; KEEP=1 writes docs/results
	@$(FUZZ) -m pytest --quiet tests/fuzz
	@$(FUZZ) -m tests.fuzz $(if $(KEEP),--keep) --calls $(or $(CALLS),50000) --seed $(or $(SEED),1)

fuzz-parsers: $(FUZZ_VENV)/.installed ## ten minutes of odd bytes for each reader of them: SECONDS=60 KEEP=1
	@$(FUZZ) -m tests.fuzz.parsers $(if $(KEEP),--keep) --seconds $(or $(SECONDS),600)

reliability-page: $(VENV)/.installed ## write docs/reliability.md from docs/results
	@$(BIN)/python -m tests.reliability_page

chaos: $(VENV)/.installed ## break a throw-away instance in pairs of faults, ten rounds of 30 s
	@$(BIN)/seatrush chaos --rounds 10 --seed $(or $(SEED),1)

chaos-long: $(VENV)/.installed ## two hundred rounds (some hours): goes on where it was stopped, docs/results/chaos.json
	@$(BIN)/seatrush chaos --rounds 200 --seed $(or $(SEED),1) --results docs/results/chaos.json

rolling-restart: $(VENV)/.installed ## every role in turn, every 5 s for 10 minutes, under a crowd: SECONDS=60 INTERVAL=5 KEEP=1
	@$(BIN)/python -m tests.rolling_restart $(if $(KEEP),--keep) --seconds $(or $(SECONDS),600) --interval $(or $(INTERVAL),5) --seed $(or $(SEED),1)

lint: $(VENV)/.installed ## ruff, mypy, import rows, Lua headers, named queries
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports --no-cache
	$(BIN)/python -m entrypoints.check_sources

format: $(VENV)/.installed ## put every file in form
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

# Peers want libraries that nothing else here needs: an environment of their own, and Node.js where there is one.
BENCH_VENV := bench/.venv
BENCH      := $(BENCH_VENV)/bin/python
NODE_DIR   := bench/peers/node

$(BENCH_VENV)/.installed: bench/requirements.lock pyproject.toml
	$(PYTHON) -m venv --clear $(BENCH_VENV)
	$(BENCH) -m pip install --quiet --disable-pip-version-check --require-hashes --requirement bench/requirements.lock
	$(BENCH) -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	@touch $@

$(NODE_DIR)/.installed: $(NODE_DIR)/package-lock.json
	@if command -v npm >/dev/null; then cd $(NODE_DIR) && npm ci --silent; else echo "no npm here: the Node.js peer is left out"; fi
	@touch $@

bench: $(BENCH_VENV)/.installed $(NODE_DIR)/.installed ## everything against floors and peers (under half an hour), and the page about it
	@$(BENCH) -m bench; status=$$?; $(BENCH) -m bench.page && $(BENCH) -m bench.model && exit $$status

bench-quick: $(BENCH_VENV)/.installed $(NODE_DIR)/.installed ## that every bench works (some minutes); judges nothing
	@$(BENCH) -m bench --quick

bench-page: $(BENCH_VENV)/.installed ## write docs/performance.md, its pictures and the model of docs/scaling.md from bench/results
	@$(BENCH) -m bench.page
	@$(BENCH) -m bench.model

LOAD_OPTIONS := $(if $(USERS),--users $(USERS)) $(if $(SHAPE),--shape $(SHAPE)) $(if $(DURATION),--duration $(DURATION)) \
	$(if $(PROCESSES),--processes $(PROCESSES)) $(if $(WORKERS),--workers $(WORKERS)) $(if $(SEED),--seed $(SEED)) \
	$(if $(HOST),--host $(HOST)) $(if $(SHOWTIME),--showtime $(SHOWTIME)) $(if $(TOKENS),--tokens $(TOKENS)) \
	$(if $(OBJECTIVES),--objectives $(OBJECTIVES)) $(if $(RECORDING),--recording $(RECORDING))

load: $(VENV)/.installed ## rehearse a launch: SCENARIO=presale USERS=2000 (docs/load-testing.md)
	@$(BIN)/python -m loadtest.rehearsal $(or $(SCENARIO),presale) $(LOAD_OPTIONS)

lock: $(VENV)/.installed ## resolve requirements.lock anew (exact versions and hashes, no addresses)
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra loadtest --extra dev pyproject.toml --output-file requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra bench --constraint requirements.lock pyproject.toml --output-file bench/requirements.lock
	$(BIN)/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes --no-emit-index-url --no-header --extra local --extra fuzz --constraint requirements.lock pyproject.toml --output-file tests/fuzz/requirements.lock

openapi: $(VENV)/.installed ## write docs/openapi.json
	$(BIN)/seatrush openapi > docs/openapi.json

schema: $(VENV)/.installed ## write migrations/schema.sql
	$(BIN)/python -m entrypoints.schema_dump > migrations/schema.sql

settings: $(VENV)/.installed ## write docs/settings.md
	$(BIN)/python -m entrypoints.settings_page > docs/settings.md

drill: $(VENV)/.installed ## destroy everything while it sells, bring it back from its backup, count (minutes)
	$(BIN)/python -m entrypoints.drill

audit: $(VENV)/.installed ## prove the promises on the running service
	$(BIN)/seatrush audit

doctor: $(VENV)/.installed ## is everything set up as it should be?
	$(BIN)/seatrush doctor

clean: ## remove the environment and caches; data stays
	rm -rf $(VENV) $(BENCH_VENV) $(FUZZ_VENV) $(NODE_DIR)/node_modules $(NODE_DIR)/.installed .mypy_cache .ruff_cache .pytest_cache .build *.egg-info
