# `make demo` and `make test` set everything up on a machine that has Python 3.11 or later.
PYTHON ?= python3
BIN = .venv/bin
# Two processes with one thread each are faster for many small tests than one with two. Each begins with half of the
# tests in their order, so that what a module's tests share is made once
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2 --dist worksteal

.PHONY: demo test check docs lint types unit slow fuzz test-common bench bench-deployment bench-gpu bench-long spot faults corpus-faults zoo ablation evaluate fidelity retrain coverage mutation web test-browser dist first-run publish-all test-quant soak versions audit clean

demo: .venv/installed  ## Label the recordings that come with the package
	$(BIN)/hf-ast classify hf_ast/assets/ast-keywords/recordings/*.flac

test: lint types unit  ## Everything that must hold before a commit

# Fast tests: no compiler, no subprocess, no training. They catch most breakage in models and training parts
FAST_MODELS = fbank feature_extraction labels left_padding masking modeling_ast padding passt patchout ssast token_merging
FAST_TRAINING = augmentation collation metrics mixtures optimizers parameter_groups sampling
FAST = tests/test_docs.py $(FAST_MODELS:%=tests/models/test_%.py) $(FAST_TRAINING:%=tests/training/test_%.py) tests/conversion/test_registry.py

check: lint types  ## Under a minute on 2 cores, before a commit: lint, types and the fast half of the tests
	$(PYTEST) $(FAST) -k "not runs and not run and not one_graph"

docs: .venv/installed  ## The documentation as pages, into build/docs; a dead reference is an error
	$(BIN)/sphinx-build -q -W docs build/docs

lint: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/lint-imports

types: .venv/installed
	$(BIN)/mypy

unit: .venv/installed
	$(PYTEST) tests

slow: .venv/installed  ## Tests that take many seconds or several processes: killed and sharded trainings, compilation, guides
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests

fuzz: .venv/installed  ## 100,000 generated cases, other ones every time: inputs, settings, hostile files and names
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -v tests/trust

test-common: .venv/installed  ## transformers' own common tests on our classes
	PYTHON=$(abspath $(BIN)/python) tests/transformers_common/run.sh tests/transformers_common/adapters/hf_ast.py

bench: .venv/installed  ## Our speed against transformers' own AST, both in one run; rows as JSON, costs as a figure
	mkdir -p build
	$(BIN)/python -m tests.benchmarks.bench --json build/bench.json
	$(BIN)/python -m tests.benchmarks.figure build/bench.json

bench-deployment: .venv/installed  ## Size, time and accuracy of all ways to run the embedded model and a base model
	$(BIN)/python -m tests.benchmarks.deployment

bench-gpu: .venv/installed  ## Speed on a GPU, against transformers' pipeline and the rate of a matrix product
	$(BIN)/python -m tests.benchmarks.bench_gpu

bench-long: .venv/installed  ## Long recordings, overlapping windows, clips of mixed lengths
	$(BIN)/python -m tests.benchmarks.long_recordings

spot: build/ast-keywords-frames/config.json  ## Keywords in recordings of a minute: by windows, and by frames
	$(BIN)/python -m hf_ast.recipes.keywords spot --frames build/ast-keywords-frames

build/ast-keywords-frames/config.json: .venv/installed  # Trained in a few minutes
	$(BIN)/python -m hf_ast.recipes.keywords frames --out build/ast-keywords-frames

faults: .venv/installed  ## Commands that are killed, or find no room or no network; half an hour; takes the rights to mount
	$(BIN)/python -m tests.benchmarks.faults

corpus-faults: .venv/installed  ## Extraction that is killed again and again
	$(BIN)/python -m tests.benchmarks.corpus_faults

zoo: .venv/installed  ## Every released checkpoint: convert, verify, card, open; 10 GB of temporary files
	$(BIN)/python -m tests.benchmarks.zoo

ablation: .venv/installed  ## What helps in fine-tuning with 10 and 40 clips per word; under an hour
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.small_data

evaluate: .venv/installed  ## Accuracy of the embedded model on held-out voices
	$(BIN)/python -m hf_ast.recipes.keywords evaluate

fidelity: .venv/installed  ## Every golden case: its difference to the official code, beside that of transformers' own AST
	$(BIN)/python -m tests.benchmarks.fidelity

retrain: .venv/installed  ## Train the embedded model again, into build/ast-keywords
	$(BIN)/python -m hf_ast.recipes.keywords train --out build/ast-keywords

coverage: .venv/installed  ## Lines and branches that the tests run, slow ones included; an error below 93 % of both
	rm -rf build/coverage
	mkdir -p build/coverage
	OMP_NUM_THREADS=1 $(BIN)/coverage run -m pytest -q -n 2 -m "not browser and not quant" tests
	$(BIN)/coverage combine
	$(BIN)/coverage report

mutation: .venv/installed  ## Small changes to front ends, masks, positions, key maps, losses: do tests notice? Half an hour; SHARE=1 for all
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.mutation --share $(or $(SHARE),0.25)

.venv/installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv .venv
	$(BIN)/pip install -q -c constraints.txt torch
	$(BIN)/pip install -q -c constraints.txt -e ".[test]"
	touch $@

# Kept out of the sources: npm's folder, and the page with all that it needs
RUNTIME = build/npm/node_modules/onnxruntime-web/dist

web: .venv/installed  ## The page that labels sound in a browser, into build/web; needs npm; MODEL=... for another model
	mkdir -p build/npm
	cp web/package.json build/npm
	npm install --prefix build/npm --ignore-scripts --no-package-lock --no-audit --no-fund
	rm -rf build/web
	mkdir build/web
	cp web/*.html web/*.css web/*.js build/web
	cp $(RUNTIME)/ort.wasm.min.mjs $(RUNTIME)/ort-wasm-simd-threaded.mjs $(RUNTIME)/ort-wasm-simd-threaded.wasm build/web
	$(BIN)/hf-ast export $(MODEL) --to onnx --out build/web/model
	@echo 'python -m http.server --directory build/web'

test-browser: web  ## The page in Chromium, which must be installed, with a recording as its microphone
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m browser tests/web tests/demo

dist: .venv/installed  ## Wheel and sdist into dist/, checked; each is installed into a fresh environment and labels a recording
	rm -rf dist
	$(BIN)/python -m build --no-isolation
	$(PYTHON) -m venv build/twine
	build/twine/bin/pip install -q twine
	build/twine/bin/twine check --strict dist/*
	$(BIN)/python -m tests.benchmarks.first_run dist/*.whl --until 'first label'
	$(BIN)/python -m tests.benchmarks.first_run dist/*.tar.gz --until 'first label'

first-run:  ## The first run of a new user, timed step by step; needs `make dist`
	$(BIN)/python -m tests.benchmarks.first_run dist/*.whl

publish-all: .venv/installed  ## Which checkpoints would be uploaded to the Hub, and which are refused; PUBLISH=1 uploads
	$(BIN)/python conversion/publish_all.py $(if $(PUBLISH),--publish)

test-quant: .venv/installed  ## The fast setting in 8 bits, with torchao, which is taken out again
	$(BIN)/pip install -q -c constraints.txt torchao
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m quant tests; status=$$?; $(BIN)/pip uninstall -q -y torchao; exit $$status

soak: .venv/installed  ## An hour of streams and 20,000 files: memory, open files, threads and processes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.soak

versions: .venv/installed  ## All supported versions of transformers and torch; ONLY=transformers for those, WHOLE=1 for the whole suite
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.versions --only=$(ONLY) $(if $(WHOLE),--whole)

audit: .venv/installed  ## What comes with the package: an SBOM, known vulnerabilities, licences
	$(BIN)/python -m tests.benchmarks.audit

clean:
	rm -rf .venv build dist
