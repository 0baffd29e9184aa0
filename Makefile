# demo, test, check and bench each build their own environment first; nothing else is needed but Python and make.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin

.PHONY: demo test check bench format clean
.DELETE_ON_ERROR:

$(VENV)/user: pyproject.toml constraints.txt
	test -x $(BIN)/python || $(PYTHON) -m venv $(VENV)
	$(BIN)/pip install -q -c constraints.txt torch==2.13.0 -e .
	touch $@

$(VENV)/developer: $(VENV)/user
	$(BIN)/pip install -q -c constraints.txt -e '.[dev]'
	touch $@

demo: $(VENV)/user
	$(BIN)/regard demo

test: $(VENV)/developer
	$(BIN)/python -m pytest -q -n 2 --dist worksteal

check: $(VENV)/developer
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .
	$(BIN)/mypy
	$(BIN)/lint-imports
	$(BIN)/python -m pytest -q tests/house

bench: $(VENV)/developer
	$(BIN)/python benchmarks/encode.py
	$(BIN)/python benchmarks/finetune.py
	$(BIN)/python benchmarks/pretrain.py
	$(BIN)/python benchmarks/heads.py
	$(BIN)/python benchmarks/masking.py
	$(BIN)/python benchmarks/tokens.py
	$(BIN)/python benchmarks/guesses.py

format: $(VENV)/developer
	$(BIN)/ruff check --fix -q .
	$(BIN)/ruff format -q .

clean:
	rm -rf $(VENV) runs .cache
