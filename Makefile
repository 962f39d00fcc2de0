# Everything runs from $(VENV), which is made on first use: nothing has to be installed before `make demo` or `make test`.
VENV   ?= .venv
BUNDLE ?= dca_acdc
# Names to try, in this order, for the Python (3.11, 3.12 or 3.13) that makes the environment.
PYTHON ?= python3.11 python3.12 python3.13 python3 python

run := $(VENV)/bin/python
newest := 13
supported = -c 'import sys; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, $(newest)))'
versions = $(if $(filter 11,$(newest)),3.11,3.11 to 3.$(newest))

# MONAI Label's requirements contradict those of the rest, so it has an environment of its own.
LABEL_VENV ?= .venv-label
label_run  := $(LABEL_VENV)/bin/python
$(label_run) $(LABEL_VENV)/.setup-label: newest := 11  # a package that MONAI Label needs has no wheel for a newer one

# MONAI Deploy changes what `import monai` does, so it has an environment of its own, too.
DEPLOY_VENV ?= .venv-deploy
deploy_run  := $(DEPLOY_VENV)/bin/python

DOCS_VENV ?= .venv-docs
docs_run  := $(DOCS_VENV)/bin/python

# With COVERAGE=1 the tests write down what they run, in all environments.
measured := $(if $(COVERAGE),-m coverage run)
coverage = $(shell grep '^coverage==' requirements-dev.txt)

.PHONY: help setup setup-dev demo test coverage faults fuzz properties mutation gpu-test lint label label-test deploy
.PHONY: deploy-test docs clean

help:  ## show this list
	@awk -F ':.*## ' '/^[a-z-]+:.*## / {printf "make %-11s %s\n", $$1, $$2}' Makefile
	@echo "Settings: BUNDLE=$(BUNDLE)  VENV=$(VENV)  PYTHON='$(PYTHON)'"

setup: $(VENV)/.setup  ## make the environment and install requirements.txt
	@echo "$(VENV) is ready"

setup-dev: setup $(VENV)/.setup-dev  ## the same, with what test and lint need

demo: setup  ## train, evaluate and infer BUNDLE on a made-up data set
	$(run) -m tools demo --bundle $(BUNDLE)

# A file's tests stay together, since they share what they have trained; a process of its own needs up to 2 GB.
test: setup-dev  ## run the test suite
	$(run) $(measured) -m pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# After `make test label-test deploy-test COVERAGE=1`; what only a GPU runs counts as not run.
coverage: setup-dev  ## show what the tests with COVERAGE=1 have not run; fails if too much
	$(run) -m coverage combine --quiet
	$(run) -m coverage report

# FAULTS_KILLS=3 makes it shorter, FAULTS_SEED=1 chooses other moments.
faults: setup-dev  ## kill the verbs at random moments, fill their disk, turn the clock back
	$(run) -m pytest -m faults tests/faults --durations 0 --durations-min 1

# FUZZ_INPUTS=500 makes it shorter.
fuzz: setup-dev  ## read thousands of damaged NIfTI, DICOM and JSON files
	$(run) -m pytest -m fuzz tests/fuzz -rP

# PROPERTIES_EXAMPLES=500 makes it shorter, PROPERTIES_SEED=1 chooses other examples.
PROPERTIES_SEED ?= 0
properties: setup-dev  ## try what has to hold of any scan, label map and training with thousands of examples
	$(run) -m pytest tests/properties tests/scripts/test_grouping.py --hypothesis-profile many \
	  --hypothesis-seed $(PROPERTIES_SEED) --hypothesis-show-statistics

# MUTATION_PROCESSES=1 leaves the other cores alone.
mutation: setup-dev  ## change losses, scores, groups and grids one thing at a time; tests have to notice
	$(run) -m tests.mutation.score $(if $(MUTATION_PROCESSES),--max-children $(MUTATION_PROCESSES))

# Warnings of CUDA's libraries are shown and are no errors.
gpu-test: setup-dev  ## test what runs on a GPU; skipped without one
	$(run) -m pytest -m gpu -rP -W default --numprocesses auto --maxprocesses 8

lint: setup-dev  ## check style, format and types
	$(run) -m ruff check
	$(run) -m ruff format --check
	$(run) -m mypy

label: $(LABEL_VENV)/.setup-label  ## make the environment of MONAI Label, which `python -m tools label` starts
	@echo "$(LABEL_VENV) is ready: $(run) -m tools label --help (after make setup)"

label-test: setup-dev label  ## test the real server of MONAI Label
	$(if $(COVERAGE),$(label_run) -m pip install --quiet --disable-pip-version-check $(coverage))
	$(run) $(measured) -m pytest -m label_server

deploy: $(DEPLOY_VENV)/.setup-deploy  ## make the environment of MONAI Deploy, which runs the apps of `python -m tools deploy`
	@echo "$(DEPLOY_VENV) is ready: $(run) -m tools deploy --help (after make setup)"

deploy-test: setup-dev deploy  ## run and package real apps of MONAI Deploy
	$(if $(COVERAGE),$(deploy_run) -m pip install --quiet --disable-pip-version-check $(coverage))
	DEPLOY_VENV=$(abspath $(DEPLOY_VENV)) $(run) $(measured) -m pytest -m deploy_app

docs: $(DOCS_VENV)/.setup-docs  ## build the documentation as a site that needs no network: site/index.html
	@NO_MKDOCS_2_WARNING=1 $(docs_run) -m mkdocs build --strict
	@echo "open site/index.html"

clean:  ## remove the caches (environment, data, runs and models stay)
	rm -rf .pytest_cache .ruff_cache .mypy_cache .hypothesis .mutation .coverage*
	find bundles tools benchmarks experiments tests -type d -name __pycache__ -prune -exec rm -rf {} +

$(run) $(label_run) $(deploy_run) $(docs_run): %/bin/python:
	@for python in $(PYTHON); do \
	  if $$python $(supported) 2>/dev/null; then \
	    echo "making $* with $$($$python --version)"; \
	    $$python -m venv $* || { rm -f $@; echo "error: $$python could not make $(VENV) (see above)" >&2; exit 2; }; \
	    exit 0; \
	  fi; \
	done; \
	echo "error: Python $(versions) is needed and none of '$(PYTHON)' is it: install it, or name it with make PYTHON=/path/to/python3.11" >&2; \
	exit 2

# The stamps are written last, so an installation that was cut off is taken up again; the environment is an order-only
# prerequisite because the time stamp of its Python says nothing about it.
$(VENV)/.setup: requirements.txt | $(run)
	@$(run) $(supported) || { echo "error: $(VENV) is not of Python $(versions): remove it, or name another with make VENV=FOLDER" >&2; exit 2; }
	@echo "installing $< into $(VENV) (the first time takes some minutes)"
	@$(run) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(VENV)/.setup-dev: requirements-dev.txt requirements-openvino.txt $(VENV)/.setup
	@echo "installing $< into $(VENV)"
	@$(run) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(LABEL_VENV)/.setup-label: requirements-label.txt requirements-label-no-deps.txt | $(label_run)
	@$(label_run) $(supported) || { echo "error: $(LABEL_VENV) is not of Python $(versions): remove it, or name another with make LABEL_VENV=FOLDER" >&2; exit 2; }
	@echo "installing $< into $(LABEL_VENV) (the first time takes some minutes)"
	@$(label_run) -m pip install --quiet --disable-pip-version-check -r $<
	@$(label_run) -m pip install --quiet --disable-pip-version-check --no-deps -r requirements-label-no-deps.txt
	@touch $@

$(DEPLOY_VENV)/.setup-deploy: requirements-deploy.txt | $(deploy_run)
	@$(deploy_run) $(supported) || { echo "error: $(DEPLOY_VENV) is not of Python $(versions): remove it, or name another with make DEPLOY_VENV=FOLDER" >&2; exit 2; }
	@echo "installing $< into $(DEPLOY_VENV) (the first time takes some minutes)"
	@$(deploy_run) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@

$(DOCS_VENV)/.setup-docs: requirements-docs.txt | $(docs_run)
	@$(docs_run) $(supported) || { echo "error: $(DOCS_VENV) is not of Python $(versions): remove it, or name another with make DOCS_VENV=FOLDER" >&2; exit 2; }
	@echo "installing $< into $(DOCS_VENV)"
	@$(docs_run) -m pip install --quiet --disable-pip-version-check -r $<
	@touch $@
