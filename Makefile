# `make demo` and `make test` set everything up on a machine that has Python 3.11 or later.
PYTHON ?= python3
BIN = .venv/bin
# Two processes with one thread each: faster for many small tests than one with two
PYTEST = OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -n 2

.PHONY: demo test check docs lint types unit slow fuzz test-common bench bench-gpu bench-long spot faults corpus-faults zoo ablation evaluate fidelity retrain web test-browser test-quant soak versions audit clean

demo: .venv/installed  ## Label the recordings that come with the package
	$(BIN)/hf-ast classify hf_ast/assets/ast-keywords/recordings/*.flac

test: lint types unit  ## Everything that must hold before a commit

check: lint types  ## Under a minute, before a commit: `make test` without the tests that take most of its time
	$(PYTEST) tests/models tests/training tests/test_imports.py tests/test_docs.py -k "not runs and not run"

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

slow: .venv/installed  ## Tests that take minutes or several processes, such as sharded training
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m slow tests

fuzz: .venv/installed  ## 100,000 generated cases, other ones every time: inputs, settings, hostile files and names
	HYPOTHESIS_PROFILE=fuzz $(PYTEST) -v tests/trust

test-common: .venv/installed  ## transformers' own common tests on our classes
	PYTHON=$(abspath $(BIN)/python) tests/transformers_common/run.sh tests/transformers_common/adapters/hf_ast.py

bench: .venv/installed  ## Our speed against transformers' own AST, both in one run
	$(BIN)/python -m tests.benchmarks.bench

bench-gpu: .venv/installed  ## Speed on a GPU, against transformers' pipeline and the rate of a matrix product
	$(BIN)/python -m tests.benchmarks.bench_gpu

bench-long: .venv/installed  ## Long recordings, overlapping windows, clips of mixed lengths
	$(BIN)/python -m tests.benchmarks.long_recordings

spot: .venv/installed  ## Keywords in recordings of a minute
	$(BIN)/python -m hf_ast.recipes.keywords spot

faults: .venv/installed  ## Commands that are killed, or find a full or read-only disk; takes the rights to mount a tmpfs
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

test-quant: .venv/installed  ## The fast setting in 8 bits, with torchao, which is taken out again
	$(BIN)/pip install -q -c constraints.txt torchao
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -q -m quant tests; status=$$?; $(BIN)/pip uninstall -q -y torchao; exit $$status

soak: .venv/installed  ## An hour of streams and 20,000 files: memory, open files, threads and processes
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.soak

versions: .venv/installed  ## Tests on the lowest and highest versions that pyproject allows; TORCH=2.13.0+cpu for that one
	OMP_NUM_THREADS=1 $(BIN)/python -m tests.benchmarks.versions $(if $(TORCH),--torch $(TORCH))

audit: .venv/installed  ## What comes with the package: an SBOM, known vulnerabilities, licences
	$(BIN)/python -m tests.benchmarks.audit

clean:
	rm -rf .venv build dist
