# make demo   sets everything up and runs the main job: demonstrations → policy → evaluation → served policy
# make test   sets everything up and passes the tests
# make lint   style and import direction
# make libero   LIBERO's environment, .venv-libero: no torch, policies are asked over the network (docs/public_simulators.md)
# make notebooks   runs every notebook in its quick mode
VENV ?= .venv
PYTHON ?= python3
BIN := $(VENV)/bin
export TOKENIZERS_PARALLELISM ?= false

.PHONY: demo test lint notebooks libero setup clean

demo: setup
	$(BIN)/vla demo --run runs/demo

# Two processes side by side, one thread each.
test: export OMP_NUM_THREADS ?= 1
test: setup
	$(BIN)/python -m pytest -n 2 --dist loadfile

lint: setup
	$(BIN)/ruff check .
	$(BIN)/lint-imports
	$(BIN)/python -m vla.results --check
	$(BIN)/python -m vla.claims --check

notebooks: setup
	$(BIN)/python notebooks/run.py --quick

libero: .venv-libero/.ready

.venv-libero/.ready: pyproject.toml
	$(PYTHON) -m venv .venv-libero
	.venv-libero/bin/pip install -q -e '.[libero]' 'pytest>=8' 'hypothesis>=6'
	touch $@

setup: $(VENV)/.ready

$(VENV)/.ready: pyproject.toml .ci/setup.sh
	PYTHON=$(PYTHON) bash .ci/setup.sh $(VENV)

clean:
	rm -rf $(VENV) runs build *.egg-info
