PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
FORMULAS ?= 2000
LOCKER := $(VENV)-lock

.DEFAULT_GOAL := help
.PHONY: help setup mine test endurance fuzz prove serve lint lock peers bench graph clean

help: ## list what can be made
	@grep -hE '^[a-z]+:.*##' $(MAKEFILE_LIST) | sed -E 's/:.*## /\t/' | expand -t 10

setup: $(READY) ## create .venv with the locked dependencies and compile the kernels

$(READY): requirements.lock pyproject.toml
	$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; set PYTHON=")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r requirements.lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --editable .
	$(BIN)/python -m factors.warm_up
	@touch $@

mine: setup ## build the demo market, mine it for about a minute, print the leaderboard
	$(BIN)/alphaagent data demo
	$(BIN)/alphaagent mine "volume that comes with gains, and closes near the top of the day's range" --market demo --rounds 20 --candidates 8 --seed 7

test: setup ## run the whole test suite, in three processes, as some of its tests wait for servers
	$(BIN)/python -m pytest --numprocesses 3 --dist loadfile --no-loadscope-reorder

endurance: setup ## run what shows at length what make test shows in short, some five minutes
	ALPHAAGENT_ENDURANCE=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile \
		$$(grep -rl '"endurance"' tests --include 'test_*.py')

fuzz: setup ## give the parser a million texts, about seven minutes
	$(BIN)/python -m tests.fuzz_parse

prove: setup ## prove 2,000 random formulas causal, about three minutes; for every night (make prove FORMULAS=100: a few seconds)
	$(BIN)/python -m tests.prove_random --formulas $(FORMULAS)

serve: setup ## start the service on http://127.0.0.1:8000
	$(BIN)/alphaagent serve

lint: setup ## check style and types
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy

lock: ## resolve the newest dependencies and pin them with hashes in requirements.lock
	$(PYTHON) -m venv $(LOCKER)
	$(LOCKER)/bin/python -m pip install --quiet --only-binary :all: pip-tools
	$(LOCKER)/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe --extra dev --extra otel \
		--no-header --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--pip-args "--only-binary :all:" --output-file requirements.lock pyproject.toml
	grep -v '^--only-binary' requirements.lock > $(LOCKER)/constraints.txt # akshare needs jsonpath, which has no wheel
	$(LOCKER)/bin/pip-compile --quiet --upgrade --generate-hashes --strip-extras --allow-unsafe \
		--extra peers --extra calendars --extra sources --constraint $(LOCKER)/constraints.txt --no-header \
		--no-annotate --no-emit-index-url --no-emit-trusted-host --no-emit-find-links \
		--pip-args "--prefer-binary" --output-file benchmarks/requirements.lock pyproject.toml
	rm -rf $(LOCKER)

peers: setup ## install all extras: the libraries that we are checked and measured against, calendars, sources of data
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --require-hashes -r benchmarks/requirements.lock

bench: setup ## measure the evaluator beside its peers, about half an hour (make bench QUICK=--quick: a few minutes)
	$(BIN)/python -m benchmarks.evaluator $(QUICK)

graph: setup ## draw the state machine for the README
	$(BIN)/python -c 'from graphs.machine import graph; print(graph.get_graph().draw_mermaid())'

clean: ## remove .venv and caches
	rm -rf $(VENV) .mypy_cache .pytest_cache .ruff_cache .hypothesis
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
