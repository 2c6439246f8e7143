#!/usr/bin/env bash
# Runs the unit tests that reach no foreign function under Miri, which checks each use of a pointer: the C ABI's
# handles, arrays, structs and texts, and the modules in safe code that they are made of.
#   scripts/miri.sh [FILTER...]
# Needs `rustup toolchain install nightly --component miri,rust-src`. libtorch itself is not run: its
# bindings are built without it, and a test that called them would end the run.
set -euo pipefail
cd "$(dirname "$0")/.."

# Modules whose tests call nothing of libtorch and are not only arithmetic over many values. Not capi::boundary:
# a panic's payload is leaked there on purpose, and rayon's queues break the rules that Miri tries out.
tests=("$@")
[ ${#tests[@]} -gt 0 ] || tests=(array:: capi::tests)

cargo +nightly miri --version > /dev/null 2>&1 || {
  echo "miri: SKIPPED: it is not installed: rustup toolchain install nightly --component miri,rust-src" >&2
  exit 0
}
export PROPTEST_CASES=${PROPTEST_CASES:-4} PROPTEST_DISABLE_FAILURE_PERSISTENCE=true
# Files are read and written in temporary folders; a handle is a number that was cast to a pointer.
export MIRIFLAGS="-Zmiri-disable-isolation -Zmiri-permissive-provenance -Zmiri-deterministic-floats"
cargo +nightly miri test --lib --no-default-features --features tch/doc-only -- "${tests[@]}" | tee target/miri.log
echo "miri: $(sed -nE 's/^test result: ok. ([0-9]+) passed.*/\1/p' target/miri.log) tests"
