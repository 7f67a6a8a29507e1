# make demo                       the whole workflow on real clips, to reports/report.html
# make demo CLIPS=/my/clips       the same on a folder, file or CSV of your own [RUN=name]
# make test                       lint and tests          make test-slow   the tests that take minutes
# make test-conda                 builds the rules' conda environments and runs jobs in them
# make test-container            builds the image in a chroot and runs the workflow in it (root, debootstrap, 8 GB)
# make test-wheel                 the package beside an older torch, built and checked as for an upload (5 GB)
# make offline CONFIG=my.yaml     fetches all that needs the network, for machines without [SDM=conda]
# make test-slurm                 the workflow on a real SLURM of four nodes on this machine (Debian, as root; 11 minutes)
# make test-gpu                  nets, metrics and training on a GPU against the processor; skipped where there is none
# make test-faults                break runs on purpose; their table goes to docs/reliability.md with PUBLISH=1
# make reproduce                  the demo twice in fresh folders, compared byte for byte
# make bench                      the benchmarks; keeps their tables in benchmarks/README.md
# make bench-gpu                  steps, encoding and metrics of the paper's nets on a GPU, kept there too; skipped where there is none
# make pictures                   the documents' pictures, from the report of the last demo (chromium)
# make env                        only the environment: .venv/bin/python
# make config                     regenerate what is generated from the settings and from the lock
# make audit                      known vulnerabilities of the locked packages, where the registry tells them
# make lock                       pin what pyproject.toml asks for and the lock lacks; all again with UPGRADE=1
# make clean                      remove results, reports and logs (not the fetched packages, not the environment)

SHELL := bash
.SHELLFLAGS := -euo pipefail -c
.DEFAULT_GOAL := help
.PHONY: help env demo test test-slow test-faults test-slurm test-conda test-container test-wheel test-gpu offline reproduce bench bench-gpu lint format config audit lock clean

PYTHON_BIN := .venv/bin
PEERS := piqa==1.3.2 torchmetrics==1.9.0 lightning-utilities==0.15.3 pyiqa==0.1.16 torchcodec==0.17.0
TARGETS := results/metrics.csv reports/report.html reports/explore.html
CONFIG ?= config/config.yaml
export CLIPS ?=
export RUN ?=

help:
	@sed -n 's/^# //p; /^$$/q' Makefile

env:
	@envs/setup.sh

# Clips of your own are a run of their own, so that nothing of it mixes with the demo's. The demo's nets gain little by a
# second thread, so jobs of one thread run beside each other; its numbers then do not depend on the number of cores.
demo: env
	@mkdir -p logs
	@$(PYTHON_BIN)/python workflow/scripts/own_clips.py > logs/own_clips.yaml
	@$(PYTHON_BIN)/snakemake --max-threads 1 --configfile config/demo.yaml logs/own_clips.yaml -- $(TARGETS)
	@echo "The report: $(CURDIR)/reports/report.html"

# A config of your own: make offline CONFIG=my.yaml; with the jobs' conda environments: SDM=conda.
offline: env
	@$(PYTHON_BIN)/snakemake prepare_offline --configfile $(CONFIG)
	@$(if $(SDM),$(PYTHON_BIN)/snakemake $(TARGETS) --configfile $(CONFIG) --sdm $(SDM) --conda-create-envs-only)

lint: env
	@$(PYTHON_BIN)/ruff check
	@$(PYTHON_BIN)/ruff format --check
	@$(PYTHON_BIN)/mypy
	@$(PYTHON_BIN)/lint-imports --no-logo
	@$(PYTHON_BIN)/snakefmt --check workflow
	@$(PYTHON_BIN)/snakemake --lint --configfile config/demo.yaml
	@$(PYTHON_BIN)/python -m video_vae.config.docs --check
	@$(PYTHON_BIN)/python envs/generate.py --check
	@$(PYTHON_BIN)/python tests/docs/documents.py
	@$(PYTHON_BIN)/python tests/docs/words.py

format: env
	@$(PYTHON_BIN)/ruff check --fix
	@$(PYTHON_BIN)/ruff format
	@$(PYTHON_BIN)/snakefmt workflow

# Files of tests side by side, one per core up to four: a test takes up to 2 GB.
test: lint
	@$(PYTHON_BIN)/pytest --numprocesses auto --maxprocesses 4 --dist loadfile

# Needs torch, diffusers, safetensors, this package and pytest; PYTHON_BIN names another environment. Skipped without CUDA.
test-gpu:
	@$(PYTHON_BIN)/python -m pytest -rs tests/gpu

test-slow: env
	@$(PYTHON_BIN)/pytest -m slow

test-conda: env
	@$(PYTHON_BIN)/pytest -m installs tests/environments/test_conda.py

test-wheel: env
	@$(PYTHON_BIN)/pytest -m installs tests/environments/test_wheel.py

test-container: env
	@$(PYTHON_BIN)/pytest -m installs tests/environments/test_container.py

test-slurm: env
	@$(PYTHON_BIN)/pytest -rs -m slurm tests/slurm

test-faults: env
	@$(PYTHON_BIN)/pytest tests/faults -m "" $(if $(SEED),--seed $(SEED)) $(if $(PUBLISH),--publish)

config: env
	@$(PYTHON_BIN)/python -m video_vae.config.docs
	@$(PYTHON_BIN)/python envs/generate.py

reproduce: env
	@$(PYTHON_BIN)/python workflow/scripts/reproduce.py

# Peers are measured where they can be had; nothing else of this project needs them.
bench: env
	@$(PYTHON_BIN)/python -m pip install --quiet --no-deps --upgrade --target build/peers $(PEERS) || echo "bench: without $(PEERS)"
	@PYTHONPATH=src:build/peers OMP_WAIT_POLICY=PASSIVE $(PYTHON_BIN)/python -m benchmarks --publish

# As test-gpu: PYTHON_BIN may name an environment with torch, diffusers, safetensors and this package.
bench-gpu:
	@PYTHONPATH=src $(PYTHON_BIN)/python -m benchmarks.gpu --publish

.PHONY: pictures
pictures: env
	@PYTHONPATH=tests/unit $(PYTHON_BIN)/python tests/docs/take_pictures.py

# Known vulnerabilities of the locked packages, as the registry's advisories tell; what cannot be asked is an error.
audit: env
	@$(PYTHON_BIN)/python -m pip install --quiet --upgrade --target build/audit pip-audit==2.10.1
	@PYTHONPATH=build/audit $(PYTHON_BIN)/python -m pip_audit --requirement requirements.lock --require-hashes --disable-pip --strict

lock:
	@command -v uv >/dev/null || { echo "uv is needed to pin packages: pip install uv"; exit 1; }
	@uv pip compile pyproject.toml --all-extras --group dev --universal --python-version 3.11 --generate-hashes \
	  --no-header --no-annotate --quiet $(if $(UPGRADE),--upgrade) --output-file requirements.lock
	@$(MAKE) --no-print-directory env config

clean:
	@rm -rf results reports logs .snakemake
