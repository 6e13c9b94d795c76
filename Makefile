# Every target sets up what it needs in $(VENV); nothing but Python 3.11 is assumed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN = TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python
# One process for each core; the tests of a file share what they train.
PYTEST = $(RUN) -m pytest --numprocesses auto --dist loadfile
INSTALLED = $(VENV)/installed
BACKENDS = $(VENV)/installed-backends
KERAS2 = $(VENV)/keras2/installed
NOW := $(shell date +%Y%m%d-%H%M%S)
FULL_LOGS := logs/full-$(NOW)
FIGURE_LOGS := logs/figures-$(NOW)

.PHONY: help test test-jax test-torch lint demo demo-quick demo-full bench bench-quick evidence figures clean

help:  ## Show this text.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[test]"
	@touch $@

test: $(INSTALLED)  ## Run the tests on TensorFlow.
	$(PYTEST)

test-jax: $(BACKENDS)  ## Run those that depend on the backend on JAX.
	KERAS_BACKEND=jax $(PYTEST)

test-torch: $(BACKENDS)  ## The same on torch.
	KERAS_BACKEND=torch $(PYTEST)

lint: $(INSTALLED)  ## Check style, annotations and docstrings.
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .

demo: $(INSTALLED)  ## Denoise handwritten digits: the main job, under two minutes.
	$(RUN) examples/denoise_digits.py

demo-quick: $(INSTALLED)  ## The same in seconds, on little data, as CI runs it.
	$(RUN) examples/denoise_digits.py --quick

demo-full: $(INSTALLED)  ## The same with whole grids: the README's table and picture.
	$(RUN) examples/denoise_digits.py --full --log-dir $(FULL_LOGS)
	cp $(FULL_LOGS)/digits.png docs/digits.png

# Torch without its GPU libraries, which are many times larger and of no use here.
$(BACKENDS): $(INSTALLED)
	$(VENV)/bin/pip install --quiet --no-deps --retries 0 "torch==2.13.*" \
		--extra-index-url https://download.pytorch.org/whl/cpu
	$(VENV)/bin/pip install --quiet --editable ".[backends]"
	@touch $@

# Keras 2, the last that had LocallyConnected2D, beside Keras 3.
$(KERAS2): $(INSTALLED)
	$(PYTHON) -m venv $(VENV)/keras2
	$(VENV)/keras2/bin/pip install --quiet "tensorflow==2.15.*" "keras==2.15.*"
	@touch $@

bench: $(BACKENDS) $(KERAS2)  ## Measure time and memory, rewrite docs/performance.md: 23 min.
	$(RUN) benchmarks/run_all.py

bench-quick: $(BACKENDS) $(KERAS2)  ## Try the same on tiny layers and write nothing.
	$(RUN) benchmarks/run_all.py --quick

evidence: $(INSTALLED)  ## Train for the tables of docs/penalties.md: an hour.
	$(RUN) benchmarks/departures.py --write
	$(RUN) benchmarks/strengths.py --write

figures: $(INSTALLED) demo-full  ## Make every picture of README and docs again: 20 min.
	$(RUN) examples/plot_families.py --output docs/families.png
	$(RUN) examples/problem_children.py --output docs/problem_children.png
	$(RUN) examples/soften_a_network.py --log-dir $(FIGURE_LOGS) --output docs/where.png
	$(RUN) docs/screenshot.py $(FIGURE_LOGS) --output docs/tensorboard.png
	$(RUN) examples/plot_penalties.py --output docs/penalties.png
	$(RUN) examples/regularization_path.py --output docs/path.png
	$(RUN) benchmarks/scaling.py --plot docs/scaling.png

clean:  ## Remove the environment and everything made by the other targets.
	rm -rf $(VENV) build dist logs *.egg-info .pytest_cache .ruff_cache .hypothesis
