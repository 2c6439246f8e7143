#!/usr/bin/env python3
"""Makes sure that the build finds the libtorch it is pinned to.

With LIBTORCH set, checks that folder. Otherwise fills .libtorch/ once from the
pinned PyPI wheels: by default only what linking and running on a CPU needs,
with --cuda everything that training on an NVIDIA GPU needs.
"""

import argparse
import hashlib
import os
import pathlib
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import zipfile

VERSION = "2.11.0"
ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / ".libtorch"

# The wheels a CPU build links and loads: libtorch_cpu.so needs CUDA's runtime
# and profiling libraries to be there even where no GPU is.
CPU_WHEELS = ["torch==" + VERSION, "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
SHA256 = {
    "torch": "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
    "nvidia_cuda_runtime": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia_cuda_cupti": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
}
CPU_LIBRARIES = {
    "torch/lib/libtorch.so", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13",
}
# Wheels for the C library of any system that libtorch itself runs on; pip wants each name spelt out.
PLATFORMS = [f"manylinux_2_{minor}" for minor in range(28, 4, -1)] + ["manylinux2014", "manylinux2010", "manylinux1"]


def fail(message):
    sys.exit("libtorch: " + message)


def installed_version(folder):
    """The version of the libtorch in `folder`: a wheel and a zip each tell it their own way."""
    for name in ("version.py", "build-version"):
        if (folder / name).is_file():
            found = re.search(r"\d+\.\d+\.\d+", (folder / name).read_text())
            if found:
                return found.group()
    return None


def check(folder, hint):
    if not (folder / "lib" / "libtorch_cpu.so").is_file() or not (folder / "include" / "torch").is_dir():
        fail(f"'{folder}' is not a libtorch: lib/libtorch_cpu.so and include/torch must be in it. {hint}")
    version = installed_version(folder)
    if version != VERSION:
        fail(f"'{folder}' holds version {version or 'unknown'}, {VERSION} is needed. {hint}")


def pip():
    """A pip that runs: this Python's own, or that of a fresh virtual environment."""
    own = [sys.executable, "-m", "pip"]
    if subprocess.run(own + ["--version"], capture_output=True).returncode == 0:
        return own
    environment = HOME / "pip"
    if subprocess.run([sys.executable, "-m", "venv", str(environment)], capture_output=True).returncode:
        fail("Python has neither pip nor venv. On Debian and Ubuntu: apt-get install python3-pip")
    return [str(environment / "bin" / "python"), "-m", "pip"]


def wanted(name, cuda):
    """Whether a file of a wheel is one that the build or the library reads."""
    if name.startswith("torch/include/") or name == "torch/version.py":
        return True
    if cuda:
        return bool(re.match(r"(torch|nvidia/[^/]+)/lib/[^/]*\.so", name)) and "libtorch_python" not in name
    return name in CPU_LIBRARIES


def fetch(cuda):
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(f"no wheel is pinned for {platform.system()} {platform.machine()}: "
             f"install libtorch {VERSION} and set LIBTORCH to its folder")
    print(f"libtorch: fetching {VERSION} for {'CPU and CUDA' if cuda else 'CPU'} into .libtorch/", flush=True)
    HOME.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory(dir=HOME) as scratch:
        command = pip() + ["download", "-q", "--disable-pip-version-check", "--only-binary=:all:", "-d", scratch,
                           "--python-version", "3.12", "--implementation", "cp"]
        command += [flag for name in PLATFORMS for flag in ("--platform", name + "_x86_64")]
        command += CPU_WHEELS if cuda else CPU_WHEELS + ["--no-deps"]
        if subprocess.run(command).returncode:
            fail(f"pip could not download torch {VERSION} (its message is above). "
                 f"With no network, set LIBTORCH to the folder of an installed libtorch {VERSION}")
        for name in ("torch", "nvidia"):
            shutil.rmtree(HOME / name, ignore_errors=True)
        for wheel in sorted(pathlib.Path(scratch).glob("*.whl")):
            expected = SHA256.get(wheel.name.split("-")[0])
            if expected:
                digest = hashlib.sha256()
                with open(wheel, "rb") as file:
                    while block := file.read(1 << 22):
                        digest.update(block)
                if digest.hexdigest() != expected:
                    fail(f"{wheel.name} has SHA-256 {digest.hexdigest()}, expected {expected}: it was not unpacked")
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(HOME, [n for n in archive.namelist() if wanted(n, cuda)])
            wheel.unlink()
    (HOME / "complete").write_text("cuda" if cuda else "cpu")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="fetch the CUDA libraries too (2.7 GB)")
    cuda = parser.parse_args().cuda
    if os.environ.get("LIBTORCH"):
        check(pathlib.Path(os.environ["LIBTORCH"]), "Correct LIBTORCH, or unset it to have it fetched")
        return
    stamp = HOME / "complete"
    have = stamp.read_text() if stamp.is_file() else ""
    if installed_version(HOME / "torch") != VERSION or (have != "cuda" if cuda else not have):
        fetch(cuda)
    check(HOME / "torch", "Remove .libtorch and run 'make libtorch' again")


if __name__ == "__main__":
    main()
