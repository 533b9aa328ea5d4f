# make serve   installs what is missing into .venv, then runs the service until Ctrl-C
# make test    the same, with test tools and a browser, then runs the tests (ARGS="-k streaming")
# make check   linter, formatter and type checker
# make train   makes musicgen-tiny from nothing, in build/musicgen-tiny: hours; goes on if stopped
# make weights MODEL=musicgen-small   downloads a model before anybody asks for it
# make lock    resolves requirements/*.in into *.txt, keeping pins that still fit (ARGS=--upgrade)
# make clean   removes .venv and caches

# The first of these that is Python 3.10 to 3.12; what does not fit is named by the preflight.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$python && exit; done; echo python3)
PIP := .venv/bin/python -m pip install -qq --no-warn-conflicts
# One resolution for Python 3.10 to 3.12, with one version of each package wherever possible.
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile -q --universal \
	--python-version 3.10 --fork-strategy fewest --no-annotate

.PHONY: serve test check train weights lock clean

serve: .venv/service
	@exec .venv/bin/python -m supervisor

test: .venv/dev
	@.venv/bin/python tests/browser/chromium.py --install
	@.venv/bin/python -m pytest -n 2 --dist loadgroup $(ARGS)

check: .venv/dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy

train: .venv/service
	@.venv/bin/python -m training build/musicgen-tiny

weights: .venv/service
	@.venv/bin/python -m musicgen_engine.download $(MODEL)

lock: .venv/dev
	$(LOCK) $(ARGS) requirements/triton.in -o requirements/triton.txt
	$(LOCK) $(ARGS) requirements/gateway.in -o requirements/gateway.txt -c requirements/triton.txt
	$(LOCK) $(ARGS) requirements/dev.in -o requirements/dev.txt -c requirements/triton.txt \
		-c requirements/gateway.txt

clean:
	rm -rf .venv .mypy_cache .pytest_cache .ruff_cache
	find . -name __pycache__ -prune -exec rm -r {} +

.venv/service: requirements/triton.txt requirements/gateway.txt requirements/no-deps.txt requirements/server.txt
	@$(PYTHON) supervisor/preflight.py
	@echo "Installing into .venv, once; it takes some minutes"
	@$(PYTHON) -m venv --clear .venv
	@echo "  1 of 2: torch and what audiocraft and the gateway need (with CUDA a download of 3 GB)"
	@$(PIP) -r requirements/triton.txt -r requirements/gateway.txt
	@echo "  2 of 2: audiocraft and Triton"
	@$(PIP) --no-deps -r requirements/no-deps.txt -r requirements/server.txt
	@touch $@

.venv/dev: .venv/service requirements/dev.txt
	@echo "Installing the tools for tests and checks into .venv"
	@$(PIP) -r requirements/dev.txt
	@touch $@
