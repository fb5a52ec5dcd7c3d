# Needs Python 3.11, g++ and make; all else goes into .venv on first use. `make` lists the targets.

PYTHON ?= python3.11
MODEL ?= models/fashion-mnist.bsnn
BOARD ?= icebreaker
N ?= 2
SIM ?= verilator
JOBS ?= 2

# What an engine is found by.
FITTED = $(ENGINE:%=--engine %) $(FPS:%=--fps %) $(CLOCK:%=--clock %)

VENV := .venv
ENV := $(VENV)/installed
RUN := $(VENV)/bin/python

.DEFAULT_GOAL := help
.PHONY: help env test lint formal train export sim emulate verilog report bitstream bake flash \
	bench demo clean

help:
	@echo 'Binary-weight spiking neural networks, from PyTorch to FPGAs.'
	@echo
	@echo '  make demo                train on digits, export, simulate, build a bitstream, show all'
	@echo '  make sim                 run the accelerator in simulation against the golden model'
	@echo '       [MODEL=$(MODEL)] [N=$(N) images] [SIM=verilator|icarus]'
	@echo '       [BOARD=..., or the report.json of a build, for its engine]'
	@echo '       [ARGS=--netlist: the gates that synthesis makes, for iCE40 and ECP5]'
	@echo '  make emulate             the accelerator without a board, for python -m sw.host'
	@echo '                           [BOARD=...]'
	@echo '  make report              what a network takes on a board, without synthesis'
	@echo '       [BOARD=...] [MODEL=...] [FPS=...] [ENGINE=board: its own, for many networks]'
	@echo '  make bitstream           the engine for a network, placed and routed; build/<board>/'
	@echo '       [BOARD=icebreaker|icebreaker-t1|upduino-v3|icesugar|hx8k-evn|tang-nano-9k|'
	@echo '        ulx3s-25f|orangecrab|colorlight-5a-75b|ulx3s-85f|ulx3s-85f-wide|'
	@echo '        ulx3s-85f-residual|ecpix5]'
	@echo '       [MODEL=...] [FPS=...] [ENGINE=board] [SEED=...] [CLOCK=MHz]'
	@echo '  make bake                a bitstream with a network in it, and another in seconds;'
	@echo '                           writes build/<board>-baked/ [BOARD=...] [MODEL=...]'
	@echo '  make flash               put it on the board, with openFPGALoader [BOARD=...]'
	@echo '                           [ARGS=--volatile: until power is off] [ARGS=--baked]'
	@echo '  make bench               the builds behind the figures of README [BOARD=...]; long.'
	@echo '                           Without BOARD, training speed beside other trainers, too'
	@echo '  make train               train a network [ARGS="--data fashion-mnist --T 2"]'
	@echo '  make export              make a network image CHECKPOINT=runs/... [MODEL=my.bsnn]'
	@echo '  make verilog             the Verilog of the accelerator alone [BOARD=...]'
	@echo '  make test                style and tests [JOBS=$(JOBS)] [ARGS="-k uart"]'
	@echo '  make formal              prove what no test can try [JOBS=$(JOBS)] [ARGS=--list]'
	@echo '  make lint                style alone'
	@echo '  make env                 only the environment, $(VENV) [PYTHON=$(PYTHON)]'
	@echo '  make clean               remove what was built; keeps runs/ and $(VENV)'
	@echo
	@echo 'Every command explains itself: python sw/train.py --help, python -m hw.build --help, ...'

env: $(ENV)

# A half-made environment is not reused: venv --clear starts over. Python compiles what it imports;
# all that is installed would take a minute more.
$(ENV): pyproject.toml constraints.txt
	@command -v $(PYTHON) >/dev/null || \
		{ echo 'error: $(PYTHON) not found: install Python 3.11 or name yours, PYTHON=...'; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
		{ echo 'error: $(PYTHON) is older than Python 3.11'; exit 1; }
	@$(RUN) -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(VENV) || \
		{ rm -rf $(VENV); echo 'error: no environment: install python3.11-venv'; exit 1; }
	$(RUN) -m pip install --disable-pip-version-check --no-compile \
		-c constraints.txt -e '.[test]'
	@touch $@

lint: $(ENV)
	$(VENV)/bin/ruff check .

# Files, not single tests, go to the workers: tests of a file share simulations and builds. Each
# worker has one core, so PyTorch takes one thread.
test: lint
	OMP_NUM_THREADS=1 $(RUN) -m pytest -n $(JOBS) --dist loadfile $(ARGS)

formal: $(ENV)
	$(RUN) -m tests.formal --jobs $(JOBS) $(ARGS)

train: $(ENV)
	$(RUN) sw/train.py $(ARGS)

# MODEL's default is a file of ours, so it counts only if given.
export: $(ENV)
	@test -n '$(CHECKPOINT)' || { echo 'error: say which, CHECKPOINT=runs/...'; exit 1; }
	$(RUN) sw/export.py $(CHECKPOINT) $(if $(filter command,$(origin MODEL)),-o $(MODEL)) $(ARGS)

sim: $(ENV)
	$(RUN) -m sim.run --model $(MODEL) --images $(N) --sim $(SIM) --engine $(BOARD) $(ARGS)

emulate: $(ENV)
	$(RUN) -m sim.emulate --engine $(BOARD) $(ARGS)

verilog: $(ENV)
	@mkdir -p build
	$(RUN) -m hw.verilog $(BOARD) -o build/accelerator-$(BOARD).v
	@echo build/accelerator-$(BOARD).v

report: $(ENV)
	$(RUN) -m sim.report $(BOARD) --model $(MODEL) $(FITTED) $(ARGS)

bitstream: $(ENV)
	$(RUN) -m hw.build $(BOARD) --model $(MODEL) $(SEED:%=--seed %) $(FITTED) $(ARGS)

bake: $(ENV)
	$(RUN) -m hw.bake $(BOARD) --model $(MODEL) $(SEED:%=--seed %) $(FITTED) $(ARGS)

flash: $(ENV)
	$(RUN) -m hw.flash $(BOARD) $(ARGS)

# All boards, unless one is given.
bench: $(ENV)
	$(RUN) -m hw.bench $(if $(filter command,$(origin BOARD)),$(BOARD)) $(ARGS)
	$(if $(filter command,$(origin BOARD)),,$(RUN) docs/throughput.py && $(RUN) docs/experiments.py)
	$(RUN) docs/results.py

demo: $(ENV)
	$(RUN) -m sim.demo $(ARGS)

clean:
	rm -rf build .pytest_cache .ruff_cache .hypothesis *.egg-info
	find hw sim sw tests -name __pycache__ -type d -prune -exec rm -rf {} +
