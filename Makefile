# Two commands for a new user: `make demo` and `make test`. Both install into .venv first, once.

PYTHON ?= python3
BIN := .venv/bin
INSTALLED := .venv/.installed

.PHONY: help install demo test test-oldest lint names docs clean

help:
	@echo "make demo   find the IOI circuit of the bundled model, print how good it is, draw it (into runs/demo)"
	@echo "make test   linter, type checker and tests (make test-oldest: families under the oldest transformers)"
	@echo "make docs   the site about it, into site/; a broken link is an error"
	@echo "make names  after a new method, task, format or ablation: what \`edge-pruning list\` shows at once"
	@echo "make clean  remove .venv and caches; runs/ stays"
	@echo "PYTHON=python3.12 make demo   with another Python (3.11 or newer)"

install: $(INSTALLED)

$(INSTALLED): pyproject.toml constraints.txt Makefile
	@$(PYTHON) -c 'import sys; sys.exit(sys.version_info < (3, 11))' || \
	  { echo "edge-pruning needs Python 3.11 or newer, '$(PYTHON)' is older; try: PYTHON=python3.12 make $(MAKECMDGOALS)" >&2; exit 1; }
	$(PYTHON) -m venv .venv
	$(BIN)/python -m pip install --disable-pip-version-check -q -c constraints.txt -e '.[dev]'
	@touch $@

demo: $(INSTALLED)
	$(BIN)/edge-pruning discover ioi --out runs/demo --overwrite

lint: $(INSTALLED)
	$(BIN)/ruff check .
	$(BIN)/mypy

test: lint
	$(BIN)/python -m pytest -n auto --maxprocesses 4

# The oldest transformers that is supported; everything else comes from .venv.
test-oldest: $(INSTALLED)
	$(PYTHON) -m venv .venv-oldest
	$(BIN)/python -c 'import sysconfig; print(sysconfig.get_path("purelib"))' > "$$(echo .venv-oldest/lib/python*/site-packages)/newest.pth"
	.venv-oldest/bin/python -m pip install --disable-pip-version-check -q -c constraints-oldest.txt transformers
	.venv-oldest/bin/python -m pytest tests/models tests/test_models.py tests/test_docs.py

# What `edge-pruning list` shows without importing the library.
names: $(INSTALLED)
	$(BIN)/python scripts/known_names.py

# The site: pages of docs/ and beside it, and the reference from the docstrings.
docs: $(INSTALLED)
	NO_MKDOCS_2_WARNING=1 $(BIN)/python -m mkdocs build --strict
	@echo "open site/index.html"

clean:
	rm -rf .venv .venv-oldest .pytest_cache .ruff_cache .mypy_cache
