#!/usr/bin/env bash
# On a machine with an NVIDIA GPU, in the folder that `make gpu-check` filled: runs the CUDA tests and the
# benchmarks, and writes gpu.md (or the file that is given).
#   LIBTORCH=FOLDER   the torch package whose libraries are used (default: that of PYTHON)
#   PYTHON=COMMAND    a Python with PyTorch, for its side of the benchmarks (default: python3)
set -euo pipefail
page=$(realpath "${1:-gpu.md}")
cd "$(dirname "$0")"
python=${PYTHON:-python3}
version=$(cat torch-version)

torch=${LIBTORCH:-$("$python" -c 'import os, torch; print(os.path.dirname(torch.__file__))' || true)}
if [ ! -f "$torch/lib/libtorch_cpu.so" ]; then
  echo "gpu-check: set LIBTORCH to the folder of an installed torch $version, or PYTHON to a Python that has it" >&2
  exit 1
fi
found=$(sed -nE "s/^__version__ = '([0-9.]+).*/\1/p" "$torch/version.py" 2> /dev/null || true)
if [ -n "$found" ] && [ "$found" != "$version" ]; then
  echo "gpu-check: '$torch' is torch $found, the bundle was built for $version" >&2
  exit 1
fi
export LD_LIBRARY_PATH="$torch/lib${LD_LIBRARY_PATH:+:$LD_LIBRARY_PATH}"

# In f32 throughout: PyTorch's default has convolutions in TF32, which has 3 digits.
export NVIDIA_TF32_OVERRIDE=0
./unit-tests --ignored --nocapture --test-threads 1 a_gpu_
./cuda-tests --ignored --nocapture --test-threads 1 cuda::
unset NVIDIA_TF32_OVERRIDE
./gpu > figures
"$python" gpu.py >> figures || echo "gpu-check: PyTorch was not timed" >&2
if ! grep -q '"what"' figures; then
  echo "gpu-check: there is no GPU here, no page was written"
  exit 0
fi
"$python" gpu.py --report "$page" < figures
cat "$page"
