# Everything that a newcomer or CI runs. Python environments are made once, in the user's cache
# folder (tools/environment.sh).

CARGO ?= cargo
ENVIRONMENT = tools/environment.sh
DEMO_DIR ?= build/demo
FUZZ_SECONDS ?= 60
PYTEST_ARGS ?=
# Installs the package into an environment for its tests, of the crates that `cargo test` builds, too:
# assertions and overflows are checked, and little is compiled twice.
install = VIRTUAL_ENV="$(1)" "$(1)"/bin/maturin develop --locked --manifest-path python/Cargo.toml
# How `make wheel` builds; on Linux for glibc 2.17 and newer.
WHEEL_ARGS ?= $(if $(filter Linux,$(shell uname)),--zig --compatibility manylinux2014)
# The campaigns of `make trust`: their length, the seed that repeats them, and other options.
TRUST_SECONDS ?= 3600
TRUST_SEED ?= $(shell date +%s)
TRUST_ARGS ?=
# Checks of cargo-deny. The advisories need a network: make deny DENY="bans licenses sources".
DENY ?= advisories bans licenses sources
# The release that `make semver` compares with.
BASELINE ?= $(shell git describe --tags --abbrev=0 --match 'v*' 2>/dev/null)

.PHONY: help demo test test-rust test-python test-trust trust test-readers test-torch \
	test-nnunet test-cluster models check-aarch64 lint format develop bench bench-rust fuzz asan \
	valgrind wheel man site docs package deny semver clean

help:            ## List the targets.
	@awk -F ':.*## ' '/^[a-z-]+:.*## / { printf "  %-13s %s\n", $$1, $$2 }' $(MAKEFILE_LIST)

demo:            ## Every step once, on a real image, with measurements and a picture.
	$(CARGO) build --release --locked --package voxquarry-cli
	"$$($(ENVIRONMENT) demo python/requirements/demo.txt)"/bin/python tools/demo.py \
		--voxquarry "$(or $(CARGO_TARGET_DIR),target)/release/voxquarry" --dir $(DEMO_DIR)

test: test-rust models test-python test-trust ## Every test except those that need torch.

test-rust:       ## Rust tests, doc tests and tidy.
	$(CARGO) test --locked

models:          ## The worker pool, the ring of batches and the caches in every order of threads.
	$(CARGO) test --locked --package voxquarry --lib --features model model::

test-python:     ## Python tests, with other projects' readers as oracles.
	environment="$$($(ENVIRONMENT) test python/requirements/test.txt)" && \
	$(call install,$$environment) && \
	"$$environment"/bin/python -m pytest python/tests $(PYTEST_ARGS) && \
	"$$environment"/bin/python -m pytest format-spec

# On Linux only: other systems cannot inject faults into system calls.
test-trust:      ## A few minutes of `make trust`, always the same cases.
	if [ "$$(uname)" = Linux ]; then \
		$(MAKE) trust TRUST_SECONDS=100 TRUST_SEED=1; \
	else \
		echo "NOT TRIED: make trust needs Linux"; \
	fi

trust:           ## Damage, kill, fool and starve it for an hour; needs strace.
	@strace -V >/dev/null || { echo "make trust needs strace: install the package strace" >&2; \
		exit 1; }
	$(CARGO) build --locked --package voxquarry-cli --package voxquarry-trust
	"$(or $(CARGO_TARGET_DIR),target)/debug/voxquarry-trust" --seconds $(TRUST_SECONDS) \
		--seed $(TRUST_SEED) $(TRUST_ARGS)

test-readers:    ## Arrays of dask, xarray, SimpleITK; napari and bioio as readers (1 GB).
	environment="$$($(ENVIRONMENT) readers python/requirements/readers.txt)" && \
	$(call install,$$environment) && \
	"$$environment"/bin/python -m pytest python/tests_readers

test-torch:      ## Tests with torch, TorchIO and MONAI; installs them once (several GB).
	environment="$$($(ENVIRONMENT) torch python/requirements/torch.txt)" && \
	$(call install,$$environment) && \
	"$$environment"/bin/python -m pytest python/tests_torch && \
	oldest="$$($(ENVIRONMENT) torch-oldest python/requirements/torch-oldest.txt "$$environment")" && \
	"$$oldest"/bin/python -m pytest python/tests_torch -k "monai or torchio" && \
	second="$$($(ENVIRONMENT) torchio2 python/requirements/torchio2.txt "$$environment")" && \
	"$$second"/bin/python -m pytest python/tests_torchio2

test-nnunet:     ## nnU-Net's commands on a toy data set in a store; installs it once.
	base="$$($(ENVIRONMENT) torch python/requirements/torch.txt)" && \
	environment="$$($(ENVIRONMENT) nnunet python/requirements/nnunet.txt "$$base")" && \
	$(call install,$$base) && \
	"$$environment"/bin/python -m pytest python/tests_nnunet

# In an environment of its own; SLURM itself comes from the system's packages.
test-cluster:    ## Job arrays of a real SLURM on this machine, killed and queued again.
	@PATH="$$PATH:/usr/sbin"; command -v slurmctld >/dev/null && command -v munged >/dev/null || \
		{ echo "make test-cluster needs SLURM: as root, apt-get install slurm-wlm munge" >&2; \
		exit 1; }
	environment="$$($(ENVIRONMENT) cluster python/requirements/cluster.txt)" && \
	$(call install,$$environment) && \
	"$$environment"/bin/python -m pytest python/tests_cluster

check-aarch64:   ## Compile for aarch64, run the decoder in an emulator; says what to install.
	CARGO="$(CARGO)" tools/check_aarch64.sh

lint:            ## Check formatting and lints of all Rust and Python code.
	$(CARGO) fmt --all -- --check
	$(CARGO) clippy --locked --workspace --all-targets -- --deny warnings
	$(CARGO) clippy --locked --package voxquarry --no-default-features -- --deny warnings
	environment="$$($(ENVIRONMENT) lint python/requirements/lint.txt)" && \
	"$$environment"/bin/ruff format --check && \
	"$$environment"/bin/ruff check

format:          ## Format the Rust and Python code.
	$(CARGO) fmt --all
	environment="$$($(ENVIRONMENT) lint python/requirements/lint.txt)" && \
	"$$environment"/bin/ruff check --fix && \
	"$$environment"/bin/ruff format

develop:         ## Install the Python package and the command into the active environment.
	python3 -m pip install --quiet 'maturin>=1.9,<2'
	cd python && maturin develop --release --locked
	$(CARGO) install --locked --path tools/cli

bench:           ## Compare with other systems; takes hours, writes benches/results/.
	environment="$$($(ENVIRONMENT) bench benches/compare/requirements.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m benches.compare $(BENCH_ARGS)
	environment="$$($(ENVIRONMENT) torch python/requirements/torch.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m benches.training $(TRAINING_ARGS) && \
	"$$environment"/bin/python -m benches.augment $(AUGMENT_ARGS) && \
	"$$environment"/bin/python -m benches.gpu $(GPU_ARGS)
	environment="$$($(ENVIRONMENT) test python/requirements/test.txt)" && \
	VIRTUAL_ENV="$$environment" "$$environment"/bin/maturin develop --release --locked \
		--manifest-path python/Cargo.toml && \
	"$$environment"/bin/python -m benches.formats && \
	"$$environment"/bin/python -m benches.remote

bench-rust:      ## Criterion benchmarks of the codec and of reading.
	$(CARGO) bench --locked --package voxquarry

fuzz:            ## Run each fuzz target for FUZZ_SECONDS; needs a C++ compiler.
	python3 tools/fuzz.py --seconds $(FUZZ_SECONDS)

asan:            ## The tests of unsafe code under AddressSanitizer.
	CARGO="$(CARGO)" tools/memory_checks.sh asan

valgrind:        ## The tests of unsafe code under valgrind, which has to be installed.
	CARGO="$(CARGO)" tools/memory_checks.sh valgrind

# zig links against an old glibc, so that wheels built here run on any Linux since 2014.
wheel:           ## A wheel and a source archive in dist/, tried in an empty environment.
	environment="$$($(ENVIRONMENT) wheel python/requirements/wheel.txt)" && \
	PATH="$$environment/bin:$$PATH" && \
	rm -rf build/wheel && \
	maturin build --release --locked --strip --manifest-path python/Cargo.toml \
		--out build/wheel $(WHEEL_ARGS) && \
	{ [ "$$(uname)" != Linux ] || auditwheel show build/wheel/*.whl; } && \
	maturin sdist --manifest-path python/Cargo.toml --out build/wheel && \
	python3 -m venv --clear build/try && \
	build/try/bin/python -m pip install --quiet --disable-pip-version-check \
		build/wheel/*.whl && \
	build/try/bin/python .github/try_wheel.py && \
	mkdir -p dist && mv build/wheel/* dist/

man:             ## The manual pages of the command, in build/man/man1.
	$(CARGO) run --locked --package voxquarry-cli -- man build/man/man1

# Runs the tutorials; nothing of it is loaded from elsewhere.
site:            ## The documentation as pages, in build/site/html; links are checked.
	base="$$($(ENVIRONMENT) torch python/requirements/torch.txt)" && \
	environment="$$($(ENVIRONMENT) site python/requirements/site.txt "$$base")" && \
	$(call install,$$base) && \
	"$$environment"/bin/python tools/site/build.py

docs:            ## Build the Rust documentation; warnings are errors.
	RUSTDOCFLAGS='--deny warnings' $(CARGO) doc --locked --no-deps

package:         ## Package the crates and build each from its archive.
	$(CARGO) package --locked --workspace --exclude voxquarry-python --exclude voxquarry-trust \
		--exclude voxquarry-fuzz

deny:            ## Check licences, sources and advisories of dependencies.
	cargo deny --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-deny
	$(CARGO) deny --locked --workspace check $(DENY)

semver:          ## Check the public Rust API against the last release.
	@test -n "$(BASELINE)" || { echo "no tag v*: give BASELINE=REVISION" >&2; exit 1; }
	cargo semver-checks --version >/dev/null 2>&1 || $(CARGO) install --locked cargo-semver-checks
	$(CARGO) semver-checks --package voxquarry --package voxquarry-ingest --baseline-rev $(BASELINE)

clean:           ## Remove build results; Python environments stay in the cache folder.
	rm -rf target build
