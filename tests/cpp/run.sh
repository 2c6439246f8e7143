#!/usr/bin/env bash
# Compiles and runs the C++ examples and tests against the library in BIV_PREFIX, with every compiler that there is.
set -euo pipefail
cd "$(dirname "$0")/../.."
prefix=$(realpath "${BIV_PREFIX:-build/install}")
work=$(mktemp -d)
trap 'rm -rf "$work"' EXIT
export TMPDIR=$work

eigen=${EIGEN_INCLUDE:-/usr/include/eigen3}
[ -e "$eigen/Eigen/Dense" ] || eigen=
warnings=(-Wall -Wextra -Wconversion -Wsign-conversion -Werror -pedantic)
# Eigen as a system's header: its warnings are its own.
include=(-Ibindings/cpp -I"$prefix/include" ${eigen:+-isystem "$eigen"} "-DBIV_PROGRAM=\"$prefix/bin/biv\"")
link=(-L"$prefix/lib" "-Wl,-rpath,$prefix/lib" -lbiv -pthread)

# The standard and the options that a source needs beside the others'.
needs() { case $1 in *modern.cpp) echo -std=c++20 ;; *results.cpp) echo -std=c++17 -fno-exceptions ;; *) echo -std=c++17 ;; esac; }

# compile SOURCE PROGRAM [OPTION...]
compile() {
  # shellcheck disable=SC2046
  "${CXX:-g++}" $(needs "$1") -O2 "${warnings[@]}" "${include[@]}" "${@:3}" "$1" -o "$2" "${link[@]}"
}

needs_eigen() { [[ $1 == *eigen* && -z $eigen ]] && echo "skipped: $1: Eigen is not installed (libeigen3-dev)"; }

# The header by itself and twice, and all sources, without a warning.
printf '#include <biv.hpp>\n#include <biv.hpp>\n' > "$work/header.cpp"
for compiler in g++ clang++; do
  command -v $compiler > /dev/null || { echo "skipped: $compiler is not installed"; continue; }
  for source in "$work/header.cpp" bindings/cpp/examples/*.cpp tests/cpp/*.cpp; do
    # shellcheck disable=SC2046
    needs_eigen "$source" || $compiler $(needs "$source") "${warnings[@]}" "${include[@]}" -fsyntax-only "$source"
  done
  for standard in c++20 c++23; do
    echo | $compiler -std=$standard -fsyntax-only -x c++ - 2> /dev/null || { echo "skipped: $compiler has no $standard"; continue; }
    for source in "$work/header.cpp" tests/cpp/{api,modern,eigen}.cpp; do
      needs_eigen "$source" || $compiler -std=$standard "${warnings[@]}" "${include[@]}" -fsyntax-only "$source"
    done
  done
done

sed -n '/^```cpp$/,/^```$/p' bindings/cpp/README.md | grep -v '^```' > "$work/readme.cpp"
for source in "$work/readme.cpp" bindings/cpp/examples/*.cpp; do
  needs_eigen "$source" && continue
  name=$(basename "$source" .cpp)
  echo "== $name"
  compile "$source" "$work/example_$name"
  (cd "$work" && "./example_$name" | cut -c1-200)
done

tests=0
for source in tests/cpp/{api,eigen,modern,results}.cpp; do
  needs_eigen "$source" && continue
  echo "== $source"
  compile "$source" "$work/test" -g
  "$work/test" | tee "$work/log"
  tests=$((tests + $(sed -n 's/^\([0-9]*\) passed, 0 failed$/\1/p' "$work/log")))
done

# The parity program's 121 numbers, twice the same.
compile tests/cpp/parity.cpp "$work/parity"
"$work/parity" "$work/parity.1"
OMP_NUM_THREADS=2 "$work/parity" "$work/parity.2"
cmp "$work/parity.1" "$work/parity.2"
[ "$(stat -c %s "$work/parity.1")" = $((121 * 8)) ]

# Again under the address and undefined-behaviour sanitizers; leaks are those of the header's own objects.
echo "== tests/cpp/api.cpp, sanitized"
sanitize=(-g -O1 -fsanitize=address,undefined -fno-sanitize-recover=all)
echo 'int main() {}' > "$work/empty.cpp"
if compile "$work/empty.cpp" "$work/empty" "${sanitize[@]}" 2> /dev/null && "$work/empty"; then
  compile tests/cpp/api.cpp "$work/sanitized" "${sanitize[@]}"
  "$work/sanitized"
else
  echo "skipped: ${CXX:-g++} has no working sanitizers"
fi

echo "c++17 (${CXX:-g++} $("${CXX:-g++}" -dumpfullversion -dumpversion)): $tests tests"
