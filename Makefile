# Two commands, and nothing before them: make demo, make test. Each makes the environment it needs, once.
# `make` alone lists the rest.

PYTHON ?= python3
VENV := .venv/bin/python
RUN := $(VENV)

# DDS stays on this machine unless the user says otherwise. Humble knows the older variable only.
ifeq ($(ROS_DISTRO),humble)
export ROS_LOCALHOST_ONLY ?= 1
else
export ROS_AUTOMATIC_DISCOVERY_RANGE ?= LOCALHOST
endif

# What the user passes to the demo reaches it through the shell's variables, word for word: make never expands it.
unexport BAG INSTRUCTION THERMAL_TOPIC RGB_TOPIC OUT
export DEMO_BAG := $(value BAG)
export DEMO_INSTRUCTION := $(value INSTRUCTION)
export DEMO_THERMAL_TOPIC := $(value THERMAL_TOPIC)
export DEMO_RGB_TOPIC := $(value RGB_TOPIC)
export DEMO_OUT := $(value OUT)

.PHONY: help demo test lint format types unit ros faults soak fuzz env env-demo workspace clean

help:  ## List the commands
	@grep -hE '^[a-z-]+:.*## ' Makefile | sed -E 's/^([a-z-]+):.*## /  make \1\t/' | expand -t 20
	@echo "Variables: PYTHON (interpreter to start from); for demo: BAG, INSTRUCTION, THERMAL_TOPIC, RGB_TOPIC, OUT; MINUTES, SECONDS"

demo: env-demo  ## Render a bag (or take BAG=...), play it through the node, leave pictures and figures in out/demo
	@set --; \
	if [ -n "$$DEMO_BAG" ]; then set -- "$$@" --bag "$$DEMO_BAG"; fi; \
	if [ -n "$$DEMO_INSTRUCTION" ]; then set -- "$$@" --instruction "$$DEMO_INSTRUCTION"; fi; \
	if [ -n "$$DEMO_THERMAL_TOPIC" ]; then set -- "$$@" --thermal-topic "$$DEMO_THERMAL_TOPIC"; fi; \
	if [ -n "$$DEMO_RGB_TOPIC" ]; then set -- "$$@" --rgb-topic "$$DEMO_RGB_TOPIC"; fi; \
	if [ -n "$$DEMO_OUT" ]; then set -- "$$@" --out "$$DEMO_OUT"; fi; \
	PYTHONPATH="demo$${PYTHONPATH:+:$$PYTHONPATH}" exec $(RUN) -m simulated_rig.demo "$$@"

test: lint types unit ros  ## Everything that continuous integration checks

lint: env  ## Check style and formatting
	$(RUN) -m ruff check
	$(RUN) -m ruff format --check

format: env  ## Mend what can be mended by itself
	$(RUN) -m ruff check --fix
	$(RUN) -m ruff format

types: env  ## Check the types of both packages
	$(RUN) -m mypy

unit: env  ## Tests that need no ROS
	$(RUN) -m pytest tests/unit -n auto --maxprocesses 4 --dist loadfile

ros: env  ## Tests on real ROS 2, each file in a domain of its own
	$(RUN) -m pytest tests/ros

MINUTES ?=
SECONDS ?= 120

faults: env  ## The real node under random faults, MINUTES (10): out/faults.md
	$(RUN) tests/faults/run.py --minutes $(or $(MINUTES),10) --report out/faults.md

soak: env  ## The real node under load, MINUTES (30) at 30 Hz: out/soak
	$(RUN) -m irvf.cli soak --minutes $(or $(MINUTES),30) --output out/soak

fuzz: env  ## Mutated images, recordings, texts and parameters, SECONDS (120) each: out/fuzz.md
	$(VENV) -m pip install -q -r requirements/fuzz.txt
	$(RUN) tests/fuzz/run.py --seconds $(SECONDS) --report out/fuzz.md

env:  ## Environment of the tests: .venv with torch and the test tools, interfaces in ros2_ws
	@IRVF_ENVIRONMENT=off $(PYTHON) tools/environment.py test

env-demo:  ## Environment of the demo and the node: the same without torch and test tools
	@IRVF_ENVIRONMENT=off $(PYTHON) tools/environment.py demo

workspace: env-demo  ## Build all of ros2_ws, irvf too, as on a robot; then: source ros2_ws/install/setup.bash
	@cd ros2_ws && if [ -x ../.venv/bin/colcon ]; then COLCON=../.venv/bin/colcon; else COLCON=colcon; fi; \
	MAKEFLAGS= $$COLCON build

clean:  ## Remove the environment, the builds and the caches; out/ and runs/ stay
	rm -rf .venv .venv.lock ros2_ws/build ros2_ws/install ros2_ws/log ros2_ws/src/tf2_msgs ros2_ws/src/vision_msgs
	rm -rf .mypy_cache .ruff_cache .pytest_cache .hypothesis
