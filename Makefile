# What one does in this checkout. `make help` explains every target.
#
# Nothing is installed but packages, from the locks in requirements/, into .venv. The checkout itself is not: Python
# finds dcgan, tasks and flows because it is started here.

.DEFAULT_GOAL := help
.SUFFIXES:
.PHONY: help setup train test test-slow test-e2e test-browser check fix bench chaos ui deploy env lock clean

VENV := .venv
RUN := $(VENV)/bin/python -m

# GPU=1 takes the lock with CUDA's libraries in it, and an environment that has them keeps them.
APP := $(VENV)/installed-$(if $(or $(GPU),$(wildcard $(VENV)/installed-gpu)),gpu,app)
DEV := $(VENV)/installed-dev

help:  ## explain every target
	@echo "Usage: make TARGET [VARIABLE=value ...]"
	@echo
	@grep -hE '^[a-z][a-z0-9-]*:.*## ' $(MAKEFILE_LIST) | sed -E 's/^([a-z0-9-]+):.*## /\1|/; s/[$$]{2}/$$/g' \
	  | while IFS='|' read -r target text; do printf '  %-14s %s\n' "$$target" "$$text"; done
	@echo
	@echo "Variables of train: RECIPE=fast|classic|smoke EPOCHS=N SEED=N SOURCE=auto|bundled|DIR|URL"
	@echo "  RESUME=auto|never|RUN_ID DEVICE=auto|cpu|gpu"
	@echo "  PROMOTION=auto|manual, and ARGS for any other flag of python -m flows.train."
	@echo "Variables of ui: DCGAN_LISTEN=ADDRESS, refused without passwords (docs/servers.md)."
	@echo "ARGS goes to pytest too: make test ARGS='-k idx'."
	@echo "Variables of set-up: PYTHON=/path/to/python3.11 (up to 3.13) for a new .venv, GPU=1 for CUDA's libraries."

setup: $(APP)  ## install what training needs into .venv (GPU=1: with CUDA's libraries)

# A variable of the command line, and the same as a flag; what the environment happens to call so is not meant.
given = $(if $(filter command,$(origin $1)),$($1))
flag = $(if $(call given,$1),--$2 '$(subst ','\'',$($1))')

train: $(APP)  ## train, track, render and register: the whole pipeline in this process
	@$(RUN) flows.train $(call flag,RECIPE,recipe) $(call flag,EPOCHS,epochs) $(call flag,SEED,seed) \
	  $(call flag,SOURCE,source) $(call flag,RESUME,resume) $(call flag,DEVICE,device) $(call flag,PROMOTION,promotion) $(call given,ARGS)

test: $(DEV)  ## run the default tests
	$(RUN) pytest -m "not slow and not e2e and not browser" $(call given,ARGS)

test-slow: $(DEV)  ## run the tests of whole processes and crashes, and those that take long
	$(RUN) pytest -m slow $(call given,ARGS)

test-e2e: $(DEV)  ## run end to end: real servers, a real worker, a real deployment
	$(RUN) pytest -m e2e $(call given,ARGS)

test-browser: $(DEV)  ## look at the MLflow UI with a real Chromium, which must be installed
	$(RUN) pytest -m browser $(call given,ARGS)

check: $(DEV)  ## check format, lint, types and import contracts; edits nothing
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports

fix: $(DEV)  ## format, and mend what the linter can mend
	$(VENV)/bin/ruff format .
	$(VENV)/bin/ruff check --fix .

bench: $(DEV) .venv-torch/installed  ## measure this machine, PyTorch beside it, and write the figures under benchmarks/
	$(RUN) benchmarks $(call given,ARGS)

# PyTorch is a peer to compare with, never a part: an environment of its own, outside the locks.
.venv-torch/installed: | $(VENV)/bin/activate
	$(RUN) venv --clear .venv-torch
	.venv-torch/bin/python -m pip install --quiet --disable-pip-version-check torch==2.13.0
	@touch $@

chaos: $(DEV)  ## kill 20 trainings anywhere, continue them, and compare them (ARGS='--runs 3 --seed 1')
	$(RUN) benchmarks.chaos $(call given,ARGS)

ui: $(APP)  ## start Prefect's server, MLflow's UI and a worker for each pool, until Ctrl-C
	@$(RUN) operations.ui

deploy: $(APP)  ## create or update the work pools and deployments on the running server
	@$(RUN) operations.deploy

env: $(APP)  ## print the settings of a shell that uses these servers: eval "$$(make env)"
	@$(RUN) operations.shell

clean:  ## remove .venv and the caches; what was trained stays in .state
	rm -rf $(VENV) .venv-* build .mypy_cache .pytest_cache .ruff_cache .hypothesis .import_linter_cache
	find . -name __pycache__ -type d -not -path './.state/*' -prune -exec rm -rf {} +

# bin/activate is the last file that venv writes, so it is there only when the environment is whole.
$(VENV)/bin/activate:
	@for python in $(if $(PYTHON),'$(PYTHON)',python3.13 python3.12 python3.11 python3); do \
	  if "$$python" -c 'import sys, ensurepip; sys.exit(not (3, 11) <= sys.version_info[:2] <= (3, 13))' 2>/dev/null; \
	  then echo "Making $(VENV) with $$("$$python" --version)"; exec "$$python" -m venv --clear $(VENV); fi; \
	done; \
	echo "No usable Python 3.11, 3.12 or 3.13 with its venv module was found: install one or name it, as in" \
	  "'make setup PYTHON=/path/to/python3.11'." >&2; exit 1

# The GPU's and the developers' locks hold all of the application's. They are complete, so pip need not resolve
# anything: before version 24 it would look for newer packages where an extra is asked for, and fail for want of a hash.
$(VENV)/installed-%: requirements/%.txt | $(VENV)/bin/activate
	@echo "Installing $< into $(VENV)" >&2
	@$(RUN) pip install --quiet --disable-pip-version-check --no-deps --require-hashes --requirement $<
	@touch $(VENV)/installed-app $@

UV_COMPILE = .venv-lock/bin/uv pip compile --quiet --universal --python-version 3.11 --generate-hashes \
  --no-emit-index-url --custom-compile-command "make lock" $(UV_ARGS) pyproject.toml

lock: .venv-lock/bin/uv  ## write requirements/ anew from pyproject.toml (UV_ARGS=--upgrade: with newer releases)
	$(UV_COMPILE) --output-file requirements/app.txt
	$(UV_COMPILE) --group dev --constraint requirements/app.txt --output-file requirements/dev.txt
	$(UV_COMPILE) --extra gpu --constraint requirements/app.txt --output-file requirements/gpu.txt

.venv-lock/bin/uv: | $(VENV)/bin/activate
	$(RUN) venv --clear .venv-lock
	.venv-lock/bin/python -m pip install --quiet --disable-pip-version-check uv
