# What one does in this checkout. `make help` explains every target.
#
# Packages are installed from the locks in requirements/ into .venv, and the checkout itself as an editable package, so
# that .venv/bin/dcgan works from any folder.

.DEFAULT_GOAL := help
.SUFFIXES:
# two of these installations must not change one .venv at once
.NOTPARALLEL:
.PHONY: help setup train test test-slow test-e2e test-long test-browser test-stack test-docker image check fix docs bench gpu-check licenses audit chaos ui stack deploy env lock clean

VENV := .venv
RUN := $(VENV)/bin/python -m

# GPU=1 takes the lock with CUDA's libraries in it, PRODUCTION=1 adds what servers and clusters need, and an environment
# that has either keeps it.
APP := $(VENV)/installed-$(if $(or $(GPU),$(wildcard $(VENV)/installed-gpu)),gpu,app) \
  $(if $(or $(PRODUCTION),$(wildcard $(VENV)/installed-production)),$(VENV)/installed-production)
DEV := $(VENV)/installed-dev

help:  ## explain every target
	@echo "Usage: make TARGET [VARIABLE=value ...]"
	@echo
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1|/; s/[$$]{2}/$$/g' \
	  | while IFS='|' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done
	@echo
	@echo "Variables of train: RECIPE=fast|classic|smoke|FILE.toml EPOCHS=N SEED=N SOURCE=auto|bundled|DIR|URL"
	@echo "  SET='NAME=VALUE ...' RESUME=auto|never|RUN_ID DEVICE=auto|cpu|gpu"
	@echo "  PROMOTION=auto|manual, and ARGS for any other flag of dcgan train."
	@echo "Variables of deploy: NOTIFY=BLOCK, which tells of failed runs and new champions (docs/servers.md)."
	@echo "Variables of ui: DCGAN_LISTEN=ADDRESS, refused without passwords (docs/servers.md)."
	@echo "ARGS goes to pytest too: make test ARGS='-k idx'."
	@echo "Variables of set-up: PYTHON=/path/to/python3.11 (up to 3.13) for a new .venv, GPU=1 for CUDA's libraries,"
	@echo "  PRODUCTION=1 for PostgreSQL, Redis, S3, Docker and Kubernetes."

setup: $(APP)  ## install what training needs into .venv (GPU=1, PRODUCTION=1: with more)

# Variables of the command line that no target knows are refused by name: a misspelt one must not change nothing.
KNOWN := RECIPE EPOCHS SET SEED SOURCE RESUME DEVICE PROMOTION ARGS NOTIFY PYTHON GPU PRODUCTION UV_ARGS DCGAN_LISTEN \
  DCGAN_STATE DCGAN_SERVE_ARTIFACTS DCGAN_KEEP_CHECKPOINTS DCGAN_SWEEPS_URI PREFECT_API_URL MLFLOW_TRACKING_URI
given_names := $(strip $(foreach name,$(.VARIABLES),$(if $(filter command,$(origin $(name))),$(name))))
ifneq ($(filter-out $(KNOWN),$(given_names)),)
$(error Unknown variable $(filter-out $(KNOWN),$(given_names)); expected one of $(KNOWN))
endif

# A variable of the command line as a flag; an environment variable of the same name does not count.
given = $(if $(filter command,$(origin $1)),$($1))
flag = $(if $(call given,$1),--$2 '$(subst ','\'',$($1))')

train: $(APP)  ## train, track, render and register: the whole pipeline in this process
	@$(VENV)/bin/dcgan train $(call flag,RECIPE,recipe) $(call flag,EPOCHS,epochs) $(call flag,SEED,seed) \
	  $(foreach assignment,$(call given,SET),--set '$(subst ','\'',$(assignment))') \
	  $(call flag,SOURCE,source) $(call flag,RESUME,resume) $(call flag,DEVICE,device) $(call flag,PROMOTION,promotion) $(call given,ARGS)

# A file's tests stay together, for the sake of its fixtures; each process needs up to 3.5 GB. By default files with many
# tests come first, and the longest tests, each in a file with few, last.
PARALLEL := --numprocesses logical --maxprocesses 2 --dist loadfile --no-loadscope-reorder

test: $(DEV)  ## run the default tests
	$(RUN) pytest $(PARALLEL) -m "not slow and not e2e and not browser and not stack and not docker" $(call given,ARGS)

test-slow: $(DEV)  ## run the tests of whole processes and crashes, and those that take long
	$(RUN) pytest $(PARALLEL) -m slow $(call given,ARGS)

test-e2e: $(DEV)  ## run end to end: real servers, a real worker, a real deployment
	$(RUN) pytest $(PARALLEL) -m e2e $(call given,ARGS)

test-long: $(DEV)  ## run both of these at once, which takes less time than one after the other
	$(RUN) pytest $(PARALLEL) -m "slow or e2e" $(call given,ARGS)

test-browser: $(DEV)  ## look at the pages with a real Chromium, which must be installed
	$(RUN) pytest $(PARALLEL) -m browser $(call given,ARGS)

test-stack: $(DEV)  ## break the team stack while it trains; needs the Debian packages that .ci/run installs
	$(RUN) pytest -m stack $(call given,ARGS)

test-docker: $(DEV)  ## run flow runs in containers of the image, with a Docker that must run
	$(RUN) pytest -m docker $(call given,ARGS)

check: $(DEV)  ## check format, lint, types and import contracts; edits nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fix: $(DEV)  ## format, and fix what the linter can fix
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

docs: $(DEV)  ## build the documentation as a site in site/; every warning is an error
	NO_MKDOCS_2_WARNING=1 $(VENV)/bin/mkdocs build --strict --quiet

bench: $(DEV) .venv-torch/installed  ## measure this machine, PyTorch beside it, and write benchmarks/results/
	$(RUN) benchmarks $(call given,ARGS)

gpu-check: $(VENV)/installed-gpu  ## measure this machine's GPU, check a killed run on it, and write benchmarks/results/gpu.json
	$(RUN) benchmarks.gpu

# Each of the first four says its licence only in its LICENSE file (MIT, Apache, MIT), or offers a choice (Artistic or
# GPL). psycopg2's is the LGPL, which lets any program import it; nothing here contains or changes it.
READ_BY_US := huey namex skops text-unidecode psycopg2-binary
ALLOWED := MIT;BSD;Apache;ISC;Python Software Foundation;PSF;MPL-2.0;MPL 2.0

licenses: .venv-audit/installed $(DEV)  ## refuse a dependency whose licence is not one of those that are allowed
	.venv-audit/bin/pip-licenses --python $(VENV)/bin/python --from=mixed --partial-match --allow-only '$(ALLOWED)' \
	  --ignore-packages $(READ_BY_US) --format=csv >/dev/null

audit: licenses  ## check licences, and the locks for known vulnerabilities, for which PyPI is asked
	.venv-audit/bin/pip-audit --strict --disable-pip --require-hashes \
	  --requirement requirements/dev.txt --requirement requirements/gpu.txt

# The auditors are no part of what they audit: an environment of their own, outside the locks.
.venv-audit/installed: | $(VENV)/bin/activate
	$(RUN) venv --clear .venv-audit
	.venv-audit/bin/python -m pip install --quiet --disable-pip-version-check pip-audit==2.10.* pip-licenses==5.*
	@touch $@

# PyTorch is a peer to compare with, never a part: an environment of its own, outside the locks.
.venv-torch/installed: | $(VENV)/bin/activate
	$(RUN) venv --clear .venv-torch
	.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@

chaos: $(DEV)  ## kill 20 training runs anywhere, resume them, and compare them
	$(RUN) benchmarks.chaos $(call given,ARGS)

VERSION = $(shell sed -n 's/^version = "\(.*\)"/\1/p' pyproject.toml)

image:  ## build the image of workers and flow runs (ARGS goes to docker build: docs/docker.md)
	docker build --tag dcgan:$(VERSION) --build-arg VERSION=$(VERSION) \
	  --build-arg REVISION="$$(git rev-parse HEAD 2>/dev/null || echo unknown)" $(call given,ARGS) .

ui: $(APP)  ## start Prefect's server, MLflow's server and a worker for each pool, until Ctrl-C
	@$(VENV)/bin/dcgan ui

stack: $(DEV)  ## start the team stack without containers: PostgreSQL, Redis, S3, nginx, two of Prefect's servers
	@$(VENV)/bin/dcgan stack

deploy: $(APP)  ## create or update the work pools and deployments on the running server
	@$(VENV)/bin/dcgan deploy $(call flag,NOTIFY,notify)

env: $(APP)  ## print the settings of a shell that uses these servers: eval "$$(make env)"
	@$(VENV)/bin/dcgan env

clean:  ## remove .venv and the caches; what was trained stays in .state
	rm -rf $(VENV) .venv-* build site *.egg-info .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.state/*' -prune -exec rm -rf {} +

# bin/activate is the last file that venv writes, so it exists only when the environment is complete.
$(VENV)/bin/activate:
	@for python in $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3); do \
	  if "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then echo "Making $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv --clear $(VENV); fi; \
	done; \
	echo "No usable Python 3.11, 3.12 or 3.13 with its venv module was found: install one or name it, as in" \
	  "'make setup PYTHON=/path/to/python3.11'." >&2; exit 1

# The other locks contain all of the application's and agree with each other. They are complete, so pip need not resolve
# anything: before version 24 it would look for newer packages where an extra is asked for, and fail for lack of a hash.
# The checkout is built with the setuptools of the lock.
$(VENV)/installed-%: requirements/%.txt | $(VENV)/bin/activate
	@echo "Installing $< into $(VENV)" >&2
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --no-build-isolation --no-index --editable .
	@-$(RUN) operations.make_templates
	@touch $(VENV)/installed-app $@

UV_COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock" $(UV_ARGS) pyproject.toml

lock: .venv-lock/bin/uv  ## write requirements/ anew from pyproject.toml (UV_ARGS=--upgrade: with newer releases)
	$(UV_COMPILE) --output-file requirements/app.txt
	$(UV_COMPILE) --group dev --extra production --constraint requirements/app.txt --output-file requirements/dev.txt
	$(UV_COMPILE) --extra gpu --constraint requirements/app.txt --output-file requirements/gpu.txt
	$(UV_COMPILE) --extra production --constraint requirements/dev.txt --constraint requirements/gpu.txt \
	  --output-file requirements/production.txt

.venv-lock/bin/uv: | $(VENV)/bin/activate
	$(RUN) venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
