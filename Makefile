# SPDX-License-Identifier: MIT
# Every target sets up what it needs. KERNEL=, KDIR= and QEMU= name your own; SEED= fixes what is random.

.DEFAULT_GOAL := help
SHELL := /bin/bash
PYTHON ?= python3
PY := .venv/bin/python
RUN := .venv/bin/dmabed
export KERNEL KDIR QEMU SEED WAVES

SOURCES := emulator driver pool vm testbed examples tests

.PHONY: help
help: ## this list
	@awk -F':.*## ' '/^[a-z-]+:.*## /{printf "  make %-12s %s\n", $$1, $$2}' $(MAKEFILE_LIST)

.PHONY: setup
setup: ## install what is missing: system packages, .venv, QEMU and a kernel in the cache
	@$(PYTHON) testbed/bootstrap.py

.PHONY: setup-python
setup-python:
	@$(PYTHON) testbed/bootstrap.py --python-only

.PHONY: run
run: setup ## boot the VM, measure, print the tables and the verdict, write out/<time>-run/
	@$(RUN) run

.PHONY: test
test: setup ## everything: lint, types, unit, integration and VM tests
	@$(MAKE) --no-print-directory lint
	@$(MAKE) --no-print-directory -j2 test-vm test-host

# Guests beside the rest: they wait for their own clocks half of the time.
GUESTS := tests/vm tests/faults/test_vm.py

.PHONY: test-host
test-host: setup-python
	@$(PY) -m pytest tests $(GUESTS:%=--ignore=%)

.PHONY: check
check: setup-python lint ## the quick part: lint, types, unit tests
	@$(PY) -m pytest -q tests/unit

.PHONY: lint
lint:
	@$(PY) -m ruff check $(SOURCES)
	@$(PY) -m ruff format --check $(SOURCES)
	@$(PY) -m mypy
	@$(PY) -m emulator.nic.generate --check

.PHONY: test-vm
test-vm: setup ## only the tests that boot a guest
	@$(PY) -m pytest $(GUESTS)

.PHONY: faults
faults: setup ## every fault on every rung it applies to: the matrix, some ten minutes
	@$(RUN) faults

.PHONY: cocotb
cocotb: setup-python ## only the RTL: checks K1 to K15, planted bugs, coverage (WAVES=1: out/rtl)
	@$(PY) -m pytest -q -rP --show-capture=stdout tests/cocotb

.PHONY: cosim
cosim: setup ## the Linux guest drives the RTL: packets both ways, a ping, verdict, figures
	@$(PY) -m testbed.cosim

.PHONY: attack
attack: setup ## a NIC that writes to memory the guest has given away, under each IOMMU
	@$(RUN) attack

.PHONY: soak
soak: setup ## 10 million packets while everything changes, under four IOMMUs: nobody may be blamed
	@$(RUN) soak

.PHONY: bench
bench: setup ## compare with the socket's round trip, QEMU's own NICs, and the twin with SimPy
	@$(PY) -m tests.bench.twin_speed
	@$(RUN) bench

.PHONY: plants
plants: setup ## plant bugs in the driver, in-process and in the VM, and see each caught by its rule
	@$(RUN) plants

.PHONY: count
count: setup ## count instructions, atomics and maps per packet of each receive strategy
	@$(RUN) count

.PHONY: thread
thread: setup-python ## run every claim of 2016 in the twin: docs/thread.md, and tables of docs/counting.md
	@$(PY) -m testbed.count.page
	@$(PY) -m testbed.twin.thread.page

.PHONY: compare
compare: setup-python ## every strategy under every IOMMU in virtual time: out/<time>-compare/index.html
	@$(RUN) compare

.PHONY: vm
vm: setup ## a guest shell with the NIC up; ping and ethtool -S work in it
	@$(RUN) vm

.PHONY: generate
generate: setup-python ## write what derives from the register and descriptor declarations
	@$(PY) -m emulator.nic.generate

.PHONY: clean
clean: ## remove what was built here (the cache of QEMU and kernel stays)
	@rm -rf out build .mypy_cache .ruff_cache .pytest_cache .hypothesis .benchmarks *.egg-info
	@find . -name __pycache__ -not -path './.venv/*' -prune -exec rm -rf {} +

.PHONY: distclean
distclean: clean ## remove .venv as well
	@rm -rf .venv
