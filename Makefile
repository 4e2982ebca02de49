# make demo    watch the mesh work, and answer its questions   (YES=1: a scripted approver answers)
# make test    all tests; real Kafka too where Java 17 and Maven are there (MESH_REQUIRE_KAFKA=1: it must be)
# make check   the quick ones: format, lint, types, imports, unit tests with few draws
# make lint    those of them that run no tests: generated files, format, lint, types, imports
# make coverage  the pure core's branches, all of them, by the unit tests alone
# make image-test  build the image and run it against Kafka (root; buildah, podman, runc, mmdebstrap)
# make kafka   a single-node Apache Kafka on localhost:9092, until Ctrl-C
# make bench   workflows a second and latency, next to the bare floor   (BROKER=sqlite|kafka)

PYTHON ?= $(shell command -v python3.11 || echo python3)
BIN := .venv/bin
BROKER ?= sqlite
# Let Python keep what it has compiled, whatever the environment says: tests start hundreds of
# processes, and each would spend half a second of CPU on compiling the mesh again.
export PYTHONDONTWRITEBYTECODE :=

.PHONY: image-test test-simulations test-others test-processes test-units demo test lint check coverage format kafka bench lock clean

demo: .venv/run
	@$(BIN)/mesh demo $(if $(YES),--yes) $(if $(KAFKA),--broker $(KAFKA))

# Two jobs side by side: one keeps a core busy; the other waits for processes and brokers most of
# the time, so three of its files run at once. The unit tests follow as soon as the processes are
# done, on all cores, so that no core idles until the simulations are (UNITS: which of them).
test: .venv/dev
	@$(MAKE) --no-print-directory -j2 test-simulations test-others

test-simulations: .venv/dev
	@$(BIN)/python -m pytest -q -p no:cacheprovider tests/simulation tests/routes tests/scenarios

test-others: .venv/dev
	@$(MAKE) --no-print-directory test-processes
	@$(MAKE) --no-print-directory test-units

test-units: .venv/dev
	@$(BIN)/python -m pytest -q -p no:cacheprovider -n auto --dist worksteal tests/unit $(UNITS)

test-processes: .venv/dev
	@$(BIN)/python -m pytest -q -p no:cacheprovider -n 3 --dist loadfile tests/acceptance tests/contract tests/integration

# The base image is made once and kept in .mesh/images.
image-test: .venv/dev
	@MESH_REQUIRE_IMAGE=1 $(BIN)/python -m pytest -q -p no:cacheprovider tests/image

lint: .venv/dev
	@$(BIN)/python -m docs.stale
	@$(BIN)/ruff format --check .
	@$(BIN)/ruff check .
	@$(BIN)/mypy
	@$(BIN)/lint-imports

check: lint
	@HYPOTHESIS_PROFILE=quick $(BIN)/python -m pytest -q -n auto --dist worksteal tests/unit -m "not slow and not deep"

coverage: .venv/dev
	@$(BIN)/python -m pytest -q -n auto --dist worksteal tests/unit -m "not slow" \
		--cov --cov-branch --cov-fail-under=100 --cov-report=term-missing:skip-covered

format: .venv/dev
	@$(BIN)/ruff format .
	@$(BIN)/ruff check --fix .

kafka: .venv/run
	@$(BIN)/python infra/kafka/kafka.py run --port 9092

bench: .venv/dev
	@$(BIN)/python bench/steps.py --broker $(BROKER)

# The environments. Dependencies come from the lock files alone, each with its hash. The lock is the
# whole closure (--no-deps): otherwise pip would look at newer releases.
.venv/pip:
	@$(PYTHON) -m venv .venv
	@touch $@

.venv/run: .venv/pip requirements.lock requirements-build.lock pyproject.toml
	@echo "installing the mesh into .venv ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps \
		-r requirements-build.lock -r requirements.lock
	@$(BIN)/python -m pip install -q --disable-pip-version-check --no-deps --no-build-isolation -e .
	@touch $@

.venv/dev: .venv/run requirements-dev.lock
	@echo "installing what tests need into .venv ..."
	@$(BIN)/python -m pip install -q --disable-pip-version-check --require-hashes --no-deps -r requirements-dev.lock
	@touch $@

# After a change of dependencies in pyproject.toml: write the lock files again (they name no index).
lock: .venv/dev
	@$(BIN)/python -m pip install -q uv
	@$(BIN)/uv pip compile -q --no-emit-index-url --generate-hashes --universal --python-version 3.11 \
		--group dev pyproject.toml -o requirements-dev.lock
	@$(BIN)/uv pip compile -q --no-emit-index-url --generate-hashes --universal --python-version 3.11 \
		pyproject.toml -c requirements-dev.lock -o requirements.lock

clean:
	rm -rf .venv .mesh .demo
