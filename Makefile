# Two commands set everything up on a bare machine with Python 3.11 or newer: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
READY := $(VENV)/.ready
PEER := .venv-peer
export PIP_DISABLE_PIP_VERSION_CHECK := 1
# One thread per training process: sites run in parallel instead.
export OMP_NUM_THREADS := 1

TOOLS := .venv-tools
SUITE := $(BIN)/python -m pytest -n 3 --dist loadfile --no-loadscope-reorder --ignore=tests/unit/crypto

.PHONY: security security-offline sbom requirements demo test test-all check lint types layers unit suite protos format base-model vectors bench-peer fuzz coverage help

help: ## show this list
	@grep -E '^[a-z-]+:.*##' $(MAKEFILE_LIST) | sed 's/:.*## /\t/' | expand -t 14

$(READY): pyproject.toml constraints.txt hatch_build.py fedmedlora_core/fedmedlora_core/arithmetic/_compiled.c
	@test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	@echo "installing fedmedlora and what it needs into $(VENV) (about a minute) …"
	@$(BIN)/python -m pip install --quiet --constraint constraints.txt --editable '.[dev]'
	@touch $@

demo: $(READY) ## four hospitals and a coordinator train one adapter, for real
	@$(BIN)/fedmedlora demo --out demo-run

test: $(READY) $(TOOLS)/.ready ## lint, types, layers, security review, coverage of crypto/, all other tests
	@$(MAKE) --no-print-directory -j 2 lint types layers coverage security-offline
	@$(MAKE) --no-print-directory suite

check: $(READY) lint types layers unit ## the fast part of `make test`, for while you work

lint: $(READY)
	@$(BIN)/ruff check .
	@$(BIN)/ruff format --check .

types: $(READY)
	@$(BIN)/mypy

layers: $(READY)
	@$(BIN)/lint-imports

unit: $(READY)
	@$(BIN)/python -m pytest -q -n 2 -m "not slow"

# All tests but those of crypto/, which `coverage` runs. A file stays on one worker, so that what its tests
# share (a trained adapter, a finished study) is made once; the long files of tests/integration come first.
suite: $(READY)
	@$(SUITE) -m "not long"

test-all: test ## `make test`, and the tests that are long; this is what decides whether a change lands
	@$(SUITE) -m long

protos: $(READY) ## generate the protobuf code again
	@cd protos && PATH="$(abspath $(BIN)):$$PATH" python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. \
		--mypy_out=quiet:. --mypy_grpc_out=quiet:. fedmedlora_protos/v1/federation.proto

vectors: $(READY) ## generate the test vectors again
	@for script in tests/vectors/generate_*.py; do $(BIN)/python $$script; done

SECONDS_EACH := $(or $(SECONDS),60)

coverage: $(READY) ## branch coverage of crypto/ by its own tests: all of it, or this fails
	@$(BIN)/python -m pytest -q -n 2 --cov=fedmedlora_crypto --cov-branch --cov-fail-under=100 tests/unit/crypto

fuzz: $(READY) ## fuzz every decoder, each for SECONDS=60 (about half an hour)
	@PYTHONPATH=tests/support $(BIN)/python -m fedmedlora_testkit.fuzzing --seconds $(SECONDS_EACH)

base-model: $(READY) ## train the tiny base model again (20 to 30 minutes on one core)
	@$(BIN)/python -m fedmedlora_core.pretraining --out fedmedlora_core/fedmedlora_core/base_model

bench-peer: $(PEER)/.ready ## install the peer of `bench secagg --against flwr` in an environment of its own

$(PEER)/.ready: benchmarks/peer-constraints.txt
	@test -x $(PEER)/bin/python || $(PYTHON) -m venv $(PEER)
	@echo "installing the peer into $(PEER) …"
	@$(PEER)/bin/python -m pip install --quiet --requirement benchmarks/peer-constraints.txt
	@touch $@

$(TOOLS)/.ready: deploy/requirements/tools.txt
	@test -x $(TOOLS)/bin/python || $(PYTHON) -m venv $(TOOLS)
	@echo "installing the tools of the security review into $(TOOLS) …"
	@$(TOOLS)/bin/python -m pip install --quiet --require-hashes --requirement deploy/requirements/tools.txt
	@touch $@

PACKAGES := cli benchmarks coordinator site protos fedmedlora_core crypto audit hatch_build.py
# Recorded vectors and results are digests and test keys by the thousand; the rules for key files hold there too.
SECRETS := --disable-plugin HexHighEntropyString --disable-plugin Base64HighEntropyString --disable-plugin KeywordDetector

security-offline: $(TOOLS)/.ready ## bandit, secret scan, container files: what needs no network
	@$(TOOLS)/bin/bandit -q -c pyproject.toml -r $(PACKAGES)
	@git ls-files -z | xargs -0 $(TOOLS)/bin/detect-secrets-hook $(SECRETS) --baseline .secrets.baseline
	@$(TOOLS)/bin/hadolint -c deploy/container/hadolint.yaml deploy/container/Containerfile.*
	@$(TOOLS)/bin/check-jsonschema --builtin-schema vendor.compose-spec deploy/container/compose.yaml
	@$(TOOLS)/bin/python deploy/requirements/compile.py --check

security: security-offline ## the same, and known vulnerabilities of every pinned package (needs the network)
	@$(TOOLS)/bin/python deploy/requirements/audit.py

sbom: $(TOOLS)/.ready ## CycloneDX bill of materials of each role, the same bytes each time (sbom/)
	@mkdir -p sbom
	@for role in coordinator site reviewer; do $(TOOLS)/bin/cyclonedx-py requirements \
		deploy/requirements/$$role.txt --pyproject pyproject.toml --output-reproducible --of JSON \
		-o sbom/$$role.cdx.json; done

requirements: $(TOOLS)/.ready ## write the hash-checked requirements again (needs the package index)
	@$(TOOLS)/bin/python deploy/requirements/compile.py

format: $(READY) ## format and sort imports
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .
