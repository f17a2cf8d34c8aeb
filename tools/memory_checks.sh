#!/bin/sh
# Runs the tests of the files that have `unsafe` code (tests/tidy/unsafe_code.rs) under
# AddressSanitizer, ThreadSanitizer or valgrind: tools/memory_checks.sh asan|tsan|valgrind
#
# Sanitizers are an unstable option of the compiler, which the stable toolchain has too.
# ThreadSanitizer also needs the standard library's source, to compile it with the sanitizer.
# Valgrind has no AVX-512, so under it the AVX2 code runs; under the sanitizers, the processor's
# best.
set -eu
cd "$(dirname "$0")/.."

cargo=${CARGO:-cargo}
target=$(rustc -vV | sed -n 's/^host: //p')
out=${CARGO_TARGET_DIR:-$PWD/target}
# Each test of the library that reads, writes, decodes, shares or lends memory.
tests='--test blosc --test golden --test read --test queue --test aggregate --test resample'
export PROPTEST_CASES=${PROPTEST_CASES:-16}

case ${1:-} in
asan)
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=address
    # What belongs to another process is left alone on purpose, which is a leak.
    export ASAN_OPTIONS="${ASAN_OPTIONS:-detect_leaks=0}"
    # shellcheck disable=SC2086
    "$cargo" test --locked --package voxquarry --target "$target" --target-dir "$out/asan" \
        --lib $tests
    ;;
tsan)
    export RUSTC_BOOTSTRAP=1 RUSTFLAGS=-Zsanitizer=thread
    # shellcheck disable=SC2086
    "$cargo" test --locked --package voxquarry --target "$target" --target-dir "$out/tsan" \
        -Zbuild-std --lib $tests
    ;;
valgrind)
    command -v valgrind >/dev/null || {
        echo 'missing: valgrind (Debian: apt-get install valgrind)' >&2
        exit 1
    }
    # Threads take turns fairly: some of ours spin.
    runner='valgrind --quiet --error-exitcode=1 --leak-check=no --fair-sched=yes'
    name=$(echo "$target" | tr 'a-z-' 'A-Z_')
    export "CARGO_TARGET_${name}_RUNNER=$runner"
    "$cargo" test --locked --package voxquarry --lib -- \
        codec:: sys:: array:: queue:: aggregate:: resample::
    "$cargo" test --locked --package voxquarry --test golden --test blosc
    ;;
*)
    echo "usage: $0 asan|tsan|valgrind" >&2
    exit 2
    ;;
esac
