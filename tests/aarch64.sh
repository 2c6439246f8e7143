#!/usr/bin/env bash
# Builds libbiv for 64-bit Arm, runs C programs with it under qemu, and compares what they train there with what this machine
# gives: one experiment (the loss of 20 steps, the test RMSE and 100 predictions), and networks with every kind of layer.
set -euo pipefail
cd "$(dirname "$0")/.."

skip() {
  echo "SKIPPED aarch64: $1"
  exit 0
}
machine=aarch64-linux-gnu target=aarch64-unknown-linux-gnu
[ "$(uname -m)" != aarch64 ] || skip "this machine is one"
compiler=$(compgen -c | grep -xE "$machine-gcc(-[0-9]+)?" | sort -V | tail -1) || true
[ -n "$compiler" ] && command -v "${compiler/gcc/g++}" qemu-aarch64 > /dev/null ||
  skip "there is no compiler for it or no emulator (apt-get install g++-12-$machine qemu-user)"
[ -e "$(rustc --print sysroot)/lib/rustlib/$target" ] || skip "rustup target add $target"

python3 scripts/libtorch.py --machine aarch64
torch=$PWD/.libtorch/aarch64/torch
variable=${target//-/_}
env LIBTORCH="$torch" "CARGO_TARGET_${variable^^}_LINKER=$compiler" "CC_$variable=$compiler" \
  "CXX_$variable=${compiler/gcc/g++}" cargo build --release --lib --target "$target"

folder=$PWD/build/aarch64
rm -rf "$folder"
mkdir -p "$folder"
cp target/$target/release/libbiv.so "$folder"
ln -s libbiv.so "$folder/$(readelf -d "$folder/libbiv.so" | sed -nE 's/.*soname: \[(.*)\]/\1/p')"
flags=(-std=c11 -O1 -g -D_GNU_SOURCE -Iinclude -DBIV_HEADER="\"$PWD/include/biv.h\""
  -DBIV_PROGRAM="\"$PWD/build/install/bin/biv\"")
# build SOURCE NAME [FLAG...]: a program for that machine. A library among the flags comes before libbiv.
build() {
  "$compiler" "${flags[@]}" "$1" -o "$folder/$2" -L"$folder" "${@:3}" -lbiv -lm -pthread -Wl,-rpath,"$folder" \
    -Wl,-rpath-link,"$torch/lib:$torch/../nvidia/cu13/lib"
}
# run NAME [ARGUMENT...]. oneDNN says that there is no description of a processor in /sys.
run() {
  local name=$1
  shift
  BIV_TEST_EMULATED=1 BIV_TEST_SMALL=1 timeout 1800 qemu-aarch64 -L /usr/$machine "$folder/$name" "$@" \
    2> "$folder/$name.err" || {
    cat "$folder/$name.err" >&2
    echo "aarch64: $name failed" >&2
    exit 1
  }
}

for name in parity layers; do
  build tests/parity/$name.c $name
  cc "${flags[@]}" tests/parity/$name.c -o "$folder/$name-here" -Lbuild/install/lib -lbiv -Wl,-rpath,"$PWD/build/install/lib"
  run $name "$folder/$name.there"
  "$folder/$name-here" "$folder/$name.here"
done
python3 - "$folder" << 'PY'
import array, sys

def read(name):
    return array.array("d", open(f"{sys.argv[1]}/{name}", "rb").read())

def furthest(name, values):
    return max(abs(a - b) / abs(a) for a, b in zip(read(f"{name}.here")[values], read(f"{name}.there")[values]))

everything, rmse, single, half = slice(None), slice(20, 21), slice(-8), slice(-8, None)
assert len(read("parity.here")) == len(read("parity.there")) == 121
assert len(read("layers.here")) == len(read("layers.there")) == 16 * 8
print(f"aarch64: RMSE {read('parity.there')[20]:.12g}, 121 values within {furthest('parity', everything):.1e} of this machine's")
print(f"aarch64: losses with every layer within {furthest('layers', single):.1e}, in bfloat16 {furthest('layers', half):.1e}")
assert furthest("parity", rmse) <= 1e-9 and furthest("layers", single) <= 1e-5 and furthest("layers", half) <= 5e-3
PY

# A host's BLAS that comes first is not libtorch's.
. tests/clients/description.sh
{
  echo 'double ddot_(const int *n, const double *x, const int *dx, const double *y) { return (void)n, (void)dx, *x * *y; }'
  for name in sgemm_ dgemm_ sgemv_ dgemv_ cblas_sdot dgetrf_; do echo "void $name(void) { __builtin_trap(); }"; done
} > "$folder/blas.c"
"$compiler" -shared -fPIC -fno-builtin "$folder/blas.c" -o "$folder/libhostblas.so"
build tests/clients/client.c client -DHOST_BLAS -lhostblas
run client "$model" "$trainer" info > "$folder/client.out"
grep -qE "$own_blas" "$folder/client.err" || {
  cat "$folder/client.err" >&2
  echo "aarch64: libtorch is bound to another BLAS" >&2
  exit 1
}

for name in api contract dlpack files host log misuse; do
  build tests/c/$name.c $name
  run $name
done
