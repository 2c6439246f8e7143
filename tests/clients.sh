#!/usr/bin/env bash
# Programs in other languages, which use the installed library as their users would, train the same model as
# tests/clients/client.c and print the same RMSE. What is not installed is skipped, saying so. Their tools are in Debian
# (luajit golang-go r-base-core gfortran swig mono-mcs mono-runtime meson), from pip (cffi ziglang, into PYTHON's
# environment) and from npm (koffi, found by NODE_PATH).
set -euo pipefail
cd "$(dirname "$0")/.."
unset LD_LIBRARY_PATH

export BIV_PREFIX=${BIV_PREFIX:-$PWD/build/install}
export PKG_CONFIG_PATH=$BIV_PREFIX/lib/pkgconfig
python=${PYTHON:-python3}
source=$PWD/tests/clients
. "$source/description.sh"
folder=$PWD/build/clients
rm -rf "$folder"
mkdir -p "$folder"
cd "$folder"
trained=()

# has NAME COMMAND...: whether the command succeeds; else NAME is skipped.
has() {
  "${@:2}" > log 2>&1 && return
  echo "clients: SKIPPED $1: it is not installed"
  return 1
}

# build COMMAND...: shows what it says only if it fails.
build() {
  "$@" > log 2>&1 || {
    cat log >&2
    echo "clients: failed: $*" >&2
    exit 1
  }
}

# same NAME COMMAND...: the command, given the model and the trainer, prints the C program's RMSE.
same() {
  local rmse
  rmse=$("${@:2}" "$model" "$trainer") || {
    echo "clients: $1 ended with $?" >&2
    exit 1
  }
  [ ${#trained[@]} -gt 0 ] || expected=$rmse
  # The same number, however many zeros it ends in.
  python3 -c 'import sys; a, b = sys.argv[1:]; sys.exit(float(a) != float(b) or len(b) < 17)' "$expected" "$rmse" || {
    echo "clients: the RMSE of $1 is $rmse, that of C $expected" >&2
    exit 1
  }
  trained+=("$1")
}

# shellcheck disable=SC2046
build cc -std=c90 -Wall -Wextra -Werror -pedantic "$source/client.c" $(pkg-config --cflags --libs biv) -o c
same C ./c

if has Fortran gfortran --version; then
  # shellcheck disable=SC2046
  build gfortran -Wall -Werror "$source/client.f90" $(pkg-config --libs biv) -o fortran
  same Fortran ./fortran
fi

has cffi "$python" -c 'import cffi' && same cffi "$python" "$source/client_cffi.py"

has LuaJIT luajit -v && same LuaJIT luajit "$source/client.lua"

if has SWIG swig -version && has "SWIG: Python.h" test -e "$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')/Python.h"; then
  build swig -python -DSWIGWORDSIZE64 -I"$BIV_PREFIX/include" -o swig.c "$source/client.i"
  # shellcheck disable=SC2046
  build cc -shared -fPIC -I"$(python3 -c 'import sysconfig; print(sysconfig.get_path("include"))')" swig.c \
    $(pkg-config --cflags --libs biv) -o _client_swig_biv.so
  PYTHONPATH=. same SWIG python3 "$source/client_swig.py"
fi

if has R R --version; then
  cp "$source/r_shim.c" .
  PKG_CFLAGS=$(pkg-config --cflags biv) PKG_LIBS=$(pkg-config --libs biv) build R CMD SHLIB r_shim.c
  r() { Rscript "$source/client.R" "$@" ./r_shim.so; }
  same R r
fi

if has Go go version; then
  build env CGO_ENABLED=1 go build -o go "$source/client.go"
  same Go ./go
fi

if has Mono mcs --version; then
  build mcs -out:client.exe "$source/client.cs"
  mono_client() { LD_LIBRARY_PATH=$BIV_PREFIX/lib mono client.exe "$@"; }
  same Mono mono_client
fi

if has koffi node -e 'require("koffi")'; then
  same koffi node "$source/client.js"
fi

if has Zig "$python" -m ziglang version; then
  "$python" -m ziglang translate-c -lc "$BIV_PREFIX/include/biv.h" > biv.zig
  cp "$source/client.zig" .
  build "$python" -m ziglang build-exe client.zig -lc -L"$BIV_PREFIX/lib" -rpath "$BIV_PREFIX/lib" -lbiv --name zig
  same Zig ./zig
fi

if has Meson meson --version; then
  build meson setup --prefix "$folder/installed" meson "$source"
  build meson install -C meson
  same Meson meson/client
  same 'Meson, installed' installed/bin/client
fi

if has Cargo cargo fetch --locked --manifest-path "$source/cargo/Cargo.toml"; then
  build cargo build --locked --target-dir cargo --manifest-path "$source/cargo/Cargo.toml"
  same Cargo cargo/debug/client
fi

echo "clients: $expected from each of ${trained[*]}"
