# Every task lives in make.py, so that Windows has the same ones: py -m make lab
PYTHON ?= python3
export LAB_ARGS

help lab test check run bench clean:
	@$(PYTHON) make.py $@

.DEFAULT_GOAL := help
.PHONY: help lab test check run bench clean
