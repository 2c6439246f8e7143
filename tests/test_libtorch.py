"""scripts/libtorch.py with small wheels of this test's: what is not what was pinned is not unpacked."""

import pathlib
import sys
import tempfile
import unittest
import zipfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from unittest import mock

sys.dont_write_bytecode = True
sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent / "scripts"))
import libtorch  # noqa: E402

# Stands in for pip: after `failures` calls that fail, "download" copies the wheels.
PIP = """
import pathlib, shutil, sys
calls = pathlib.Path({calls!r})
calls.open("a").write("called\\n")
if len(calls.read_text().splitlines()) <= {failures}:
    sys.exit(2)
for wheel in {wheels}:
    shutil.copy(wheel, sys.argv[sys.argv.index("-d") + 1])
"""


class Fetch(unittest.TestCase):
    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)
        self.home = self.folder / "home"
        self.wheels = []
        self.checksums = {}
        self.torch = self.wheel("torch-2.11.0-cp312.whl", {
            "torch/version.py": "__version__ = '2.11.0'", "torch/lib/libtorch_cpu.so": "code", "torch/nn.py": "Python",
            "torch/include/torch/torch.h": "header", "torch-2.11.0.dist-info/licenses/LICENSE": "licence",
        })
        self.nvidia = self.wheel("nvidia_cuda_runtime-13-none.whl", {"nvidia/cu13/lib/libcudart.so.13": "code"})

    def wheel(self, name, files):
        path = self.folder / name
        with zipfile.ZipFile(path, "w") as archive:
            for file, content in files.items():
                archive.writestr(file, content)
        self.wheels.append(path)
        self.checksums[name.split("-")[0]] = libtorch.sha256(path)
        return path

    def fetch(self, failures=0):
        calls, wheels = str(self.folder / "calls"), [str(wheel) for wheel in self.wheels]
        pip = [sys.executable, "-c", PIP.format(calls=calls, failures=failures, wheels=wheels)]
        with mock.patch.multiple(libtorch, SHA256={"m68k": self.checksums}, pip=lambda: pip, WAITS=[0, 0]), \
                redirect_stdout(StringIO()), redirect_stderr(StringIO()) as self.said:
            libtorch.fetch(self.home, "m68k", cuda=False)

    def unpacked(self):
        return {str(path.relative_to(self.home)) for path in self.home.rglob("*") if path.is_file()}

    def refused(self, message):
        before = self.unpacked()
        with self.assertRaisesRegex(SystemExit, message):
            self.fetch()
        self.assertEqual(self.unpacked(), before)

    def tamper(self, path):
        content = bytearray(path.read_bytes())
        content[content.index(b"code")] ^= 1
        path.write_bytes(content)

    def test_what_was_pinned_is_unpacked_as_far_as_it_is_needed(self):
        self.wheel("sympy-1-none.whl", {"sympy/core.py": "Python"})
        del self.checksums["sympy"]
        self.fetch()
        self.assertEqual(self.unpacked(), {
            "torch/version.py", "torch/lib/libtorch_cpu.so", "torch/include/torch/torch.h",
            "torch/lib/libtorch.so", "torch-2.11.0.dist-info/licenses/LICENSE", "nvidia/cu13/lib/libcudart.so.13", "complete",
        })

    def test_a_byte_changed_in_any_wheel_stops_it(self):
        for wheel in (self.torch, self.nvidia):
            content = wheel.read_bytes()
            self.tamper(wheel)
            self.refused(f"{wheel.name} has SHA-256 [0-9a-f]+, expected {self.checksums[wheel.name.split('-')[0]]}")
            wheel.write_bytes(content)

    def test_what_was_there_before_stays(self):
        self.fetch()
        self.tamper(self.nvidia)
        self.refused("nothing was unpacked")
        self.assertIn("torch/lib/libtorch_cpu.so", self.unpacked())

    def test_a_network_that_fails_for_a_moment_is_tried_again(self):
        self.fetch(failures=2)
        self.assertIn("complete", self.unpacked())
        self.assertEqual(self.said.getvalue().count("trying again"), 2)

    def test_a_network_that_stays_away_ends_it(self):
        with self.assertRaisesRegex(SystemExit, "pip failed 3 times .* set LIBTORCH"):
            self.fetch(failures=3)
        self.assertEqual(self.unpacked(), set())

    def test_a_library_without_a_checksum_stops_it(self):
        self.wheel("nvidia_new-1-none.whl", {"nvidia/new/lib/libnew.so": "code"})
        del self.checksums["nvidia_new"]
        self.refused("no checksum is pinned for nvidia_new-1-none.whl")

    def test_checksums_are_pinned_for_all_that_a_cpu_needs(self):
        projects = {wheel.split("==")[0].replace("-", "_") for wheel in libtorch.CPU_WHEELS}
        for machine, checksums in libtorch.SHA256.items():
            self.assertLessEqual(projects, set(checksums), machine)

    def test_both_machines_libraries_are_wanted(self):
        for name in ("torch/lib/libtorch_cpu.so", "torch/lib/libgomp.so.1", "torch/lib/libnvpl_blas_lp64_gomp.so.0",
                     "torch/lib/libarm_compute.so", "nvidia/cu13/lib/libcupti.so.13"):
            self.assertTrue(libtorch.wanted(name, cuda=False), name)
        for name in ("torch/lib/libtorch_cuda.so", "torch/lib/libtorch_python.so", "nvidia/cu13/lib/libcublas.so.13"):
            self.assertFalse(libtorch.wanted(name, cuda=False), name)


if __name__ == "__main__":
    unittest.main()
