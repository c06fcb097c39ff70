# Every target creates .venv and installs what it needs.
PYTHON ?= python3
BIN := .venv/bin
# More threads than free cores slow a tiny model down by a multiple.
RUN := OMP_NUM_THREADS=2 HF_HUB_OFFLINE=1 $(BIN)/accelerate launch --quiet --config_file accelerate_configs/cpu.yaml

.PHONY: demo test slow_test quality

demo: .venv/installed
	rm -rf outputs/demo
	$(RUN) scripts/encode.py --config recipes/tiny/encode.yaml
	$(RUN) scripts/sft.py --config recipes/tiny/voice_lora.yaml
	$(RUN) scripts/generate.py --config recipes/tiny/generate.yaml
	$(RUN) scripts/evaluate.py --config recipes/tiny/evaluate.yaml

# Bytecode on disk: otherwise each of the many test processes compiles the package again.
test: .venv/installed
	PYTHONDONTWRITEBYTECODE= OMP_NUM_THREADS=1 $(BIN)/python -m pytest --numprocesses 2 --dist loadfile --no-loadscope-reorder

slow_test: .venv/installed
	$(BIN)/pip install --quiet --editable ".[qlora,torchao]"
	OMP_NUM_THREADS=1 $(BIN)/python -m pytest -m slow

quality: .venv/installed
	$(BIN)/ruff check .
	$(BIN)/ruff format --check .

.venv/installed: setup.cfg pyproject.toml
	$(PYTHON) -m venv .venv
	$(BIN)/pip install --quiet --editable ".[scripts,evaluate,raw,av,small,zh,judge,text,dev]"
	$(BIN)/pip install --quiet --no-deps Resemblyzer==0.1.4
	touch $@
