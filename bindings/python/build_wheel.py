#!/usr/bin/env python3
"""Builds the wheel, of Python files and of the library that `make stage` has put into build/install.

  bindings/python/build_wheel.py FOLDER

It is the build backend (PEP 517) too, so `pip wheel` and `pip install -e` work in a checkout. The library in the wheel
looks for libtorch in the folder of torch beside the package. It needs the C library of the system that it was built on,
so the wheel's platform is that system's, not a manylinux.
"""

import base64
import hashlib
import pathlib
import re
import subprocess
import sys
import sysconfig
import tempfile
import zipfile

try:
    import tomllib
except ImportError:
    sys.exit("the wheel is built with Python 3.11 or newer")

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
PROJECT = tomllib.loads((HERE / "pyproject.toml").read_text())["project"]
INFO = f"{PROJECT['name']}-{PROJECT['version']}.dist-info"
# What build.rs writes into the library: where libtorch is.
RUN_PATH = re.compile(rb"\$ORIGIN/biv/torch/lib:[^\0]*")


def library(path):
    """The bytes of a library without debug information, which looks for libtorch beside the package."""
    with tempfile.TemporaryDirectory() as scratch:
        stripped = pathlib.Path(scratch, path.name)
        subprocess.run(["strip", "-o", stripped, path], check=True)
        content = stripped.read_bytes()
    places = RUN_PATH.findall(content)
    if len(places) != (path.name == "libbiv.so"):
        sys.exit(f"{path} has {len(places)} run paths as build.rs writes them")
    return RUN_PATH.sub(lambda place: b"$ORIGIN/../torch/lib".ljust(len(place[0]), b"\0"), content)


def metadata():
    extras = PROJECT["optional-dependencies"]
    lines = ["Metadata-Version: 2.4", f"Name: {PROJECT['name']}", f"Version: {PROJECT['version']}",
             f"Summary: {PROJECT['description']}", f"License-Expression: {PROJECT['license']}",
             *(f"License-File: {name}" for name in licences()),
             *(f"Classifier: {name}" for name in PROJECT["classifiers"]),
             f"Requires-Python: {PROJECT['requires-python']}",
             *(f"Requires-Dist: {name}" for name in PROJECT["dependencies"])]
    for extra, names in extras.items():
        lines += [f"Provides-Extra: {extra}", *(f'Requires-Dist: {name}; extra == "{extra}"' for name in names)]
    return "\n".join([*lines, "Description-Content-Type: text/markdown", "", (HERE / PROJECT["readme"]).read_text()])


def licences():
    """The licence, and those of the crates in the library, which `make wheel` collects."""
    files = [ROOT / "LICENSE", ROOT / "build/wheel/THIRD-PARTY-LICENSES.txt"]
    return {path.name: path.read_bytes() for path in files if path.exists()}


def write(folder, files):
    """Writes a wheel of `files`, contents by name, and gives its name."""
    tag = f"py3-none-{re.sub('[-.]', '_', sysconfig.get_platform())}"
    files |= {f"{INFO}/licenses/{name}": content for name, content in licences().items()}
    files[f"{INFO}/METADATA"] = metadata().encode()
    files[f"{INFO}/WHEEL"] = f"Wheel-Version: 1.0\nGenerator: build_wheel\nRoot-Is-Purelib: false\nTag: {tag}\n".encode()
    digests = {name: base64.urlsafe_b64encode(hashlib.sha256(content).digest()) for name, content in files.items()}
    record = [f"{name},sha256={digest.rstrip(b'=').decode()},{len(files[name])}" for name, digest in digests.items()]
    files[f"{INFO}/RECORD"] = "\n".join([*record, f"{INFO}/RECORD,,", ""]).encode()
    wheel = f"{PROJECT['name']}-{PROJECT['version']}-{tag}.whl"
    with zipfile.ZipFile(pathlib.Path(folder, wheel), "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in files.items():
            # The same bytes whenever it is made.
            archive.writestr(zipfile.ZipInfo(name), content, zipfile.ZIP_DEFLATED)
    return wheel


def build_wheel(wheel_directory, config_settings=None, metadata_directory=None):
    built = ROOT / "build/install/lib"
    if not (built / "libbiv.so").exists():
        sys.exit(f"there is no {built}/libbiv.so: run make stage")
    names = [name for name in ("libbiv.so", "libbiv_cuda.so") if (built / name).exists()]
    files = {f"biv/{path.name}": path.read_bytes() for path in sorted((HERE / "biv").iterdir())
             if path.suffix in (".py", ".typed")}
    return write(wheel_directory, files | {f"biv/{name}": library(built / name) for name in names})


def build_editable(wheel_directory, config_settings=None, metadata_directory=None):
    return write(wheel_directory, {f"{PROJECT['name']}.pth": f"{HERE}\n".encode()})


def build_sdist(sdist_directory, config_settings=None):
    sys.exit("the library is built from the whole checkout: make a wheel")


if __name__ == "__main__":
    if len(sys.argv) != 2:
        sys.exit(__doc__)
    print(pathlib.Path(sys.argv[1], build_wheel(sys.argv[1])))
