# Everything sets itself up: a Python 3.11 or newer and make are enough.
#   VENV=path     use another environment (default .venv)
#   PYTHON=path   use this Python to create it
#   ARGS=…        passed on to the command or to pytest
VENV ?= .venv
ARGS ?=
export VENV

.PHONY: help demo test check bench soak pictures constraints clean

help:
	@echo "make demo         a chat app with a fake LLM behind it, live in the terminal"
	@echo "make test         the tests            make check   ruff and mypy"
	@echo "make bench        cost per request, LLM call and scrape, next to the peers"
	@echo "make soak         the tests that take minutes to hours"
	@echo "make pictures     take the pictures of the README anew"
	@echo "make constraints  resolve all dependencies anew and write constraints.txt"

demo:
	@.ci/venv demo
	@$(VENV)/bin/otel-genapp demo $(ARGS)

test:
	@.ci/venv dev
	@$(VENV)/bin/python -m pytest $(ARGS)

check:
	@.ci/venv dev
	$(VENV)/bin/ruff check .
	$(VENV)/bin/ruff format --check .
	$(VENV)/bin/mypy

bench:
	@.ci/venv dev
	@$(VENV)/bin/python -m tests.bench $(ARGS)

soak:
	@.ci/venv dev
	@$(VENV)/bin/python -m pytest -m soak $(ARGS)

pictures:
	@.ci/venv dev
	@$(VENV)/bin/python -m tests.browser.pictures

# On the oldest Python: what resolves there fits the newer ones too.
constraints:
	@VENV=.venv-pip PYTHON="$(or $(PYTHON),python3.11 python3.12 python3.13 python3)" .ci/venv pip
	@.venv-pip/bin/python .ci/write_constraints.py

clean:
	rm -rf .venv .venv-pip build dist .mypy_cache .pytest_cache .ruff_cache .hypothesis
