#!/usr/bin/env bash
# Builds libbiv for 64-bit Arm, runs C programs with it under qemu, and compares what one experiment gives there with what
# this machine gives: the loss of 20 steps, the test RMSE and 100 predictions.
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

folder=build/aarch64
rm -rf "$folder"
mkdir -p "$folder"
cp target/$target/release/libbiv.so "$folder"
ln -s libbiv.so "$folder/$(readelf -d "$folder/libbiv.so" | sed -nE 's/.*soname: \[(.*)\]/\1/p')"
flags=(-std=c11 -O1 -g -D_GNU_SOURCE -Iinclude)
"$compiler" "${flags[@]}" tests/parity/parity.c -o "$folder/parity" -L"$folder" -lbiv \
  -Wl,-rpath,"$PWD/$folder" -Wl,-rpath-link,"$torch/lib:$torch/../nvidia/cu13/lib"
cc "${flags[@]}" tests/parity/parity.c -o "$folder/parity-here" -Lbuild/install/lib -lbiv \
  -Wl,-rpath,"$PWD/build/install/lib"
qemu-aarch64 -L /usr/$machine "$folder/parity" "$folder/there.f64"
"$folder/parity-here" "$folder/here.f64"
python3 - "$folder/here.f64" "$folder/there.f64" << 'END'
import array, sys
here, there = (array.array("d", open(path, "rb").read()) for path in sys.argv[1:])
assert len(here) == len(there) == 121
furthest = max(abs(a - b) / abs(a) for a, b in zip(here, there))
print(f"aarch64: RMSE {there[20]:.12g}, here {here[20]:.12g}; 121 values within {furthest:.1e}")
assert abs(here[20] - there[20]) <= 1e-9 * here[20], "the RMSE differs"
END
