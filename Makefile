# Each target is a line that a person could type.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin

.PHONY: setup setup-proxies demo test check format proto diagrams clean

setup: $(BIN)/.ready  ## everything that development, tests and the demo need
	$(BIN)/fed demo install

$(BIN)/.ready: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

setup-proxies:  ## HAProxy, nginx (to stand before a router), nghttp2 (as a client) and strace (to kill at system calls) for tests; needs root and apt
	@command -v haproxy >/dev/null 2>&1 && command -v nginx >/dev/null 2>&1 && command -v strace >/dev/null 2>&1 && command -v nghttp >/dev/null 2>&1 || \
	  { test "$$(id -u)" = 0 && command -v apt-get >/dev/null && apt-get update -qq && \
	    DEBIAN_FRONTEND=noninteractive apt-get install -y -qq --no-install-recommends haproxy nginx-light strace nghttp2-client; }

demo: setup  ## the whole federation on this machine; Ctrl-C ends it
	$(BIN)/fed demo

SPREAD := -n 2 --dist loadfile --no-loadscope-reorder

test: setup  ## everything, with real Triton and real Ray Serve, in two processes
	$(BIN)/pytest $(SPREAD) $(PYTEST_FLAGS)

check: $(BIN)/.ready  ## style, types, import rules, sizes, drift
	$(BIN)/ruff check
	$(BIN)/ruff format --check
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/pytest -q tests/test_house.py

format: $(BIN)/.ready
	$(BIN)/ruff check --fix
	$(BIN)/ruff format

proto: $(BIN)/.ready  ## regenerate the wire contract (pinned grpcio-tools)
	PATH="$(abspath $(BIN)):$$PATH" $(BIN)/python -m grpc_tools.protoc -I. --python_out=. --grpc_python_out=. --mypy_out=quiet:. --mypy_grpc_out=quiet:. federation/contract/v1/federation.proto

diagrams: $(BIN)/.ready  ## redraw the state diagrams of ARCHITECTURE.md from the tables
	$(BIN)/python -m tests.diagrams --write

clean:
	rm -rf $(VENV) .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
