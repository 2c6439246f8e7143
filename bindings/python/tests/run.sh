#!/usr/bin/env bash
# Builds the wheel, installs it in an environment of its own, without a network, and runs the tests and the example with
# PyTorch there. Torch, NumPy and scikit-learn are those of PYTHON. Where there is no torch of TORCH_VERSION, or python3
# cannot build the wheel, the package is tested in the checkout, with the library in build/install.
set -euo pipefail
cd "$(dirname "$0")/../../.."
python=${PYTHON:-python3}
if [ -z "${BIV_DATA_DIR:-}" ] && [ -d ../shared/data ]; then
  BIV_DATA_DIR=$(realpath ../shared/data)
  export BIV_DATA_DIR
fi
unset PYTHONPATH BIV_LIBRARY

if ! "$python" -c "import numpy" 2> /dev/null; then
  echo "python: SKIPPED the package: NumPy is not installed"
  exit
fi
why=
python3 -c "import tomllib" 2> /dev/null || why="python3 is older than 3.11"
"$python" -c "
from importlib.metadata import version
assert version('torch').split('+')[0] == '$TORCH_VERSION'" 2> /dev/null || why="there is no torch $TORCH_VERSION"
if [ -n "$why" ]; then
  echo "python: SKIPPED the wheel and examples/python: $why"
  PYTHONPATH=$PWD/bindings/python "$python" bindings/python/tests/run.py
  exit
fi

make --no-print-directory -o stage wheel
environment=build/python-test
rm -rf $environment
"$python" -m venv --without-pip $environment
own=$environment/bin/python
# What PYTHON has is there too.
"$python" -c "import site, sys; print('\n'.join(path for path in sys.path if path.endswith('-packages')))" \
  > "$("$own" -c "import sysconfig; print(sysconfig.get_path('purelib'))")/installed.pth"
"$python" -m pip --disable-pip-version-check --python "$own" install --quiet --no-index build/wheel/biv-*.whl
"$own" -c "
import biv, pathlib, subprocess, sys
package = pathlib.Path(biv.__file__).parent
assert package.is_relative_to(sys.prefix), package
run_path = subprocess.run(['readelf', '-d', package / 'libbiv.so'], capture_output=True, text=True, check=True).stdout
assert r'runpath: [\$ORIGIN/../torch/lib]' in run_path, run_path
mapped = {line.split()[-1] for line in open('/proc/self/maps') if 'libbiv' in line or 'libtorch_cpu' in line}
assert len(mapped) == 2 and any('/torch/lib/' in path for path in mapped) and str(package / 'libbiv.so') in mapped, mapped"
"$own" bindings/python/tests/run.py
"$own" examples/python/own_model.py
