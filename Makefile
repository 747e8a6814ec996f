# Everything a developer types. `make run` and `make test` work on a fresh machine with Python 3.11+.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WORKERS ?= 2
PROTOS := protos/cluster/pb/v1
OTHERS := protos/cluster/pb/etcd/etcd.proto protos/cluster/pb/cel/checked.proto
DESCRIBE = mkdir -p build && $(BIN)/python -m grpc_tools.protoc -Iprotos --include_source_info \
	--descriptor_set_out=build/descriptors.bin $(PROTOS)/core.proto $(PROTOS)/kubernetes.proto \
	&& $(BIN)/python protos/describe.py build/descriptors.bin

.DEFAULT_GOAL := help
.PHONY: help setup run test unit lint types layers protos verify-protos bench chaos clean

help: ## Show what can be made
	@grep -hE '^[a-z-]+:.*## ' $(MAKEFILE_LIST) | awk -F ':.*## ' '{printf "  make %-14s %s\n", $$1, $$2}'

setup: $(VENV)/.done ## Make .venv with the podium command

$(VENV)/.done: pyproject.toml
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check --editable '.[dev]'
	@touch $@

run: setup ## Start a cluster "demo" of real processes with the guestbook on it; Ctrl-C stops it
	@exec $(BIN)/podium up --cluster demo --nodes 3 --apply examples/guestbook

test: setup lint types layers verify-protos ## Run every check and every test; WORKERS=n files at once (2)
	$(BIN)/python -m pytest -n $(WORKERS) --dist loadfile tests/unit tests/contract tests/e2e

unit: setup ## Run the fast tests only
	$(BIN)/python -m pytest tests/unit

lint: setup ## Check style
	$(BIN)/ruff check . && $(BIN)/ruff format --check .

types: setup ## Check types
	$(BIN)/mypy

layers: setup ## Check that imports go downward only
	$(BIN)/lint-imports

protos: setup ## Generate cluster/pb from protos/
	$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=. --pyi_out=. $(PROTOS)/*.proto $(OTHERS)
	$(BIN)/python -m grpc_tools.protoc -Iprotos --grpc_python_out=. $(PROTOS)/cluster.proto $(PROTOS)/agent.proto $(PROTOS)/scheduler.proto
	$(DESCRIBE) > cluster/pb/v1/descriptions.py

verify-protos: setup ## Check that the generated code is current
	@rm -rf build/protos && mkdir -p build/protos
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --python_out=build/protos --pyi_out=build/protos $(PROTOS)/*.proto $(OTHERS)
	@$(BIN)/python -m grpc_tools.protoc -Iprotos --grpc_python_out=build/protos $(PROTOS)/cluster.proto $(PROTOS)/agent.proto $(PROTOS)/scheduler.proto
	@$(DESCRIBE) > build/protos/cluster/pb/v1/descriptions.py
	@for f in build/protos/cluster/pb/*/*; do cmp -s $$f $${f#build/protos/} \
		|| { echo "$${f##*/} is not what protos/ says: run 'make protos' and commit"; exit 1; }; done

bench: setup ## Measure; ONLY=name for one; prints a table, writes build/bench.json
	$(BIN)/python -m tests.bench $(if $(ONLY),--only $(ONLY))

chaos: setup ## Break things at random for a minute; PODIUM_CHAOS_SEED=n for the same dice, PODIUM_CHAOS_S=n for longer
	$(BIN)/python -m pytest tests/chaos -s

clean: ## Remove what was made here
	rm -rf $(VENV) build .pytest_cache .mypy_cache .ruff_cache .hypothesis .import_linter_cache *.egg-info
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
