#!/usr/bin/env bash
# A package outside this one, made of the blocks of docs/rust.md, uses the crate and trains. It shares the dependencies that
# this one has built, so it is built with the same profile.
set -euo pipefail
cd "$(dirname "$0")/.."
cargo=${CARGO:-cargo}
libtorch=$(realpath "${LIBTORCH:-.libtorch/torch}")

folder=$(mktemp -d)
trap 'rm -rf "$folder"' EXIT
# block LANGUAGE N: the n-th block in that language.
block() {
  awk -v language="$1" -v n="$2" '/^```/ { inside = $0 == "```" language; count += inside; next } inside && count == n' docs/rust.md |
    sed -e "s|/path/to/libbiv/.libtorch/torch|$libtorch|" -e "s|/path/to/libbiv|$PWD|"
}
mkdir "$folder/src" "$folder/.cargo"
block rust 1 > "$folder/src/main.rs"
block rust 2 > "$folder/build.rs"
block toml 2 > "$folder/.cargo/config.toml"
{
  printf '[package]\nname = "first"\nversion = "0.1.0"\nedition = "2024"\n'
  block toml 1
  sed -n '/^\[profile/,/^$/p' Cargo.toml
} > "$folder/Cargo.toml"
cp Cargo.lock "$folder"

target=$PWD/target
(cd "$folder" && env -u LIBTORCH "$cargo" build --quiet --release --target-dir "$target" && env -u LD_LIBRARY_PATH "$target/release/first") |
  tee "$folder/output"
grep -qE 'predicted 1\.(4|5)' "$folder/output"
test -s "$folder/model.biv"
echo "crate: docs/rust.md is right"
