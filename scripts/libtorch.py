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
# Of every wheel that something is unpacked from, with --cuda too, for each machine.
SHA256 = {
    "x86_64": {
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
    },
    "aarch64": {
        "torch": "f99924682ef0aa6a4ab3b1b76f40dc6e273fca09f367d15a524266db100a723f",
        "nvidia_cuda_runtime": "ef9bcbe90493a2b9d810e43d249adb3d02e98dd30200d86607d8d02687c43f55",
        "nvidia_cuda_crt": "ee2ea2a97073e02ee62bb27841f437332be2c248e3eac013df07997ada39c003",
        "nvidia_cuda_cupti": "796bd679890ee55fb14a94629b698b6db54bcfd833d391d5e94017dd9d7d3151",
        "nvidia_cublas": "c86fc7f7ae36d7528288c5d88098edcb7b02c633d262e7ddbb86b0ad91be5df2",
        "nvidia_cuda_nvrtc": "d27f20a0ca67a4bb34268a5e951033496c5b74870b868bacd046b1b8e0c3267b",
        "nvidia_cudnn_cu13": "6ed29ffaee1176c612daf442e4dd6cfeb6a0caa43ddcbeb59da94953030b1be4",
        "nvidia_cufft": "2708c852ef8cd89d1d2068bdbece0aa188813a0c934db3779b9b1faa8442e5f5",
        "nvidia_cufile": "bdc0deedc61f548bddf7733bdc216456c2fdb101d020e1ab4b88d232d5e2f6d1",
        "nvidia_curand": "133df5a7509c3e292aaa2b477afd0194f06ce4ea24d714d616ff36439cee349a",
        "nvidia_cusolver": "02c2457eaa9e39de20f880f4bd8820e6a1cfb9f9a34f820eb12a155aa5bc92d2",
        "nvidia_cusparse": "80bcc4662f23f1054ee334a15c72b8940402975e0eab63178fc7e670aa59472c",
        "nvidia_cusparselt_cu13": "400c6ed1cf6780fc6efedd64ec9f1345871767e6a1a0a552a1ea0578117ea77c",
        "nvidia_nccl_cu13": "01c873ba1626b54caa12272ed228dc5b2781545e0ae8ba3f432a8ef1c6d78643",
        "nvidia_nvjitlink": "e931536ccc7d467a98ba1d8b89ff7fa7f1fa3b13f2b0069118cd7f47bff07d0c",
        "nvidia_nvshmem_cu13": "6dc2a197f38e5d0376ad52cd1a2a3617d3cdc150fd5966f4aee9bcebb1d68fe9",
        "nvidia_nvtx": "cb7780edb6b14107373c835bf8b72e7a178bac7367e23da7acb108f973f157a6",
    },
}
# With the BLAS, LAPACK and convolutions that the wheel for aarch64 keeps in libraries of their own.
CPU_LIBRARIES = re.compile(r"torch/lib/lib(torch_cpu|c10|gomp|arm_compute|arm_compute_graph|nvpl_\w+)\.so(\.\d+)?"
                           r"|nvidia/cu13/lib/lib(cudart|cupti)\.so\.13")
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
    return bool(CPU_LIBRARIES.fullmatch(name))


def verified(wheel, machine):
    """Whether to unpack a wheel: not what only PyTorch's Python side needs. One with another checksum ends it all."""
    project, checksums = wheel.name.split("-")[0], SHA256[machine]
    if project not in checksums:
        if project.startswith(("torch", "nvidia")):
            fail(f"no checksum is pinned for {wheel.name}: nothing was unpacked")
        return False
    digest = sha256(wheel)
    if digest != checksums[project]:
        fail(f"{wheel.name} has SHA-256 {digest}, expected {checksums[project]}: nothing was unpacked")
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


def unpack(wheels, machine, flags, folder, wanted_file, hint, replaced=()):
    """Downloads the wheels for a machine, checks them all, and unpacks the wanted files into `folder`, where they replace what
    the patterns `replaced` match."""
    folder.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder) as scratch:
        command = pip() + ["download", "-q", "--disable-pip-version-check", "--only-binary=:all:", "-d", scratch,
                           "--python-version", "3.12", "--implementation", "cp"]
        command += [flag for name in PLATFORMS for flag in ("--platform", f"{name}_{machine}")]
        download(command + flags + wheels, hint)
        verified_wheels = sorted(wheel for wheel in pathlib.Path(scratch).glob("*.whl") if verified(wheel, machine))
        for old in [path for pattern in replaced for path in folder.glob(pattern)]:
            shutil.rmtree(old) if old.is_dir() else old.unlink()
        for wheel in verified_wheels:
            with zipfile.ZipFile(wheel) as archive:
                archive.extractall(folder, [n for n in archive.namelist() if wanted_file(n)])
            wheel.unlink()


def this_machine():
    if platform.system() != "Linux" or platform.machine() not in SHA256:
        fail(f"no wheel is pinned for {platform.system()} {platform.machine()}: "
             f"install libtorch {VERSION} and set LIBTORCH to its folder")
    return platform.machine()


def fetch(home, machine, cuda):
    print(f"libtorch: fetching {VERSION} for {'CPU and CUDA' if cuda else 'CPU'}, {machine}, into {home}", flush=True)
    unpack(CPU_WHEELS, machine, [] if cuda else ["--no-deps"], home, lambda name: wanted(name, cuda),
           f"With no network, set LIBTORCH to the folder of an installed libtorch {VERSION}",
           replaced=("complete", "torch", "nvidia", "*.dist-info"))
    if not cuda:
        # The wheel's own needs libtorch_cuda.so. This is what linkers take it for.
        (home / "torch/lib/libtorch.so").write_text("INPUT(libtorch_cpu.so)\n")
    (home / "complete").write_text("cuda" if cuda else "cpu")


def fill(home, machine, cuda):
    """Fetches libtorch into `home`, unless it is there."""
    stamp = home / "complete"
    have = stamp.read_text() if stamp.is_file() else ""
    if installed_version(home / "torch") != VERSION or (have != "cuda" if cuda else not have):
        fetch(home, machine, cuda)
    check(home / "torch", f"Remove {home} and fetch it again")


def fetch_headers(folder):
    """CUDA's headers, once, into `folder`/nvidia/cu13/include."""
    if not (folder / "nvidia" / "cu13" / "include" / "crt" / "host_config.h").is_file():
        print(f"libtorch: fetching CUDA's headers into {folder}", flush=True)
        unpack(HEADER_WHEELS, this_machine(), ["--no-deps"], folder, lambda name: "/include/" in name,
               "libbiv works without libbiv_cuda.so, which needs them")


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--cuda", action="store_true", help="fetch the CUDA libraries too (2.7 GB)")
    parser.add_argument("--cuda-headers", type=pathlib.Path, metavar="FOLDER", help="fetch CUDA's headers only")
    parser.add_argument("--machine", choices=SHA256, help="fetch for that machine, to build for it, into .libtorch/MACHINE")
    options = parser.parse_args()
    if options.cuda_headers:
        fetch_headers(options.cuda_headers)
        return
    if options.machine:
        fill(HOME / options.machine, options.machine, options.cuda)
    elif os.environ.get("LIBTORCH"):
        check(pathlib.Path(os.environ["LIBTORCH"]), "Correct LIBTORCH, or unset it to have it fetched")
    else:
        fill(HOME, this_machine(), options.cuda)


if __name__ == "__main__":
    main()
