# make serve     install what is missing into .venv, then run the service until Ctrl-C
# make test      install the test tools and, if there is no Chromium, that (on Debian for the whole
#                system: it says so first), then run the tests (ARGS="-k streaming")
# make test-all  the same with the slow tests
# make test-kernels  run the tests of the native code under sanitizers
# make check     linters, formatters, types, and the tables of the documents
# make train     train musicgen-tiny and musicgen-tiny-melody in build/: hours; a stopped run continues
# make weights MODEL=musicgen-small   download a model ahead of its first request
# make lock      resolve requirements/*.in into *.txt and keep pins that fit (ARGS=--upgrade)
# make clean     remove all of this: .venv, build/, the tools and the caches

# The first of these that is Python 3.10 to 3.12; the preflight names what does not fit.
PYTHON ?= $(shell for python in python3 python3.12 python3.11 python3.10; do \
	$$python -c 'import sys; sys.exit(not (3, 10) <= sys.version_info[:2] <= (3, 12))' 2>/dev/null \
	&& echo $$python && exit; done; echo python3)
PIP := .venv/bin/python -m pip install -qq --no-warn-conflicts
# One resolution for Python 3.10 to 3.12, with one version of each package wherever possible.
LOCK := UV_CUSTOM_COMPILE_COMMAND="make lock" .venv/bin/uv pip compile -q --universal \
	--python-version 3.10 --fork-strategy fewest --no-annotate

KERNELS := kernels/lib/built
WEB_TOOLS := requirements/web/node_modules
BIOME := $(WEB_TOOLS)/.bin/biome

.PHONY: serve test test-all test-kernels check check-web train weights lock clean

serve: .venv/service $(KERNELS)
	@exec .venv/bin/python -m supervisor

test: override ARGS := -m "not slow" $(ARGS)
test-all: $(if $(shell command -v npm),$(WEB_TOOLS)/.package-lock.json)
test test-all: .venv/dev $(KERNELS)
	@.venv/bin/python tests/browser/chromium.py --install
	@.venv/bin/python -m pytest -n 2 --dist loadfile --no-loadscope-reorder $(ARGS)

test-kernels: .venv/dev $(KERNELS)
	@.venv/bin/python -m pytest -q tests/kernels

check: .venv/dev
	.venv/bin/ruff check
	.venv/bin/ruff format --check
	.venv/bin/mypy
	.venv/bin/clang-format --dry-run --Werror kernels/*.h kernels/*.cpp tests/kernels/*.h bench/*.h
	.venv/bin/python -m docs.tables --check
	@if command -v npm >/dev/null; then $(MAKE) --no-print-directory check-web; \
	else echo "web/ is not checked: that needs Node.js with npm"; fi

check-web: $(WEB_TOOLS)/.package-lock.json
	$(BIOME) ci --colors=off --error-on-warnings --config-path=requirements/web web

$(WEB_TOOLS)/.package-lock.json: requirements/web/package-lock.json
	@echo "Installing the tools that need Node.js into $(WEB_TOOLS)"
	@npm ci --prefix requirements/web --loglevel=error --no-audit --no-fund --no-update-notifier
	@touch $@

# The service works without it: backend_loader says so. The next make tries again.
$(KERNELS): .venv/service kernels/*.cpp kernels/*.h kernels/*.py requirements/compiler.txt
	@echo "Compiling the native code"
	@.venv/bin/python -m kernels.build && touch $@ || true

train: .venv/service
	@.venv/bin/python -m training build/musicgen-tiny
	@.venv/bin/python -m training.train_melody build/musicgen-tiny-melody \
		--start build/musicgen-tiny/checkpoint

weights: .venv/service
	@.venv/bin/python -m musicgen_engine.download $(MODEL)

lock: .venv/dev
	$(LOCK) $(ARGS) requirements/triton.in -o requirements/triton.txt
	$(LOCK) $(ARGS) requirements/gateway.in -o requirements/gateway.txt -c requirements/triton.txt
	$(LOCK) $(ARGS) requirements/dev.in -o requirements/dev.txt -c requirements/triton.txt \
		-c requirements/gateway.txt

clean:
	rm -rf .venv build kernels/lib $(WEB_TOOLS) .hypothesis .mypy_cache .pytest_cache .ruff_cache
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

.venv/dev: .venv/service requirements/dev.txt requirements/dev-no-deps.txt
	@echo "Installing the tools for tests and checks into .venv"
	@$(PIP) -r requirements/dev.txt
	@$(PIP) --no-deps -r requirements/dev-no-deps.txt
	@touch $@
