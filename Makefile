# Needs Python ≥ 3.11, git and make; everything else is set up in .venv here.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

.PHONY: demo test lint types imports unit processes test-chromium test-root bench docs constraints clean

demo: $(READY)  ## run the checkpoint-diffing-mini experiment on this machine, without a key
	$(BIN)/python -m runner submit experiments/checkpoint-diffing-mini/experiment.toml

test: lint types imports unit processes  ## all that needs neither root nor apt

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

unit: $(READY)  ## under a minute
	$(BIN)/pytest -n 2 --dist loadfile -m "not chromium and not root" --ignore tests/processes --ignore tests/backends

processes: $(READY)  ## real sandboxes and runs, broken on purpose; the contract of the backends
	$(BIN)/pytest -n 2 --dist loadfile tests/processes tests/backends

test-chromium: $(READY)  ## needs Debian's chromium and chromium-driver
	$(BIN)/pytest -m chromium

test-root: $(READY)  ## needs root, to mount a small tmpfs
	$(BIN)/pytest -m root

bench: $(READY)
	$(BIN)/python bench/round_trip.py

docs: $(READY)  ## write the generated pages anew
	$(BIN)/python -m runner.docs_tables
	$(BIN)/python -m runner.cli.manual

constraints: $(READY)  ## pin anew what CI tests
	$(BIN)/uv pip compile pyproject.toml --extra dev --universal --upgrade --quiet \
		--no-header --no-annotate --no-emit-index-url --output-file constraints.txt

clean:
	rm -rf .venv

$(READY): pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo "$(PYTHON) is older than 3.11: name a newer one, make PYTHON=python3.12"; exit 1; }
	@test -x $(BIN)/uv || $(PYTHON) -m venv .venv || \
		{ rm -rf .venv; echo "Python's venv module is missing (Debian: apt install python3-venv)"; exit 1; }
	@test -x $(BIN)/uv || $(BIN)/python -m pip install --quiet --constraint constraints.txt uv
	$(BIN)/uv pip install --quiet --editable '.[dev]' --constraint constraints.txt
	@touch $@
