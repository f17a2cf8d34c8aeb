#!/bin/sh
# Compiles the library and its tests for aarch64, where a warning is an error, and runs the tests of
# the codec and of the golden stores in an emulator. Installs nothing, but says what is missing.
#
# qemu-user 7.2 (Debian 12) hangs when a program starts a thread. So a library that refuses to start
# threads is preloaded: Rust's test runner then runs tests on the main thread, and on a single CPU a
# store is read without threads.
set -eu
cd "$(dirname "$0")/.."

target=aarch64-unknown-linux-gnu
sysroot=/usr/aarch64-linux-gnu
cargo=${CARGO:-cargo}
out=${CARGO_TARGET_DIR:-$PWD/target}/aarch64

has_std() {
    libdir=$("$1" --print target-libdir --target $target 2>/dev/null) &&
        ls "$libdir"/libstd-*.rlib >/dev/null 2>&1
}

missing=
for command in aarch64-linux-gnu-gcc aarch64-linux-gnu-g++ qemu-aarch64 taskset; do
    command -v $command >/dev/null || missing="$missing $command"
done
# rustup's compiler if it has the target, otherwise Debian's.
for compiler in "${RUSTC:-rustc}" /usr/bin/rustc; do
    if has_std "$compiler"; then
        RUSTC=$compiler
        break
    fi
done
has_std "${RUSTC:-rustc}" || missing="$missing libstd($target)"
if [ -n "$missing" ]; then
    cat >&2 <<END
missing:$missing
Debian:  dpkg --add-architecture arm64 && apt-get update && apt-get install \\
         g++-aarch64-linux-gnu qemu-user rustc-web libstd-rust-web-dev:arm64
rustup:  rustup target add $target, instead of rustc-web and libstd-rust-web-dev:arm64
END
    exit 1
fi

mkdir -p "$out"
echo 'int pthread_create(void) { return 11; /* EAGAIN */ }' |
    aarch64-linux-gnu-gcc -shared -fPIC -x c -o "$out/no_threads.so" -

export RUSTC
export RUSTFLAGS='--deny warnings'
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_LINKER=aarch64-linux-gnu-gcc
export CARGO_TARGET_AARCH64_UNKNOWN_LINUX_GNU_RUNNER="taskset --cpu-list 0 \
qemu-aarch64 -L $sysroot -E LD_PRELOAD=$out/no_threads.so"
set -- --locked --package voxquarry --target $target --target-dir "$out"
"$cargo" check "$@" --lib --tests
"$cargo" test "$@" --lib -- --test-threads=1 codec
# `verify` always starts threads.
"$cargo" test "$@" --test golden -- --test-threads=1 --skip verify --skip chunk_sums
