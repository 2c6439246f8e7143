#!/usr/bin/env bash
# One experiment in every language gives the same bits: 500 noisy training rows,
# 20 steps, the losses, the test RMSE and 100 predictions. Languages that are not
# installed are skipped, saying so.
set -euo pipefail
cd "$(dirname "$0")/../.."

prefix=${BIV_PREFIX:-$PWD/build/install}
folder=build/parity
rm -rf "$folder"
mkdir -p "$folder"
export BIV_LIBRARY=$prefix/lib/libbiv.so
flags=(-I"$prefix/include" -L"$prefix/lib" -Wl,-rpath,"$prefix/lib")

cc -std=c11 -Wall -Wextra -Werror tests/parity/parity.c -o "$folder/c" "${flags[@]}" -lbiv
"$folder/c" "$folder/c.f64"

cargo run --quiet --release --example parity "$folder/rust.f64"

cat > "$folder/run.json" <<'JSON'
{"seed": 7, "epochs": 1, "batch_size": 25, "learning_rate": 0.01,
 "dataset": {"kind": "synthetic", "train_size": 500, "test_size": 100},
 "model": {"kind": "mlp", "hidden": [32, 16]}, "loss": {"kind": "biv", "epsilon": 0.1},
 "noise": {"distribution": {"kind": "gamma", "mean": 20, "variance": 400}}}
JSON
"$prefix/bin/biv" run "$folder/run.json" --out "$folder/run" --threads 1 > /dev/null 2>&1
python3 - "$folder/run" "$folder/cli.f64" <<'PYTHON'
import array, csv, json, sys
run, out = sys.argv[1:]
column = lambda name, field: [float(row[field]) for row in csv.DictReader(open(f"{run}/{name}"))]
values = column("train_losses.csv", "loss") + [json.load(open(f"{run}/result.json"))["last"]["rmse"]]
array.array("d", values + column("test_outs.csv", "prediction")).tofile(open(out, "wb"))
PYTHON

c++ -std=c++17 -Ibindings/cpp tests/cpp/parity.cpp -o "$folder/cpp" "${flags[@]}" -lbiv
"$folder/cpp" "$folder/cpp.f64"

if command -v julia > /dev/null; then
  julia --startup-file=no --project=bindings/julia bindings/julia/test/parity.jl "$folder/julia.f64"
else
  echo "parity: SKIPPED Julia: it is not installed"
fi

if command -v octave-cli > /dev/null && [ -e build/matlab/biv_mex.mex ]; then
  octave-cli --norc --no-history bindings/matlab/tests/parity.m "$folder/octave.f64"
else
  echo "parity: SKIPPED Octave: it is not installed, or the binding was not built"
fi

python=${PYTHON:-python3}
if "$python" -c "import numpy" 2> /dev/null; then
  PYTHONPATH=bindings/python "$python" bindings/python/tests/parity.py "$folder/python.f64"
else
  echo "parity: SKIPPED Python: NumPy is not installed"
fi

languages=()
for file in "$folder"/*.f64; do
  languages+=("$(basename "$file" .f64)")
  [ "$(stat -c %s "$file")" = 968 ] || {
    echo "parity: $file has not the 121 values" >&2
    exit 1
  }
  cmp "$folder/c.f64" "$file" || {
    echo "parity: $(basename "$file" .f64) differs from c" >&2
    exit 1
  }
done
echo "parity: the same 121 values from ${languages[*]}"
