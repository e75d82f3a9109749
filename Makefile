# Each goal does its own set-up: an environment in .venv, nothing global.
#   make demo      simulated sensors and the fusion node, over DDS, for 15 seconds
#   make test      every test;  make test-unit, make test-ros  for a part of them
#   make test-jazzy   the tests of the nodes on ROS 2 Jazzy, in .venv-jazzy;  TESTS='-k word'  a few
#   make bench     speed beside the original notebook's way, and beside docs/benchmarks;  BENCH='--quick'
#   make eval      the bundles that ship, against what they reached before (test/baselines);
#                  make baseline  writes that down anew, after a training: commit it
#   make lint      form and types;  make format  repairs the form
#   make parameters   config/fusion.yaml and docs/parameters.md, from their common source
#   make PYTHON=python3.12 ...  takes another interpreter than python3
#   make help      this list

SHELL := bash
comma := ,
PYTHON ?= python3
# Where ROS is sourced, its own rclpy is used instead of the wheels: another environment.
VENV := .venv$(if $(ROS_DISTRO),-sourced-$(ROS_DISTRO))
EXTRAS := $(if $(ROS_DISTRO),test$(comma)dev,ros$(comma)test$(comma)dev)
BIN := $(VENV)/bin
STAMP := $(VENV)/.installed
SIDE_BY_SIDE := -n auto --maxprocesses 8 --dist worksteal
SECONDS_OF_DEMO := 15

SCENES_OF_EVAL := 300
TOLERANCE := 5%

.PHONY: help demo eval baseline test test-unit test-ros test-jazzy bench lint format parameters setup clean

demo: $(STAMP)
	$(BIN)/fusion demo --seconds $(SECONDS_OF_DEMO) --out runs/demo

# Nodes have deadlines: their tests run when the others have ended.
test: $(STAMP)
	status=0; \
	$(BIN)/python -m pytest -m 'not ros' $(SIDE_BY_SIDE) || status=$$?; \
	$(MAKE) --no-print-directory test-ros || status=$$?; \
	exit $$status

test-unit: $(STAMP)
	$(BIN)/python -m pytest -m 'not ros and not slow' $(SIDE_BY_SIDE)

# Nodes that wait leave cores to each other; those whose speed is measured run one by one, last.
# pytest ends with 5 where none of TESTS is of that sort.
test-ros: $(STAMP)
	beside=0; alone=0; \
	$(BIN)/python -m pytest -m 'ros and not alone' $(SIDE_BY_SIDE) $(TESTS) || beside=$$?; \
	$(BIN)/python -m pytest -m 'ros and alone' $(TESTS) || alone=$$?; \
	case $$beside,$$alone in 0,0 | 0,5 | 5,0) ;; *) exit 1 ;; esac

# The wheels of Jazzy beside those of Kilted. A sourced ROS would come before both.
test-jazzy:
	env -u ROS_DISTRO -u PYTHONPATH -u LD_LIBRARY_PATH -u AMENT_PREFIX_PATH \
	$(MAKE) test-ros VENV=.venv-jazzy EXTRAS='ros-jazzy$(comma)test'

# Scenes made on the spot, those of shapes as a recording too. Only accuracy is held to the
# baseline: it is the same on all machines but for rounding, far less than the tolerance.
eval: HELD = --baseline test/baselines/$$task.json --tolerance $(TOLERANCE)
baseline: HELD = --write-baseline test/baselines/$$task.json
eval baseline: $(STAMP)
	rm -rf runs/eval
	set -e; for task in shapes cubes; do \
	  $(BIN)/fusion simulate runs/eval/$$task --task $$task --count $(SCENES_OF_EVAL) --seed 1000; \
	  $(BIN)/fusion evaluate --bundle $$task --data runs/eval/$$task --out runs/eval/report_$$task $(HELD); \
	done
	$(BIN)/fusion to-bag runs/eval/shapes --out runs/eval/recording
	$(BIN)/fusion evaluate --bundle shapes --bag runs/eval/recording --out runs/eval/report_recording \
	  --baseline test/baselines/shapes.json --tolerance $(TOLERANCE)

bench: $(STAMP)
	$(BIN)/fusion benchmark --out runs/bench --records docs/benchmarks $(BENCH)

lint: $(STAMP)
	$(BIN)/python -m ruff check
	$(BIN)/python -m ruff format --check
	$(BIN)/python -m mypy fusion_perception

format: $(STAMP)
	$(BIN)/python -m ruff check --fix
	$(BIN)/python -m ruff format

parameters: $(STAMP)
	$(BIN)/python -m fusion_perception.ros.node_settings > config/.fusion.yaml
	mv config/.fusion.yaml config/fusion.yaml
	$(BIN)/python -m fusion_perception.ros.parameter_page > docs/.parameters.md
	mv docs/.parameters.md docs/parameters.md

help:
	@sed -n 's/^#   //p' $(firstword $(MAKEFILE_LIST))

setup: $(STAMP)

clean:
	rm -rf $(VENV) .venv-jazzy build install log *.egg-info

# uv installs in seconds what takes pip minutes, but does not read pip's configuration: tell it
# the index that pip uses, and let pip do the work where uv cannot.
$(STAMP): setup.py
	@$(PYTHON) -c '' 2>/dev/null || { echo "No '$(PYTHON)' here. Install Python 3.10 or newer, or name one: make $(MAKECMDGOALS) PYTHON=/path/to/python3" >&2; exit 1; }
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 10))' || { echo "'$(PYTHON)' is $$($(PYTHON) --version 2>&1), but Python 3.10 or newer is needed. Name one: make $(MAKECMDGOALS) PYTHON=python3.12" >&2; exit 1; }
	@$(PYTHON) -c 'import venv, ensurepip' 2>/dev/null || { echo "'$(PYTHON)' cannot make environments (it lacks venv or ensurepip). On Debian and Ubuntu: sudo apt install python3-venv" >&2; exit 1; }
	@$(BIN)/python -m pip --version >/dev/null 2>&1 || $(PYTHON) -m venv --clear $(if $(ROS_DISTRO),--system-site-packages) $(VENV)
	@echo 'Installing into $(VENV): a few minutes and some gigabytes the first time (PyTorch).'
	@$(BIN)/python -m pip install --quiet --disable-pip-version-check uv || echo 'No uv here: pip will take longer.'
	@index="$${UV_DEFAULT_INDEX:-$${PIP_INDEX_URL:-$$($(BIN)/python -m pip config get global.index-url 2>/dev/null)}}"; \
	if [ -n "$$index" ]; then export UV_DEFAULT_INDEX="$$index"; fi; \
	$(BIN)/python -m uv pip install --quiet --compile-bytecode --python $(BIN)/python --editable '.[$(EXTRAS)]' \
	|| $(BIN)/python -m pip install --disable-pip-version-check --use-pep517 --editable '.[$(EXTRAS)]'
	@touch $@
