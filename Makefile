# Everything a newcomer or CI runs. Environments are made once, under the user's cache folder (tools/environment.sh).

CARGO ?= cargo
ENVIRONMENT = tools/environment.sh
DEMO_DIR ?= build/demo
FUZZ_SECONDS ?= 60

.PHONY: help demo test test-rust test-python test-torch lint format develop bench bench-rust fuzz docs clean

help:            ## Say what there is.
	@grep -E '^[a-z-]+: .*##' $(MAKEFILE_LIST) | sed -E 's/^([a-z-]+):.*## /  \1\t/' | expand -t 16

demo:            ## The whole way once, on a real image, with figures and a picture.
	$(CARGO) build --release --locked --package voxquarry-cli
	"$$($(ENVIRONMENT) demo python/requirements/demo.txt)"/bin/python tools/demo.py \
		--voxquarry "$(or $(CARGO_TARGET_DIR),target)/release/voxquarry" --dir $(DEMO_DIR)

test: test-rust test-python ## Every test but those that need torch.

test-rust:       ## Rust tests, doctests and tidy.
	$(CARGO) test --locked

test-python:     ## Python tests, and the readers of other projects.
	environment="$$($(ENVIRONMENT) test python/requirements/test.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m pytest python/tests && \
	"$$environment"/bin/python -m pytest format-spec

test-torch:      ## In torch's loaders, with TorchIO and MONAI as oracles; installs them once (several GB).
	environment="$$($(ENVIRONMENT) torch python/requirements/torch.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m pytest python/tests_torch

lint:            ## Formatting and lints, as CI asks for them.
	$(CARGO) fmt --all -- --check
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	environment="$$($(ENVIRONMENT) lint python/requirements/lint.txt)" && \
	"$$environment"/bin/ruff format --check && \
	"$$environment"/bin/ruff check

format:          ## Format the Rust and Python code.
	$(CARGO) fmt --all
	$(CARGO) fmt --manifest-path fuzz/Cargo.toml
	environment="$$($(ENVIRONMENT) lint python/requirements/lint.txt)" && \
	"$$environment"/bin/ruff check --fix && \
	"$$environment"/bin/ruff format

develop:         ## Install the Python package and the command into the environment that is active.
	python3 -m pip install --quiet 'maturin>=1.9,<2'
	cd python && maturin develop --release --locked
	$(CARGO) install --locked --path tools/cli

bench:           ## Voxquarry beside its peers; takes long, writes benches/results/.
	environment="$$($(ENVIRONMENT) bench benches/compare/requirements.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m benches.compare $(BENCH_ARGS)
	environment="$$($(ENVIRONMENT) torch python/requirements/torch.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m benches.training $(TRAINING_ARGS)

bench-rust:      ## Criterion's measurements of codec and reading.
	$(CARGO) bench --locked --package voxquarry

fuzz:            ## Each fuzz target for FUZZ_SECONDS; installs cargo-fuzz and needs a C++ compiler.
	cargo fuzz --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-fuzz
	for target in hostile_frame roundtrip; do \
		$(CARGO) fuzz run --sanitizer none $$target -- -max_total_time=$(FUZZ_SECONDS) -max_len=65536 || exit 1; \
	done

docs:            ## The Rust documentation.
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --locked --no-deps

clean:           ## Remove what was built; environments stay in the cache folder.
	rm -rf target build
