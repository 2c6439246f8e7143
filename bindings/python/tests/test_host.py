"""The library beside NumPy and PyTorch, whichever comes first, and the examples, each in a process of its own."""

import ctypes.util
import importlib.metadata
import importlib.util
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import unittest

from biv import _library

HERE = pathlib.Path(__file__).parent
EXAMPLES = HERE.parent / "examples"
TRAINED = """
import biv
assert biv.build_info()["blas"] == "libtorch_cpu.so", biv.build_info()["blas"]
model, _ = biv.fit(biv.Dataset.synthetic(rows=100, features=5), members=2, epochs=2)
"""
PRODUCT = """
import torch
assert torch.equal(torch.eye(300) @ torch.ones(300, 300), torch.ones(300, 300))
assert len({line.split()[-1] for line in open("/proc/self/maps") if "libtorch_cpu" in line}) == 1
tensors = torch.rand(50, 3), torch.rand(50, dtype=torch.float64)
data = biv.Dataset.from_dlpack(*tensors)
tensors[1][4] = 7
assert data.labels()[4] == 7 and (data.features() == tensors[0].numpy()).all()
assert (biv.Dataset(*tensors).features() == data.features()).all()
"""


def torch_is_here():
    try:
        return importlib.metadata.version("torch").split("+")[0] == _library.TORCH_VERSION
    except importlib.metadata.PackageNotFoundError:
        return False


def ended(program, folder=None, **environment):
    """What a program prints that ends well, errors included."""
    command = [sys.executable, *program] if isinstance(program, list) else [sys.executable, "-c", program]
    done = subprocess.run(command, cwd=folder, env=os.environ | environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
                          text=True)
    assert done.returncode == 0, f"{done.returncode}: {done.stdout}"
    return done.stdout


class Hosts(unittest.TestCase):
    @unittest.skipUnless(torch_is_here(), f"torch {_library.TORCH_VERSION} is not installed")
    def test_before_and_after_torch(self):
        ended("import numpy" + TRAINED + PRODUCT)
        ended("import torch, numpy" + TRAINED + PRODUCT)

    @unittest.skipUnless(ctypes.util.find_library("blas"), "there is no libblas")
    def test_another_blas(self):
        """One whose symbols are everybody's does not take libtorch's place."""
        ended(f"import ctypes; ctypes.CDLL('{ctypes.util.find_library('blas')}', mode=ctypes.RTLD_GLOBAL)" + TRAINED)

    def test_the_interpreter_leaves(self):
        """Daemon threads that are in the library, or in its callbacks, end with the interpreter."""
        said = ended("""
import biv, threading
data, heard = biv.Dataset.synthetic(rows=500), threading.Semaphore(0)
trainer = biv.Trainer(biv.Model(kind="mlp", inputs=10, hidden=[8]), data, loss={"kind": "mse"})
for call in (lambda: biv.fit(data, epochs=2**40, callback=lambda progress: heard.release()),
             lambda: trainer.fit(2**40, callback=lambda epoch: heard.release())):
    threading.Thread(target=call, daemon=True).start()
    heard.acquire()
print("leaves")""")
        self.assertEqual(said, "leaves\n")

    def test_no_library(self):
        said = ended("try: import biv\nexcept ImportError as error: print(error)", BIV_LIBRARY="/nowhere/libbiv.so")
        self.assertIn("/nowhere/libbiv.so: cannot open shared object file", said)
        self.assertIn("BIV_LIBRARY says where libbiv is", said)

    def test_examples(self):
        with tempfile.TemporaryDirectory() as folder:
            said = ended([str(EXAMPLES / "quickstart.py")], folder)
            error, bars = map(float, re.search(r"truth ([\d.]+), as the error bars say ([\d.]+)", said).groups())
            self.assertTrue(error < 0.15 and bars < 0.15, said)
            texts = re.findall(r"^```python\n(.*?)^```", (HERE.parent / "README.md").read_text(), re.MULTILINE | re.DOTALL)
            self.assertGreaterEqual(len(texts), 2)
            has_sklearn = importlib.util.find_spec("sklearn") is not None
            ended("\n".join(text for text in texts if has_sklearn or "sklearn" not in text), folder)

    def test_county_incomes(self):
        if importlib.util.find_spec("sklearn") is None:
            self.skipTest("scikit-learn is not installed")
        if not pathlib.Path(os.environ.get("BIV_DATA_DIR", ""), "acs").is_dir():
            self.skipTest("there is no BIV_DATA_DIR with acs/acs2017_county_data.csv")
        said = ended([str(EXAMPLES / "county_incomes.py"), "1", "30"], OMP_NUM_THREADS="1", OPENBLAS_NUM_THREADS="1")
        errors = dict(re.findall(r"^(\S.*?) +(\d+) +nan", said, re.MULTILINE))
        self.assertLess(int(errors["BIVRegressor"]), int(errors["MLPRegressor"]))
