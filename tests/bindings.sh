#!/usr/bin/env bash
# The bindings' own tests, each in its own language, against the installed library;
# then one experiment in all of them, bit for bit. A language that is not installed
# is skipped, saying so.
set -euo pipefail
cd "$(dirname "$0")/.."

export BIV_PREFIX=${BIV_PREFIX:-$PWD/build/install}
export BIV_LIBRARY=$BIV_PREFIX/lib/libbiv.so
if [ -z "${BIV_DATA_DIR:-}" ] && [ -d ../shared/data ]; then
  BIV_DATA_DIR=$(realpath ../shared/data)
  export BIV_DATA_DIR
fi

# readme LANGUAGE: the commands of its README that end in a trained model; `make stage` has been run.
readme() {
  [ "$BIV_PREFIX" = "$PWD/build/install" ] || return 0
  sed -n '/^```sh$/,/^```$/p' "bindings/$1/README.md" | grep -v -e '^```' -e '^make stage$' > build/readme-commands
  bash -e build/readme-commands
}

# program LANGUAGE: the first program of its README.
program() {
  awk -v start="\`\`\`$1" '/^```/ { inside = $0 == start; count += inside; next } inside && count == 1' "bindings/$1/README.md"
}

tests/cpp/run.sh
readme cpp

if command -v julia > /dev/null; then
  julia --startup-file=no --project=bindings/julia bindings/julia/test/runtests.jl
  readme julia
  program julia > build/program.jl
  JULIA_LOAD_PATH=:$PWD/bindings/julia julia --startup-file=no build/program.jl
else
  echo "julia: SKIPPED: it is not installed (scripts/install-julia.sh)"
fi

if command -v octave-cli > /dev/null && command -v mkoctfile > /dev/null; then
  octave-cli --norc --no-history bindings/matlab/tests/run_tests.m
  readme matlab
  program matlab > build/program.m
  (cd bindings/matlab && octave-cli --norc --no-history ../../build/program.m)
  rm bindings/matlab/biv_mex.mex
else
  echo "octave: SKIPPED: octave and octave-dev are not installed"
fi

tests/parity/run.sh
