#!/usr/bin/env bash
# A project outside this one uses the installed library as its world does: with
# pkg-config and with CMake, from a tree that was moved, without LD_LIBRARY_PATH;
# and a host's own BLAS stays away from libtorch's. With DIST=FILE, from a tarball.
set -euo pipefail
cd "$(dirname "$0")/.."
unset LD_LIBRARY_PATH

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
checks=0
passed() { checks=$((checks + 1)); }
fail() {
  echo "install: $1" >&2
  exit 1
}

if [ -n "${DIST:-}" ]; then
  tar -C "$folder" -xzf "$DIST"
  mv "$folder"/biv-* "$folder/here"
else
  make --no-print-directory install DESTDIR="$folder/stage" PREFIX=/opt/biv > "$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    fail "make install failed"
  }
  mv "$folder/stage/opt/biv" "$folder/here"
fi
prefix=$folder/here

cat > "$folder/main.c" <<'C'
#include <biv.h>
#include <stdio.h>

extern double ddot_(const int *n, const double *x, const int *dx, const double *y, const int *dy);

int main(void) {
  biv_model *model = NULL;
  if (biv_model_create("{\"kind\": \"mlp\", \"inputs\": 2, \"hidden\": [3]}", &model) != BIV_OK) return 1;
  biv_model_free(model);
#ifdef HOST_BLAS
  const int n = 1, step = 1;
  const double x = 2, y = 3;
  if (ddot_(&n, &x, &step, &y, &step) != 6) return 2;
#endif
  const char *info = NULL;
  if (biv_build_info(&info) != BIV_OK) return 3;
  puts(info);
  return 0;
}
C

cat > "$folder/main.cpp" <<'CPP'
#include <biv.hpp>
#include <iostream>

int main() {
  const biv::Model model({{"kind", "mlp"}, {"inputs", 2}, {"hidden", {3}}});
  std::cout << biv::build_info() << '\n';
  return model.info().parameters == 13 ? 0 : 1;
}
CPP

run() {
  "$1" > "$folder/out" || fail "$1 ended with $?"
  grep -q '"blas":"libtorch_cpu.so"' "$folder/out" || fail "$1: libtorch is bound to another BLAS: $(cat "$folder/out")"
  passed
}

"$prefix/bin/biv" --version > /dev/null || fail "bin/biv does not run"
passed
if [ -n "${DIST:-}" ]; then
  # The list of its parts has every crate that Cargo links, with its licence, and libtorch as it is here.
  cargo tree --locked -e normal --target "$(uname -m)-unknown-linux-gnu" --prefix none --no-dedupe |
    awk '$1 != "biv" { sub("^v", "", $2); print $1, $2 }' | sort -u > "$folder/crates"
  python3 - "$prefix" "$folder/crates" <<'PY' || fail "the list of the tarball's parts"
import hashlib, json, pathlib, sys

prefix = pathlib.Path(sys.argv[1])
crates = pathlib.Path(sys.argv[2]).read_text().splitlines()
torch, *others = json.loads((prefix / "sbom.cdx.json").read_text())["components"]
linked = [part for part in others if part.get("purl", "").startswith("pkg:cargo/") and part["scope"] == "required"]
listed = {f"{part['name']} {part['version']}" for part in linked}
licences = (prefix / "THIRD-PARTY-LICENSES.txt").read_text()
assert len(crates) > 100 and listed == set(crates), listed.symmetric_difference(crates)
assert not [crate for crate in crates if f"\n{crate} (" not in licences]
assert torch["name"] == "libtorch" and torch["version"] and torch["components"], torch
for part in torch["components"]:
    content = (prefix / "lib/biv" / part["name"]).read_bytes()
    assert part["hashes"] == [{"alg": "SHA-256", "content": hashlib.sha256(content).hexdigest()}], part
print(f"install: a list of {len(crates)} crates and libtorch")
PY
  passed
  ldd "$prefix/lib/libbiv.so" | grep libtorch_cpu | grep -q "$prefix" || fail "the tarball's libtorch is not the one in use"
  passed
fi

if command -v pkg-config > /dev/null; then
  export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
  # shellcheck disable=SC2046
  cc "$folder/main.c" $(pkg-config --cflags --libs biv) -o "$folder/plain"
  run "$folder/plain"
  [ "$(pkg-config --modversion biv)" = "$("$prefix/bin/biv" --version | cut -d' ' -f2)" ] || fail "the versions differ"
  passed
  if [ -e /usr/lib/"$(cc -print-multiarch)"/libblas.so ]; then
    # shellcheck disable=SC2046
    cc -DHOST_BLAS "$folder/main.c" $(pkg-config --cflags --libs biv) -lblas -o "$folder/blas"
    run "$folder/blas"
  else
    echo "install: SKIPPED the host's BLAS: there is no libblas.so to link with"
  fi
else
  echo "install: SKIPPED pkg-config: it is not installed"
fi

if command -v cmake > /dev/null; then
  cat > "$folder/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.16)
project(outside C CXX)
find_package(biv 0.1 REQUIRED)
add_executable(outside main.c)
target_link_libraries(outside PRIVATE biv::biv)
add_executable(outside_cpp main.cpp)
target_compile_features(outside_cpp PRIVATE cxx_std_17)
target_link_libraries(outside_cpp PRIVATE biv::biv)
CMAKE
  build() { cmake -S "$folder" -B "$folder/build" -DCMAKE_PREFIX_PATH="$prefix" && cmake --build "$folder/build"; }
  build > "$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    fail "CMake"
  }
  run "$folder/build/outside"
  run "$folder/build/outside_cpp"
  sed -i 's/biv 0.1 REQUIRED/biv 0.2 REQUIRED/' "$folder/CMakeLists.txt"
  ! cmake -S "$folder" -B "$folder/other" -DCMAKE_PREFIX_PATH="$prefix" > "$folder/log" 2>&1 || fail "CMake takes 0.1 for 0.2"
  passed
else
  echo "install: SKIPPED CMake: it is not installed"
fi

# The gateway of MATLAB and Octave, of its folder alone: for the libbiv that pkg-config knows, and for one that is named.
if command -v octave-cli > /dev/null && command -v mkoctfile > /dev/null; then
  cp -r bindings/matlab "$folder/gateway"
  for call in "build" "build('', '$prefix')"; do
    (cd "$folder/gateway" && env -u BIV_LIBRARY octave-cli --norc --no-history \
      --eval "$call; printf('\"blas\":\"%s\"', getfield(biv.buildInfo(), 'blas'))") > "$folder/gateway/output" ||
      fail "the gateway after $call"
    grep -q '"blas":"libtorch_cpu.so"' "$folder/gateway/output" || fail "the gateway after $call"
    rm "$folder/gateway/biv_mex.mex"
    unset PKG_CONFIG_PATH
    passed
  done
else
  echo "install: SKIPPED the gateway: octave and octave-dev are not installed"
fi

echo "install: $checks checks"
