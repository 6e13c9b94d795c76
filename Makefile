# Every target sets up what it needs in $(VENV); nothing but Python 3.11 is assumed.
PYTHON ?= $(shell command -v python3.11 || command -v python3)
VENV ?= .venv
RUN = TF_CPP_MIN_LOG_LEVEL=3 $(VENV)/bin/python
INSTALLED = $(VENV)/installed
FULL_LOGS := logs/full-$(shell date +%Y%m%d-%H%M%S)

.PHONY: help test lint demo demo-quick demo-full bench clean

help:  ## Show this text.
	@sed -n 's/^\([a-z-]*\):.*## /\1\t/p' $(MAKEFILE_LIST) | expand -t 14

$(INSTALLED): setup.py pyproject.toml
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet --editable ".[test]"
	@touch $@

test: $(INSTALLED)  ## Run the tests.
	$(RUN) -m pytest

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

bench: $(INSTALLED)  ## Time the first training step of a large layer.
	$(RUN) benchmarks/first_step.py

clean:  ## Remove the environment and everything made by the other targets.
	rm -rf $(VENV) build dist logs *.egg-info .pytest_cache .ruff_cache .hypothesis
