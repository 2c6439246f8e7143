#!/usr/bin/env bash
# Builds the fuzz targets and runs each for SECONDS (default 15, none for 0) from its committed corpus:
#   scripts/fuzz.sh [SECONDS] [TARGET...]
# Fails on a crash, an answer of the library that it should not give, a hang or a leak of memory.
# The coverage comes from the compiler's own instrumentation, so the stable toolchain does.
set -euo pipefail
cd "$(dirname "$0")/../fuzz"

seconds=${1:-15}
shift || true
targets=("$@")
[ ${#targets[@]} -gt 0 ] || targets=(options settings networks csv image checkpoint import calls dlpack)

export LIBTORCH=${LIBTORCH:-$(cd .. && pwd)/.libtorch/torch}
export RUSTFLAGS="--cfg fuzzing -C passes=sancov-module -C codegen-units=1 \
  -C llvm-args=-sanitizer-coverage-level=4 -C llvm-args=-sanitizer-coverage-inline-8bit-counters \
  -C llvm-args=-sanitizer-coverage-pc-table -C llvm-args=-sanitizer-coverage-trace-compares \
  -C link-arg=-Wl,-rpath,$(realpath "$LIBTORCH")/lib"
# A target of its own keeps the flags off the build scripts, which run at once.
host=$(rustc -vV | sed -n 's/^host: //p')
cargo build --release --locked --target "$host"
[ "$seconds" != 0 ] || exit 0

for target in "${targets[@]}"; do
  mkdir -p "corpus/$target" "found/$target" "grown/$target"
  log=grown/$target.log
  echo "fuzz: $target for $seconds s"
  OMP_NUM_THREADS=1 "target/$host/release/$target" "grown/$target" "corpus/$target" \
    -max_total_time="$seconds" -timeout=30 -rss_limit_mb=4096 -max_len=4096 -print_final_stats=1 \
    -artifact_prefix="found/$target/" > "$log" 2>&1 || {
    tail -30 "$log"
    echo "fuzz: $target failed, the input is in fuzz/found/$target" >&2
    exit 1
  }
  grep -E "DONE" "$log" | tail -1 | sed 's/^/  /'
  sed -n 's/^stat::number_of_executed_units: */  executions: /p' "$log"
done
