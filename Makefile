# Needs Python ≥ 3.11, git and make; everything else is set up in .venv here.
PYTHON ?= python3
BIN := .venv/bin
READY := .venv/.ready

LAB := /var/lib/labcluster

# What images are built on where no registry of images can be reached; `engine` of the lab makes it.
LAB_BASE := localhost/base:1
# Unless KUBECONFIG names another cluster, and REGISTRY, which its nodes pull from.
LAB_KUBECONFIG := $(LAB)/pki/admin.kubeconfig
ifeq ($(or $(KUBECONFIG),$(LAB_KUBECONFIG)),$(LAB_KUBECONFIG))
test-cluster bench-cluster: export KUBECONFIG := $(LAB_KUBECONFIG)
cluster-images test-cluster bench-cluster: BASE := $(LAB_BASE)
REGISTRY := localhost:5000
endif
docker-images test-docker: BASE := $(LAB_BASE)
FROM = $(if $(BASE),--base $(BASE))
# What the tests and measurements on a cluster find there.
ON_CLUSTER = PATH="$$PATH:$(LAB)/bin" TEST_IMAGES=build/images.yaml TEST_BASE=$(BASE)
LAB_ENGINE = $(shell docker image ls --quiet $(LAB_BASE) 2>/dev/null)
BACKEND := local

# What is measured beside the runner, and is not among what it is tested with.
PEERS := build/peers

.PHONY: demo test lint types imports unit processes faults faults-longer test-faults test-chromium \
	test-root test-models docker-images test-docker \
	cluster-up cluster-down cluster-images test-cluster images-locks bench bench-cluster docs constraints clean

demo: $(READY)  ## run checkpoint-diffing-mini on this machine, without a key; BACKEND=docker in containers
	$(if $(filter docker,$(BACKEND)),$(BIN)/python -m runner images build base agent $(FROM))
	$(BIN)/python -m runner submit experiments/checkpoint-diffing-mini/experiment.toml --backend $(BACKEND)

test: lint types imports unit processes faults  ## all that needs neither root nor apt

lint: $(READY)
	$(BIN)/ruff check
	$(BIN)/ruff format --check

types: $(READY)
	$(BIN)/mypy

imports: $(READY)
	$(BIN)/lint-imports

unit: $(READY)  ## under a minute
	$(BIN)/pytest -n 2 --dist loadfile -m "not chromium and not root and not cluster and not docker" \
		--ignore tests/processes --ignore tests/faults --ignore tests/backends --ignore tests/cluster \
		--ignore tests/docker --ignore tests/models

processes: $(READY)  ## real servers, sandboxes and runs, broken on purpose; the contract of the backends
	$(BIN)/pytest -n 2 --dist loadfile -m "not cluster and not docker" tests/processes tests/backends

FAULTS = $(BIN)/pytest -n 2 --dist load tests/faults
# Each part of a run in containers is killed once.
SHORT = --moments 6

faults: $(READY)  ## what must hold after any fault, at a few moments
	$(FAULTS) -m "not chromium and not root and not long"

faults-longer: $(READY)  ## the same at more moments, up to ten minutes
	$(FAULTS) -m "not chromium and not root" --moments 24

test-faults: $(READY)  ## the same at length: an hour or so
	$(FAULTS) -m "not chromium and not root" --moments 200 --stall 30 --timeout 600

test-chromium: $(READY)  ## needs Debian's chromium and chromium-driver
	$(BIN)/pytest -m chromium

test-root: $(READY)  ## needs root, to mount a small tmpfs
	$(BIN)/pytest -m root

test-models: $(READY)  ## models loaded by the real libraries; needs Debian's python3-torch
	$(BIN)/pytest tests/models

docker-images: $(READY)  ## on this machine's engine, installed and started where there is none (Debian, root)
	$(PYTHON) tests/labcluster engine
	$(BIN)/python -m runner images build base agent $(FROM)

test-docker: docker-images  ## against this machine's Docker engine
	TEST_BASE=$(BASE) $(BIN)/pytest -n 2 --dist loadfile -m "docker and not alone" --timeout 300 $(SHORT) \
		tests/docker tests/backends
	TEST_BASE=$(BASE) $(BIN)/pytest -m "docker and alone" --timeout 300 tests/docker

cluster-up:  ## a real Kubernetes on this machine; needs root, Debian and Go
	$(PYTHON) tests/labcluster ready
	@echo
	@echo 'To use it in this shell:  eval "$$($(PYTHON) tests/labcluster environment)"'
	@echo 'To run the tests on it:   make test-cluster'

cluster-down:
	$(PYTHON) tests/labcluster down

cluster-images: $(READY)  ## the runner's images, built and pushed, and the values that name them
	@test -n "$(REGISTRY)" || { echo "KUBECONFIG is set: name a registry that its nodes pull from," \
		"make $(MAKECMDGOALS) REGISTRY=registry.lab.example/runner"; exit 1; }
	@mkdir -p build
	$(BIN)/python -m runner images build $(FROM)
	$(BIN)/python -m runner images push $(REGISTRY) $(FROM) --values build/images.yaml

test-cluster: cluster-images  ## against the cluster of KUBECONFIG; else the one of cluster-up
	$(ON_CLUSTER) $(BIN)/pytest -n 3 --dist loadfile -m "cluster and not alone" --timeout 300 $(SHORT) \
		tests/cluster tests/backends
	$(if $(BASE),$(ON_CLUSTER) $(BIN)/pytest -m alone --timeout 300 tests/cluster)

LOCK := $(BIN)/uv pip compile --constraint build/constraints.txt --universal --python-version 3.11 \
	--generate-hashes --quiet --no-header --no-annotate --no-emit-index-url

images-locks: $(READY)  ## pin anew what the images have: the versions of constraints.txt, but of pandas
	@mkdir -p build
	grep -v '^pandas' constraints.txt > build/constraints.txt
	$(LOCK) pyproject.toml --extra sandbox --output-file images/base/runner.txt
	$(LOCK) images/base/python.in --output-file images/base/python.txt
	$(LOCK) images/gpu/python.in --output-file images/gpu/python.txt
	$(LOCK) images/lab/python.in --output-file images/lab/python.txt
	$(LOCK) pyproject.toml --extra agent --extra command --extra s3 \
		--output-file images/agent/runner.txt
	$(LOCK) pyproject.toml --extra cli --extra kubernetes --extra s3 --extra agent \
		--output-file images/client/runner.txt

bench: $(READY) $(PEERS)/.ready  ## docs/performance.md; with Chromium, an engine, a cluster if they are there
	$(if $(LAB_ENGINE),$(MAKE) docker-images)
	$(if $(LAB_ENGINE),TEST_BASE=$(LAB_BASE)) $(BIN)/python bench/performance.py
	$(if $(or $(KUBECONFIG),$(wildcard $(LAB_KUBECONFIG))),$(MAKE) bench-cluster)

$(PEERS)/.ready: bench/peers.txt $(READY)
	$(BIN)/uv venv --quiet --clear --python $(BIN)/python $(PEERS)
	$(BIN)/uv pip install --quiet --python $(PEERS)/bin/python --constraint constraints.txt \
		--requirement bench/peers.txt
	@touch $@

bench-cluster: cluster-images  ## on the cluster of KUBECONFIG; else the one of cluster-up
	$(ON_CLUSTER) $(BIN)/python bench/cluster.py
	$(ON_CLUSTER) $(BIN)/python bench/tunnel.py
	$(ON_CLUSTER) $(BIN)/python bench/handover.py
	$(ON_CLUSTER) $(BIN)/python bench/causes.py $(if $(BASE),,--quick)
	$(ON_CLUSTER) $(BIN)/python bench/many.py

docs: $(READY)  ## write the generated pages anew
	$(BIN)/python -m runner.docs_tables
	$(BIN)/python -m runner.cli.manual
	$(BIN)/python -m runner.backends.kubernetes.samples
	PYTHONPATH=tests $(BIN)/python tests/causes_seen.py

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
	$(BIN)/uv pip install --quiet --compile-bytecode --editable '.[dev]' --constraint constraints.txt
	@touch $@
