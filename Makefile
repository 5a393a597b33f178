# The one door: `make` prints help. Every target does the set-up that it needs, once.

PYTHON ?= $(shell command -v python3.11 || command -v python3)
# cpu or gpu, never both.
EXTRA ?= cpu
BIN := .venv/bin
INSTALLED := .venv/.installed-$(EXTRA)
INSTALLED_DEV := .venv/.installed-dev
CLIENTS := .venv-clients
PEERS := .venv-peers
INSTALLED_PEERS := $(patsubst requirements/peers/%.lock,$(PEERS)/%/.installed,$(wildcard requirements/peers/*.lock))
INSTALLED_CLIENTS := $(CLIENTS)/.installed
NODE := .venv/.node
WEB := rag_server/ui/web
INSTALLED_WEB := $(WEB)/node_modules/.installed
PAGE := rag_server/ui/dist/index.html
# The folders too: they change when a file is removed.
PAGE_SOURCES = $(shell find $(WEB)/src $(WEB)/public; find $(WEB) -maxdepth 1 -type f)
NPM := PATH="$(abspath $(BIN)):$$PATH" npm --prefix $(WEB)
HOST ?= 127.0.0.1
PORT ?= 8000
export HF_HUB_OFFLINE = 1
export RAG_EVAL_DATA ?= ../shared/data

.DEFAULT_GOAL := help

.PHONY: help
help: ## Print this help
	@awk 'BEGIN {FS = ":.*## "} /^[a-z-]+:.*## / {printf "  %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: install
install: $(INSTALLED) ## Install what the server needs into .venv (EXTRA=cpu or gpu)

.PHONY: ui
ui: $(PAGE) ## Build the chat page, if its sources have changed

.PHONY: serve
serve: $(INSTALLED) $(PAGE) ## Start the server with this project's docs/ as a first collection
	$(BIN)/rag-server serve --host $(HOST) --port $(PORT) $(addprefix --index ,$(wildcard docs/*.md)) --collection docs

.PHONY: test
test: $(INSTALLED_DEV) ## Run the tests, also against a real vLLM
	$(BIN)/python -m pytest --numprocesses auto --maxprocesses 8 --dist loadfile

.PHONY: test-ui
test-ui: $(INSTALLED_DEV) $(PAGE) ## Check the chat page: its types, its parts, and the whole in Chromium
	$(NPM) run check
	$(NPM) test
	$(BIN)/python -m pytest tests/ui

.PHONY: bench-ui
bench-ui: $(INSTALLED_DEV) $(PAGE) ## Measure the chat page: first paint, and the longest task of long answers and lists (2 minutes)
	$(BIN)/python -m pytest tests/ui/test_speed.py tests/ui/test_states.py -k "second or long or turns or thousand" --timed -rP

.PHONY: screenshots
screenshots: $(INSTALLED_DEV) $(PAGE) ## Run the chat page's tests in Chromium and write docs/images/ui
	$(BIN)/python -m pytest tests/ui --screenshots

.PHONY: test-clients
test-clients: $(INSTALLED) $(INSTALLED_CLIENTS) ## Run other people's clients against a live server, in an environment of theirs
	$(CLIENTS)/bin/python -m pytest -c tests/clients/pytest.ini --ignore tests/clients/test_llama_index.py tests/clients
	PYTHONPATH=$(CLIENTS)/openai-2 $(CLIENTS)/bin/python -m pytest -c tests/clients/pytest.ini \
		tests/clients/test_llama_index.py tests/clients/openai_python

.PHONY: lint
lint: $(INSTALLED_DEV) ## Check style and layers
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

.PHONY: format
format: $(INSTALLED_DEV) ## Mend style
	$(BIN)/ruff check --fix .
	$(BIN)/ruff format .

.PHONY: typecheck
typecheck: $(INSTALLED_DEV) ## Check types
	$(BIN)/mypy

.PHONY: bench
bench: $(INSTALLED_DEV) ## Measure speed and memory of the server, of indexing and of batches (about 30 minutes)
	$(BIN)/python -m eval.bench_server
	$(BIN)/python -m eval.bench_index
	$(BIN)/python -m eval.bench_batches
	$(BIN)/python -m eval.bench_batches --engine vllm --rows 576

.PHONY: bench-peers
bench-peers: $(INSTALLED_DEV) $(INSTALLED_PEERS) ## Measure beside other programs, in environments of theirs (needs RAG_EVAL_DATA; hours)
	$(BIN)/python -m eval.bench_peers $(ARGS)

.PHONY: conformance
conformance: $(INSTALLED_DEV) ## Compare the API with OpenAI's description, property by property (needs RAG_EVAL_DATA; a minute)
	$(BIN)/python -m eval.run_conformance

.PHONY: fuzz
fuzz: $(INSTALLED_DEV) ## Send thousands of generated requests to a server of its own (about 15 minutes)
	$(BIN)/python -m eval.run_fuzz

.PHONY: bench-api
bench-api: $(INSTALLED_DEV) ## Measure the API beside a bare proxy, overloaded, and with 1,000 streams (about 2 minutes)
	$(BIN)/python -m eval.bench_api

.PHONY: eval
eval: $(INSTALLED_DEV) ## Measure retrieval, ranking and answers on small sets (needs RAG_EVAL_DATA; about 20 minutes)
	$(BIN)/python -m eval.run_retrieval --dataset cranfield --index
	$(BIN)/python -m eval.run_outputs $(RAG_EVAL_DATA)/listwise-llm-outputs/responses.jsonl.gz
	$(BIN)/python -m eval.run_rerank --data $(RAG_EVAL_DATA)/msmarco-dl19 --first-stage bm25 \
		--compare bm25+rankmistral100-fullranking --rerankers embedding
	$(BIN)/python -m eval.run_qa --dataset xquad-en --questions 10
	$(BIN)/python -m eval.run_position --questions 5 --num-passages 5,10 --positions 3 --negatives hard

.PHONY: eval-full
eval-full: $(INSTALLED_DEV) ## Measure everything, rerankers by language models too (many hours on a CPU)
	$(BIN)/python -m eval.run_retrieval --dataset scifact,nfcorpus,cranfield --index --rerankers full_ranking,sliding_window
	$(BIN)/python -m eval.run_outputs $(RAG_EVAL_DATA)/listwise-llm-outputs/responses.jsonl.gz
	$(BIN)/python -m eval.run_rerank --data $(RAG_EVAL_DATA)/msmarco-dl19 --first-stage bm25 \
		--compare bm25+rankmistral100-fullranking \
		--rerankers embedding,full_ranking,full_ranking:format=compact,full_ranking:format=compact:first_token,sliding_window
	$(BIN)/python -m eval.run_rerank --data $(RAG_EVAL_DATA)/noveleval --first-stage google --rerankers embedding,full_ranking
	for set in xquad-en clapnq hotpotqa 2wikimultihopqa rgb-en_fact litm-20docs; do \
		$(BIN)/python -m eval.run_qa --dataset $$set --questions 100 || exit 1; done
	$(BIN)/python -m eval.run_position --questions 100
	$(BIN)/python -m eval.run_rewriting --questions 260
	$(BIN)/python -m eval.run_injection --questions 100
	$(BIN)/python -m eval.run_semantic_cache
	$(BIN)/python -m eval.run_latency --data $(RAG_EVAL_DATA)/msmarco-dl19

# Models of a user's own begin here too: see docs/training.md.
TRAINING ?= build/training
BASE = $(TRAINING)/smollm2-135m-instruct

# Where it is installed: with the C library's own allocator, steps of many lengths take ever more memory and time on a CPU.
TCMALLOC = $(firstword $(wildcard /usr/lib/*/libtcmalloc_minimal.so.4))

$(BASE)/checksums.json: | $(INSTALLED_DEV)
	$(BIN)/python -m rag_server.engines.smollm2_weights $(BASE)

.PHONY: train-small
train-small: $(INSTALLED_DEV) ## Train the three models on a handful of facts, to see that it works (some minutes)
	$(BIN)/python -m eval.tuning.small --out $(TRAINING)/small

.PHONY: train-answerer
train-answerer: $(INSTALLED_DEV) $(BASE)/checksums.json ## Train the answerer's adapter (needs RAG_EVAL_DATA; two hours on a CPU)
	$(BIN)/python -m eval.tuning.answer_rows --out $(TRAINING)/answerer
	LD_PRELOAD=$(TCMALLOC) $(BIN)/python -m rag_server.training.train --base $(BASE) --rows $(TRAINING)/answerer/rows.jsonl \
		--held-out $(TRAINING)/answerer/held-out.jsonl --out $(TRAINING)/answerer/run $(ARGS)

.PHONY: train-embedder
train-embedder: $(INSTALLED_DEV) $(BASE)/checksums.json ## Train the embedder, and contrastively alone beside it (needs RAG_EVAL_DATA)
	$(BIN)/python -m eval.tuning.embedding_pairs --out $(TRAINING)/embedder
	LD_PRELOAD=$(TCMALLOC) $(BIN)/python -m indexers.training.train --base $(BASE) --data $(TRAINING)/embedder/pairs.jsonl \
		--mine packaged --out $(TRAINING)/embedder/run --baseline $(ARGS)

# All of them may be trained on for a model that ships.
RANKING_SETS = xquad-en litm-oracle hotpotqa 2wikimultihopqa

.PHONY: train-ranker
train-ranker: $(INSTALLED_DEV) $(BASE)/checksums.json ## Train the full ranker's adapter (needs RAG_EVAL_DATA; two hours on a CPU)
	mkdir -p $(TRAINING)/ranker
	for set in $(RANKING_SETS); do \
		$(BIN)/python -m eval.tuning.ranking_labels --dataset $$set --first-stage lexical --teacher embedding --out $(TRAINING)/ranker/$$set.jsonl || exit 1; done
	cat $(RANKING_SETS:%=$(TRAINING)/ranker/%.jsonl) > $(TRAINING)/ranker/labels.jsonl
	LD_PRELOAD=$(TCMALLOC) $(BIN)/python -m rerankers.training.train --base $(BASE) --labels $(TRAINING)/ranker/labels.jsonl \
		--out $(TRAINING)/ranker/run --shuffled --start rag_server/engines/packaged_adapters/smollm2-135m-rag $(ARGS)

.PHONY: bench-training
bench-training: $(INSTALLED_DEV) $(BASE)/checksums.json ## Measure training, encoding and GradCache beside the bare model (about 8 minutes)
	LD_PRELOAD=$(TCMALLOC) $(BIN)/python -m eval.bench_training --base $(BASE)

.PHONY: gpu-check
gpu-check: $(INSTALLED_DEV) ## Check everything that needs a GPU, and print one table; skips what this machine lacks
	$(BIN)/python -m eval.gpu_check

.PHONY: crash-test
crash-test: $(INSTALLED_DEV) ## Kill an indexing process at 200 points and look for what is lost
	$(BIN)/python -m eval.crash_test

.PHONY: batch-crash-test
batch-crash-test: $(INSTALLED_DEV) ## Kill a batch, its engine and its cache at 100 points and look for what is lost (about 12 minutes)
	$(BIN)/python -m eval.batch_crash_test

.PHONY: replicas-test
replicas-test: $(INSTALLED_DEV) ## Kill and restart two servers on PostgreSQL and Redis under load, and look for what is lost (4 minutes)
	$(BIN)/python -m eval.replicas_test --seconds 120 --kills 6

# Built from what is checked out. PIP_EXTRA_INDEX_URL is passed on: docs/deployment.md says when it is needed.
IMAGE = rag-server:$(shell sed -n 's/^__version__ = "\(.*\)"/\1/p' rag_server/__init__.py)-$(EXTRA)

.PHONY: docker-build
docker-build: ## Build the container image (EXTRA=cpu or gpu; needs Docker)
	docker build --file docker/Dockerfile --target $(EXTRA) --build-arg PIP_EXTRA_INDEX_URL --tag $(IMAGE) .

.PHONY: up
up: docker-build docker/.env ## Start the container, with EXTRA=gpu also vLLM, databases and dashboards (needs Docker)
	docker compose --file docker/compose.yaml --profile $(EXTRA) up --detach --wait

docker/.env:
	@umask 077 && $(PYTHON) -c 'import secrets; [print(f"{name}={secrets.token_hex(24)}") for name in ("POSTGRES_PASSWORD", "GRAFANA_PASSWORD")]' > $@

.PHONY: lock
lock: ## Resolve the dependencies again and write requirements/*.lock
	$(PYTHON) requirements/lock.py

.PHONY: lock-peers
lock-peers: ## The same for the peers of bench-peers, in requirements/peers
	$(PYTHON) requirements/lock_peers.py

.PHONY: clean
clean: ## Remove what was installed and built, and caches
	rm -rf .venv $(CLIENTS) $(PEERS) tests/clients/node/node_modules $(WEB)/node_modules $(dir $(PAGE)) .mypy_cache .pytest_cache .ruff_cache .import_linter_cache dist

.venv/.made:
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11) and "rag-server needs Python 3.11 or newer; name one with make PYTHON=...")'
	$(PYTHON) -m venv .venv
	touch $@

# Installed without resolution: what the lock does not list cannot come in. Offline afterwards.
$(INSTALLED): requirements/$(EXTRA).lock pyproject.toml | .venv/.made
	@if ls .venv/.installed-* 2>/dev/null | grep -v -e '-$(EXTRA)$$' -e '-dev$$' -q; then \
		echo "the other build is installed in .venv; run 'make clean' first"; exit 1; fi
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/$(EXTRA).lock
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation -e .
	touch $@

$(INSTALLED_DEV): requirements/dev.lock $(INSTALLED)
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/dev.lock
	touch $@

# The same Node everywhere, whatever the machine has.
$(NODE): requirements/ui.lock | .venv/.made
	$(BIN)/python -m pip install --quiet --disable-pip-version-check --no-deps -r requirements/ui.lock
	touch $@

$(INSTALLED_WEB): $(WEB)/package-lock.json $(NODE)
	$(NPM) ci --silent --no-audit --no-fund --ignore-scripts
	touch $@

$(PAGE): $(INSTALLED_WEB) $(PAGE_SOURCES)
	$(NPM) run build
	touch $@

# The clients pin other versions than the server; Node comes from PyPI too.
$(INSTALLED_CLIENTS): requirements/clients.lock requirements/clients-openai-2.lock tests/clients/node/package-lock.json
	test -d $(CLIENTS) || $(PYTHON) -m venv $(CLIENTS)
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r requirements/clients.lock
	rm -rf $(CLIENTS)/openai-2
	$(CLIENTS)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps --target $(CLIENTS)/openai-2 \
		-r requirements/clients-openai-2.lock
	cd tests/clients/node && PATH="$(abspath $(CLIENTS))/bin:$$PATH" npm ci --silent --no-audit --no-fund --ignore-scripts
	touch $@

# Each peer alone: they pin versions against each other, and against the server.
$(PEERS)/%/.installed: requirements/peers/%.lock
	test -d $(@D) || $(PYTHON) -m venv $(@D)
	$(@D)/bin/python -m pip install --quiet --disable-pip-version-check --no-compile --no-deps -r $<
	touch $@
