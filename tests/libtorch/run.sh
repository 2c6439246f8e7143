#!/usr/bin/env bash
# A host that uses libtorch beside the library in BIV_PREFIX: its own tensors are where they would be without us.
set -euo pipefail
cd "$(dirname "$0")/../.."
prefix=$(realpath "${BIV_PREFIX:-build/install}")
torch=$(realpath "${LIBTORCH:-.libtorch/torch}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT

"${CXX:-g++}" -std=c++17 -O1 -g -Wall -Wextra -Werror "${@}" -isystem "$torch/include" -I"$prefix/include" \
  tests/libtorch/allocator.cpp src/shim/pool.cpp -o "$work/allocator" \
  -L"$prefix/lib" -L"$torch/lib" -Wl,-rpath,"$prefix/lib:$torch/lib" -Wl,--allow-shlib-undefined \
  -lbiv -ltorch_cpu -lc10 -pthread
"$work/allocator"
