# Every target sets up what it needs in $(VENV); nothing but Python 3.11 is assumed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
# Environments within it, of other versions.
KERAS2_VENV = $(VENV)/keras2
OLDEST_VENV = $(VENV)/oldest
RUN = TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python
RUN_KERAS2 = TF_CPP_MIN_LOG_LEVEL=3 $(KERAS2_VENV)/bin/python
RUN_OLDEST = TF_CPP_MIN_LOG_LEVEL=3 $(OLDEST_VENV)/bin/python
# One process for each core; the tests of a file share what they train.
WORKERS ?= auto
PYTEST_OPTIONS = -m pytest --numprocesses $(WORKERS) --dist loadfile
PYTEST = $(RUN) $(PYTEST_OPTIONS)
QUICK = -m "not slow"
SLOW = -m "slow or random" --hypothesis-profile thorough
INSTALLED = $(VENV)/installed
BACKENDS = $(VENV)/installed-backends
DOCS = $(VENV)/installed-docs
COVERAGE = $(VENV)/installed-coverage
KERAS2 = $(KERAS2_VENV)/installed
OLDEST = $(OLDEST_VENV)/installed
NOW := $(shell date +%Y%m%d-%H%M%S)
FULL_LOGS := logs/full-$(NOW)
FIGURE_LOGS := logs/figures-$(NOW)

.PHONY: help test test-slow test-jax test-torch test-addons test-oldest test-versions coverage \
	mutants lint docs demo demo-quick demo-full bench bench-quick evidence evidence-quick \
	figures clean

help:  ## Show this text.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 16

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[test]"
	@touch $@

test: $(INSTALLED)  ## Run the tests for every change on TensorFlow: 5 min on two cores.
	$(PYTEST) $(QUICK)

test-slow: $(BACKENDS)  ## Run the others, which train for long or start processes: 15 min.
	$(PYTEST) $(SLOW)

test-jax: $(BACKENDS)  ## Run those that depend on the backend on JAX.
	KERAS_BACKEND=jax $(PYTEST)

test-torch: $(BACKENDS)  ## The same on torch.
	KERAS_BACKEND=torch $(PYTEST)

test-addons: $(KERAS2)  ## On Keras 2.15 with TensorFlow Addons: layers, monitor, conversion, ...
	KERAS_3_PYTHON=$(abspath $(VENV))/bin/python $(RUN_KERAS2) $(PYTEST_OPTIONS)

test-oldest: $(OLDEST)  ## On the oldest Keras 3 that will do, and TensorFlow.
	$(RUN_OLDEST) $(PYTEST_OPTIONS) --hypothesis-profile thorough

test-versions: test-addons test-oldest test test-slow  ## On oldest, newest, and Keras 2.15.

coverage: $(BACKENDS) $(COVERAGE)  ## Run all tests on TensorFlow and report what they execute.
	mkdir -p logs/coverage
	$(PYTEST) --junitxml logs/coverage/junit.xml --cov --cov-context test --cov-report term

mutants: $(COVERAGE) logs/coverage/coverage  ## Put faults into copies of the package: are they found?
	$(RUN) tests/mutants.py

logs/coverage/coverage: $(wildcard keras_softconv/*.py keras_softconv/*/*.py tests/*.py)
	$(MAKE) coverage
	@touch $@

lint: $(INSTALLED)  ## Check style, annotations and docstrings.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

docs: $(DOCS)  ## Build guides, evidence and reference as a site, in site/.
	TF_CPP_MIN_LOG_LEVEL=3 NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --quiet
	@echo "site/index.html"

demo: $(INSTALLED)  ## Denoise handwritten digits: the main job, under two minutes.
	$(RUN) examples/denoise_digits.py

demo-quick: $(INSTALLED)  ## The same in seconds, on little data, as CI runs it.
	$(RUN) examples/denoise_digits.py --quick

demo-full: $(INSTALLED)  ## The same with whole grids: the README's picture of it.
	$(RUN) examples/denoise_digits.py --full --log-dir $(FULL_LOGS)
	cp $(FULL_LOGS)/digits.png docs/digits.png

# Torch without its GPU libraries, which are many times larger and of no use here.
$(BACKENDS): $(INSTALLED)
	$(VENV)/bin/pip install --quiet --no-deps --retries 0 "torch==2.13.*" \
		--extra-index-url https://download.pytorch.org/whl/cpu
	$(VENV)/bin/pip install --quiet --editable ".[backends]"
	@touch $@

# TensorFlow Addons and Keras 2.15, the last that they run with, beside Keras 3.
$(KERAS2): $(INSTALLED)
	$(PYTHON) -m venv $(KERAS2_VENV)
	$(KERAS2_VENV)/bin/pip install --quiet --editable ".[addons,test]"
	@touch $@

$(DOCS): $(INSTALLED)
	$(VENV)/bin/pip install --quiet --editable ".[docs]"
	@touch $@

$(COVERAGE): $(INSTALLED)
	$(VENV)/bin/pip install --quiet --editable ".[coverage]"
	@touch $@

$(OLDEST): $(INSTALLED)
	$(PYTHON) -m venv $(OLDEST_VENV)
	$(OLDEST_VENV)/bin/pip install --quiet --editable ".[test]" \
		"keras==3.15.0" "tensorflow==2.21.0" "tensorboard==2.21.0"
	@touch $@

bench: $(BACKENDS) $(KERAS2)  ## Measure time and memory, rewrite docs/performance.md: 23 min.
	$(RUN) benchmarks/run_all.py

bench-quick: $(BACKENDS) $(KERAS2)  ## Try the same on tiny layers and write nothing.
	$(RUN) benchmarks/run_all.py --quick

evidence: $(INSTALLED) $(KERAS2)  ## Run every study and rewrite its tables in docs: about an hour.
	$(RUN) experiments/evidence.py --keras2 $(KERAS2_VENV)/bin/python
	$(RUN) experiments/targets.py --write

evidence-quick: $(INSTALLED) $(KERAS2)  ## Try the same with little training and write nothing.
	$(RUN) experiments/evidence.py --quick --keras2 $(KERAS2_VENV)/bin/python

figures: $(INSTALLED) demo-full  ## Make the pictures again, but that of the evidence: 20 min.
	$(RUN) examples/plot_families.py --output docs/families.png
	$(RUN) examples/problem_children.py --output docs/problem_children.png
	$(RUN) examples/soften_a_network.py --log-dir $(FIGURE_LOGS) --output docs/where.png
	$(RUN) docs/screenshot.py $(FIGURE_LOGS) --output docs/tensorboard.png
	$(RUN) examples/plot_penalties.py --output docs/penalties.png
	$(RUN) examples/regularization_path.py --output docs/path.png
	$(RUN) benchmarks/scaling.py --plot docs/scaling.png

clean:  ## Remove the environment and everything made by the other targets.
	rm -rf $(VENV) build dist logs site *.egg-info .pytest_cache .ruff_cache .hypothesis
