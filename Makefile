# One front door. Every target makes the virtual environment that it needs.
#
#   make demo      the whole journey of one study, on this machine, in about a minute
#   make test      all tests, with real peers (DCMTK, Orthanc, Redis, PostgreSQL, Chromium, Podman, nnU-Net)
#   make check     style, types, import directions, spelling
#   make journey   only the tests from scanner to archive
#   make viewers   OHIF and VolView in a headless browser look at what Wetread holds; pictures in .cache/pictures
#   make pictures  the same, and the best pictures go into the documentation
#   make hostile   attacks on real processes of ours, and which promises were kept: about five minutes
#   make bench     measurements, with the peer or the physical floor beside each
#   make docs      write the generated pages of docs/ again
#   make evidence  measure the built-in models again: the tables of their cards and, where the real images are,
#                  docs/evidence.md. ONLY=lung_ct renews one card, ONLY=page the page alone

PYTHON ?= python3
VENV ?= .venv
# CPU or CUDA build: whatever pip offers on this machine under this version. Builds differ by machine, so torch is
# the one package without a hash. On an own mirror: make demo TORCH="--index-url … torch==2.13.0"
TORCH ?= torch==2.13.0
PYTEST ?= $(VENV)/bin/python -m pytest
# How many files of tests run side by side: most of their time they wait for other programs. 0: one after another.
SIDE_BY_SIDE ?= 2
# These need files that are not here, measure nothing by themselves, or belong to `make evidence`.
BENCHMARKS = $(filter-out evidence filled_ledger measured real_images zoo,$(basename $(notdir $(filter-out %/__init__.py,$(wildcard benchmarks/*.py)))))

export PIP_DISABLE_PIP_VERSION_CHECK = 1

.PHONY: demo test check journey viewers pictures hostile bench docs evidence peers constraints clean

$(VENV)/torch.stamp:
	@$(PYTHON) -c 'import sys; v = sys.version_info[:2]; sys.exit(0 if (3, 11) <= v < (3, 14) else "Wetread needs Python 3.11 to 3.13, and $(PYTHON) is %d.%d: try make PYTHON=python3.12" % v)'
	@echo "Making the virtual environment $(VENV): a few minutes the first time."
	$(PYTHON) -m venv $(VENV)
	$(VENV)/bin/pip install --quiet $(TORCH)
	@touch $@

$(VENV)/run.stamp: $(VENV)/torch.stamp constraints.txt pyproject.toml
	$(VENV)/bin/pip install --quiet --require-hashes -r constraints.txt
	$(VENV)/bin/pip install --quiet --no-deps --no-build-isolation --editable .
	@touch $@

$(VENV)/dev.stamp: $(VENV)/run.stamp constraints-dev.txt
	$(VENV)/bin/pip install --quiet --require-hashes -r constraints-dev.txt
	@touch $@

demo: $(VENV)/run.stamp
	$(VENV)/bin/wetread demo

peers:
	@sh tests/peers/install.sh

# Torch's threads wait for each other busily, which costs a third where files run side by side on few cores.
test: export OMP_NUM_THREADS = 1
test: $(VENV)/dev.stamp peers
	$(PYTEST) -n $(SIDE_BY_SIDE) --dist loadfile

journey: $(VENV)/dev.stamp peers
	$(PYTEST) -m journey -v

viewers: $(VENV)/dev.stamp peers
	$(PYTEST) -m viewer -v

pictures: viewers
	$(VENV)/bin/python -m tests.viewers.renew

check: $(VENV)/dev.stamp
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/ruff check .
	$(VENV)/bin/mypy
	$(VENV)/bin/lint-imports
	$(VENV)/bin/typos
	$(VENV)/bin/python -m docs.generate --check

# HOSTILE="--quick" takes about a minute; HOSTILE="--seed 1 --only P8" does one of them again.
hostile: $(VENV)/dev.stamp
	$(VENV)/bin/python -m tests.hostile $(HOSTILE)

bench: $(VENV)/dev.stamp
	@for name in $(BENCHMARKS); do echo; echo "== $$name"; $(VENV)/bin/python -m benchmarks.$$name || exit 1; done

docs: $(VENV)/dev.stamp
	$(VENV)/bin/python -m docs.generate

evidence: $(VENV)/dev.stamp
	$(VENV)/bin/python -m benchmarks.evidence $(ONLY) --write

# For whoever changes a dependency: writes the three files again. Needs pip-tools beside the environment.
constraints:
	pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--unsafe-package torch --no-header --no-annotate --output-file constraints.txt pyproject.toml
	pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--unsafe-package torch --no-header --no-annotate --extra monai --extra onnx --extra telemetry \
		--constraint constraints.txt --output-file constraints-models.txt pyproject.toml
	pip-compile --quiet --generate-hashes --no-emit-index-url --no-emit-find-links --no-emit-trusted-host \
		--unsafe-package torch --no-header --no-annotate --extra monai --extra onnx --extra telemetry --extra test --extra check \
		--constraint constraints-models.txt --output-file constraints-dev.txt pyproject.toml
	@# torch has no hash on purpose (see TORCH above), so the warning about it at the end of each file goes.
	sed -i '/^# WARNING/,$$d' constraints*.txt
	sed -i '$${/^$$/d;}' constraints*.txt

clean:
	rm -rf $(VENV) .cache .pytest_cache .mypy_cache .ruff_cache .hypothesis
