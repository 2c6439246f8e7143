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

cat > "$folder/main.cpp" <<'CPP'
#include <biv.hpp>
#include <cstdio>

int main() {
  std::puts(biv::build_info().c_str());
  const biv::Model model({{"kind", "mlp"}, {"inputs", 2}, {"hidden", {3}}});
  return model.info().parameters == 13 ? 0 : 1;
}
CPP

. tests/clients/description.sh
cp tests/clients/client.c "$folder/main.c"

# run PROGRAM: what tests/clients/client.c trains has the same bits each time, and libtorch calls its own BLAS.
run() {
  "$1" "$model" "$trainer" info > "$folder/out" 2> "$folder/info" || fail "$1 ended with $?: $(cat "$folder/info")"
  grep -qE "$own_blas" "$folder/info" || fail "$1: libtorch is bound to another BLAS: $(cat "$folder/info")"
  [ -e "$folder/first" ] || cp "$folder/out" "$folder/first"
  cmp "$folder/first" "$folder/out" || fail "$1 trains other bits: $(cat "$folder/out")"
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

blas=$(cc -print-file-name=libblas.so)
[ "$blas" != libblas.so ] || {
  blas=
  echo "install: SKIPPED the host's BLAS: there is no libblas.so to link with"
}

if command -v pkg-config > /dev/null; then
  export PKG_CONFIG_PATH=$prefix/lib/pkgconfig
  # shellcheck disable=SC2046
  cc "$folder/main.c" $(pkg-config --cflags --libs biv) -o "$folder/plain"
  run "$folder/plain"
  [ "$(pkg-config --modversion biv)" = "$("$prefix/bin/biv" --version | cut -d' ' -f2)" ] || fail "the versions differ"
  passed
  # shellcheck disable=SC2046
  cc "$folder/main.c" $(pkg-config --cflags biv) $(pkg-config --variable=static biv) -o "$folder/static"
  run "$folder/static"
  if [ -n "$blas" ]; then
    # However the host links its own BLAS, or brings it in.
    # shellcheck disable=SC2046
    cc -DHOST_BLAS "$folder/main.c" -lblas $(pkg-config --cflags --libs biv) -o "$folder/blas-before"
    run "$folder/blas-before"
    # shellcheck disable=SC2046
    cc -DHOST_BLAS "$folder/main.c" $(pkg-config --cflags --libs biv) -lblas -o "$folder/blas-after"
    run "$folder/blas-after"
    # shellcheck disable=SC2046
    cc -DHOST_BLAS "$folder/main.c" -lblas $(pkg-config --cflags biv) $(pkg-config --variable=static biv) \
      -o "$folder/blas-static"
    run "$folder/blas-static"
    LD_PRELOAD=$blas run "$folder/plain"
  fi
  # A host that has every C function which libtorch contains: that of the host is never called once libbiv is loaded.
  {
    echo 'static int armed; __attribute__((constructor)) static void arm(void) { armed = 1; }'
    echo 'long taken(void) { if (armed) __builtin_trap(); return 0; }'
    nm -D --defined-only "$(ldd "$prefix/lib/libbiv.so" | awk '/libtorch_cpu/ { print $3 }')" |
      awk '$2 == "T" && $3 !~ /^_Z/ { print "long " $3 "(void) __attribute__((alias(\"taken\")));" }'
  } > "$folder/traps.c"
  cc -w -fno-builtin -fPIC -shared "$folder/traps.c" -o "$folder/libtraps.so"
  LD_PRELOAD=$folder/libtraps.so run "$folder/plain"
else
  echo "install: SKIPPED pkg-config: it is not installed"
fi

if command -v cmake > /dev/null; then
  cat > "$folder/CMakeLists.txt" <<'CMAKE'
cmake_minimum_required(VERSION 3.16)
project(outside C CXX)
find_package(biv 0.1 REQUIRED)
if(blas)
  add_compile_definitions(HOST_BLAS)
endif()
add_executable(outside main.c)
target_link_libraries(outside PRIVATE biv::biv ${blas})
add_executable(outside_cpp main.cpp)
target_compile_features(outside_cpp PRIVATE cxx_std_17)
target_link_libraries(outside_cpp PRIVATE ${blas} biv::biv)
add_executable(outside_static main.c)
target_link_libraries(outside_static PRIVATE ${blas} biv::static)
find_package(PkgConfig)
if(PKG_CONFIG_FOUND)
  pkg_check_modules(BIV REQUIRED IMPORTED_TARGET biv)
  add_executable(outside_pkg main.c)
  target_link_libraries(outside_pkg PRIVATE ${blas} PkgConfig::BIV)
  install(TARGETS outside_pkg)
endif()
install(TARGETS outside outside_static)
CMAKE
  build() {
    cmake -S "$folder" -B "$folder/build" -DCMAKE_PREFIX_PATH="$prefix" -Dblas="${blas:+blas}" &&
      cmake --build "$folder/build" && cmake --install "$folder/build" --prefix "$folder/installed"
  }
  build > "$folder/log" 2>&1 || {
    cat "$folder/log" >&2
    fail "CMake"
  }
  for program in "$folder"/build/outside "$folder"/installed/bin/*; do
    run "$program"
  done
  "$folder/build/outside_cpp" > "$folder/info" || fail "outside_cpp ended with $?"
  grep -qE "$own_blas" "$folder/info" || fail "outside_cpp: libtorch is bound to another BLAS: $(cat "$folder/info")"
  passed
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
