# Every task lives in make.py, so that Windows has the same ones: py -m make lab
PYTHON ?= python3
export LAB_ARGS

lab lab-zh edit print teacher translations run check test bench clean help:
	@$(PYTHON) make.py $@

.DEFAULT_GOAL := help
.PHONY: lab lab-zh edit print teacher translations run check test bench clean help
