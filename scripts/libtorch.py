#!/usr/bin/env python3
"""Makes sure that the build finds the libtorch it is pinned to.

With LIBTORCH set, checks that folder. Otherwise fills .libtorch/ once from the
pinned PyPI wheels: by default only what linking and running on a CPU needs,
with --cuda everything that training on an NVIDIA GPU needs. --cuda-headers FOLDER
fetches CUDA's headers, which libbiv_cuda.so is compiled with. Nothing is unpacked
unless the SHA-256 of every wheel is the pinned one.
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
import time
import zipfile

VERSION = "2.11.0"
ROOT = pathlib.Path(__file__).resolve().parent.parent
HOME = ROOT / ".libtorch"

# The wheels a CPU build links and loads: libtorch_cpu.so needs CUDA's runtime
# and profiling libraries to be there even where no GPU is.
CPU_WHEELS = ["torch==" + VERSION, "nvidia-cuda-runtime==13.0.96", "nvidia-cuda-cupti==13.0.85"]
HEADER_WHEELS = ["nvidia-cuda-runtime==13.0.96", "nvidia-cuda-crt==13.0.88"]
# Of every wheel that something is unpacked from, with --cuda too.
SHA256 = {
    "torch": "0f68f4ac6d95d12e896c3b7a912b5871619542ec54d3649cf48cc1edd4dd2756",
    "nvidia_cuda_runtime": "7f82250d7782aa23b6cfe765ecc7db554bd3c2870c43f3d1821f1d18aebf0548",
    "nvidia_cuda_crt": "2c8043c7c9e02492716426e9919fc78d2c5b3b2a7a768a88e952676b08aa55a4",
    "nvidia_cuda_cupti": "4eb01c08e859bf924d222250d2e8f8b8ff6d3db4721288cf35d14252a4d933c8",
    "nvidia_cublas": "ee8722c1f0145ab246bccb9e452153b5e0515fd094c3678df50b2a0888b8b171",
    "nvidia_cuda_nvrtc": "ad9b6d2ead2435f11cbb6868809d2adeeee302e9bb94bcf0539c7a40d80e8575",
    "nvidia_cudnn_cu13": "d20e1734305e9d68889a96e3f35094d733ff1f83932ebe462753973e53a572bf",
    "nvidia_cufft": "6c44f692dce8fd5ffd3e3df134b6cdb9c2f72d99cf40b62c32dde45eea9ddad3",
    "nvidia_cufile": "08a3ecefae5a01c7f5117351c64f17c7c62efa5fffdbe24fc7d298da19cd0b44",
    "nvidia_curand": "1aee33a5da6e1db083fe2b90082def8915f30f3248d5896bcec36a579d941bfc",
    "nvidia_cusolver": "0a759da5dea5c0ea10fd307de75cdeb59e7ea4fcb8add0924859b944babf1112",
    "nvidia_cusparse": "2b3c89c88d01ee0e477cb7f82ef60a11a4bcd57b6b87c33f789350b59759360b",
    "nvidia_cusparselt_cu13": "25e30a8a7323935d4ad0340b95a0b69926eee755767e8e0b1cf8dd85b197d3fd",
    "nvidia_nccl_cu13": "e4553a30f34195f3fa1da02a6da3d6337d28f2003943aa0a3d247bbc25fefc42",
    "nvidia_nvjitlink": "13a74f429e23b921c1109976abefacc69835f2f433ebd323d3946e11d804e47b",
    "nvidia_nvshmem_cu13": "290f0a2ee94c9f3687a02502f3b9299a9f9fe826e6d0287ee18482e78d495b80",
    "nvidia_nvtx": "4936d1d6780fbe68db454f5e72a42ff64d1fd6397df9f363ae786930fd5c1cd4",
}
CPU_LIBRARIES = {
    "torch/lib/libtorch.so", "torch/lib/libtorch_cpu.so", "torch/lib/libc10.so", "torch/lib/libgomp.so.1",
    "nvidia/cu13/lib/libcudart.so.13", "nvidia/cu13/lib/libcupti.so.13",
}
# How long to wait, in seconds, before a download that failed is tried again: networks fail for a moment.
WAITS = [5, 15, 30, 60]
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


def sha256(path):
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(1 << 22):
            digest.update(block)
    return digest.hexdigest()


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
    if name.startswith("torch/include/") or name == "torch/version.py" or re.match(r"[^/]+\.dist-info/licenses/", name):
        return True
    if cuda:
        return bool(re.match(r"(torch|nvidia/[^/]+)/lib/[^/]*\.so", name)) and "libtorch_python" not in name
    return name in CPU_LIBRARIES


def verified(wheel):
    """Whether to unpack a wheel: not what only PyTorch's Python side needs. One with another checksum ends it all."""
    project = wheel.name.split("-")[0]
    if project not in SHA256:
        if project.startswith(("torch", "nvidia")):
            fail(f"no checksum is pinned for {wheel.name}: nothing was unpacked")
        return False
    digest = sha256(wheel)
    if digest != SHA256[project]:
        fail(f"{wheel.name} has SHA-256 {digest}, expected {SHA256[project]}: nothing was unpacked")
    return True


def download(command, hint):
    """Runs pip until it succeeds; again without its cache, which may hold what went wrong."""
    for retry, wait in enumerate([*WAITS, None]):
        if subprocess.run(command + (["--no-cache-dir"] if retry else [])).returncode == 0:
            return
        if wait is not None:
            print(f"libtorch: pip failed (its message is above), trying again in {wait} s", file=sys.stderr, flush=True)
            time.sleep(wait)
    fail(f"pip failed {len(WAITS) + 1} times (its messages are above). {hint}")


def unpack(wheels, flags, folder, wanted_file, hint, replaced=()):
    """Downloads the wheels, checks them all, and unpacks the wanted files into `folder`, where they replace what
    the patterns `replaced` match."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = pip() + ["download", "-q", "--disable-pip-version-check", "--only-binary=:all:", "-d", scratch,
                           "--python-version", "3.12", "--implementation", "cp"]
        command += [flag for name in PLATFORMS for flag in ("--platform", name + "_x86_64")]
        download(command + flags + wheels, hint)
        verified_wheels = sorted(wheel for wheel in pathlib.Path(scratch).glob("*.whl") if verified(wheel))
        for old in [path for pattern in replaced for path in folder.glob(pattern)]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for wheel in verified_wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [n for n in archive.namelist() if wanted_file(n)])
            wheel.unlink()


def fetch(cuda):
    if platform.system() != "Linux" or platform.machine() != "x86_64":
        fail(f"no wheel is pinned for {platform.system()} {platform.machine()}: "
             f"install libtorch {VERSION} and set LIBTORCH to its folder")
    print(f"libtorch: fetching {VERSION} for {'CPU and CUDA' if cuda else 'CPU'} into .libtorch/", flush=True)
    unpack(CPU_WHEELS, [] if cuda else ["--no-deps"], HOME, lambda name: wanted(name, cuda),
           f"With no network, set LIBTORCH to the folder of an installed libtorch {VERSION}",
           replaced=("complete", "torch", "nvidia", "*.dist-info"))
    (HOME / "complete").write_text("cuda" if cuda else "cpu")


def fetch_headers(folder):
    """CUDA's headers, once, into `folder`/nvidia/cu13/include."""
    if not (folder / "nvidia" / "cu13" / "include" / "crt" / "host_config.h").is_file():
        print(f"libtorch: fetching CUDA's headers into {folder}", flush=True)
        unpack(HEADER_WHEELS, ["--no-deps"], folder, lambda name: "/include/" in name,
               "libbiv works without libbiv_cuda.so, which needs them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="fetch the CUDA libraries too (2.7 GB)")
    parser.add_argument("--cuda-headers", type=pathlib.Path, metavar="FOLDER", help="fetch CUDA's headers only")
    options = parser.parse_args()
    if options.cuda_headers:
        fetch_headers(options.cuda_headers)
        return
    cuda = options.cuda
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
