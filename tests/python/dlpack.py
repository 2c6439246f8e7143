#!/usr/bin/env python3
"""Arrays of NumPy and tensors of PyTorch through DLPack, by ctypes alone: they are used where they are, and are given
back once.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/dlpack.py

Without NumPy the test is skipped; without PyTorch of TORCH_VERSION, that part of it.
"""

import ctypes
import gc
import importlib
import importlib.metadata
import os
import pathlib
import sys
import threading
from ctypes import byref, c_char_p, c_int32, c_int64, c_void_p

try:
    import numpy as np
except ImportError:
    print("python: SKIPPED: numpy is not installed")
    sys.exit(0)
try:
    # A process has one libtorch: PyTorch's must be the version that libbiv was built for.
    version = importlib.metadata.version("torch").split("+")[0]
    torch = importlib.import_module("torch") if version == os.environ.get("TORCH_VERSION", version) else None
    why = f"is version {version}"
except importlib.metadata.PackageNotFoundError:
    torch, why = None, "is not installed"

LIBRARY = os.environ.get("BIV_LIBRARY") or pathlib.Path(__file__).parents[2] / "build/install/lib/libbiv.so"
biv = ctypes.CDLL(str(LIBRARY))
biv.biv_last_error_message.restype = c_char_p
biv.biv_dataset_create_from_dlpack.argtypes = [c_void_p] * 5 + [c_char_p, c_void_p]
biv.biv_model_predict_dlpack.argtypes = [c_void_p] * 3
biv.biv_dataset_free.argtypes = biv.biv_model_free.argtypes = [c_void_p]

OK, INVALID_ARGUMENT, SHAPE = 0, 1, 4
NAME, USED = b"dltensor_versioned", b"used_dltensor_versioned"

python = ctypes.pythonapi
python.PyCapsule_GetPointer.restype = c_void_p
python.PyCapsule_GetPointer.argtypes = [ctypes.py_object, c_char_p]
python.PyCapsule_SetName.argtypes = [ctypes.py_object, c_char_p]


def handed_over(array):
    """The tensor of a new capsule, which is used up: its own destructor does nothing then."""
    if array is None:
        return None
    capsule = array.__dlpack__(max_version=(1, 0))
    tensor = python.PyCapsule_GetPointer(capsule, NAME)
    python.PyCapsule_SetName(capsule, USED)
    return tensor


class Array(ctypes.Structure):
    """biv_array and biv_array_out."""

    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", c_void_p), ("strides", c_void_p),
                ("size", c_int64)]


def copied(function, data, shape):
    values, sizes = np.zeros(shape), (c_int64 * len(shape))(*shape)
    out = Array(values.ctypes.data, 2, len(shape), ctypes.cast(sizes, c_void_p), None, 0)
    assert function(data, byref(out)) == OK, biv.biv_last_error_message()
    return values


class Dataset:
    def __init__(self, features, labels, noise=None, groups=None, expect=OK):
        self.handle = c_void_p()
        status = biv.biv_dataset_create_from_dlpack(handed_over(features), handed_over(labels), handed_over(noise),
                                                    handed_over(groups), None, None, byref(self.handle))
        self.shape = tuple(features.shape)
        self.message = biv.biv_last_error_message().decode()
        assert status == expect and bool(self.handle) == (expect == OK), (status, self.message)

    def features(self):
        return copied(biv.biv_dataset_copy_features, self.handle, self.shape)

    def labels(self):
        return copied(biv.biv_dataset_copy_labels, self.handle, self.shape[:1])

    def free(self):
        biv.biv_dataset_free(self.handle)


def owners(array):
    """How many own an array or a tensor."""
    gc.collect()
    return sys.getrefcount(array) if isinstance(array, np.ndarray) else array._use_count()


def lent(x, y, v):
    """Dense arrays of the kept types: what is written to them is seen, and each is given back once."""
    before = [owners(array) for array in (x, y, v)]
    data = Dataset(x, y, v)
    assert [owners(array) for array in (x, y, v)] == [count + 1 for count in before]
    x[2, 1], y[3] = 41, 42
    assert data.features()[2, 1] == 41 and data.labels()[3] == 42
    # From a thread that Python does not know as the one that made it.
    thread = threading.Thread(target=data.free)
    thread.start()
    thread.join()
    assert [owners(array) for array in (x, y, v)] == before


def taken(array, expected):
    """Features of any type and strides, which are copied."""
    before = owners(array)
    data = Dataset(array, np.zeros(len(expected)))
    assert owners(array) == before, array.dtype
    assert np.array_equal(data.features(), expected), (array.dtype, data.features(), expected)
    data.free()
    assert owners(array) == before


def refused(x, y, status, text):
    before = owners(x), owners(y)
    data = Dataset(x, y, expect=status)
    assert text in data.message, data.message
    assert (owners(x), owners(y)) == before


def predicted(model, x, outs):
    """Predictions into arrays, all the same."""
    before = owners(x), [owners(out) for out in outs]
    for out in outs:
        assert biv.biv_model_predict_dlpack(model, handed_over(x), handed_over(out)) == OK, biv.biv_last_error_message()
        values = np.asarray(out)
        assert np.array_equal(values.ravel(), np.asarray(outs[0]).astype(values.dtype).ravel())
    del out, values
    assert (owners(x), [owners(out) for out in outs]) == before
    assert np.asarray(outs[0]).any()


def main():
    table = np.arange(24.0).reshape(6, 4)
    lent(table.astype(np.float32), np.arange(6.0), np.ones(6))
    taken(table, table)
    for kind in (np.float16, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint16, np.uint32, np.uint64):
        taken(table.astype(kind), table)
    taken(table > 3, table > 3)
    single = table.astype(np.float32)
    for view in (single.T, single[::2], single[:, 1:3], single[::-1], single[:, ::-1], np.broadcast_to(single[:1], (5, 4)),
                 np.asfortranarray(single)):
        taken(view, np.array(view))
    frozen = table.copy()
    frozen.flags.writeable = False
    taken(frozen, table)
    images = np.arange(2 * 3 * 4 * 4, dtype=np.uint8).reshape(2, 3, 4, 4)
    data = Dataset(images, np.zeros(2))
    assert np.array_equal(data.features(), (images.astype(np.float32) / np.float32(255)).astype(np.float64))
    images[1, 2, 3, 3] = 255
    assert data.features()[1, 2, 3, 3] == 1
    data.free()
    refused(single, np.zeros(5), SHAPE, "labels have 5 rows, the features have 6")
    refused(single, np.zeros(6, np.complex128), INVALID_ARGUMENT, "labels has elements of type code 5")
    refused(single[:0], np.zeros(0), INVALID_ARGUMENT, "at least one row")
    refused(single, np.full(6, np.nan), INVALID_ARGUMENT, "row 0, label 0: NaN")

    model = c_void_p()
    options = b'{"kind": "mlp", "inputs": 4, "hidden": [3]}'
    assert biv.biv_model_create(options, byref(model)) == OK
    wide = np.zeros((6, 3))
    predicted(model, single, [np.zeros(6), np.zeros((6, 1)), np.zeros(6, np.float32), wide[:, 1], np.zeros(6)[::-1]])
    out = np.zeros(6)
    out.flags.writeable = False
    assert biv.biv_model_predict_dlpack(model, handed_over(single), handed_over(out)) == INVALID_ARGUMENT
    assert biv.biv_last_error_message() == b"out is read-only" and not out.any()
    parts = "numpy " + np.__version__

    if torch is None:
        print(f"python: SKIPPED the part with PyTorch, which {why}")
    else:
        rows = torch.arange(24.0).reshape(6, 4)
        lent(rows.clone(), torch.arange(6.0, dtype=torch.float64), torch.ones(6, dtype=torch.float64))
        for kind in (torch.float64, torch.float16, torch.bfloat16, torch.int8, torch.int64, torch.uint8):
            taken(rows.to(kind), table)
        for view in (rows.t(), rows[::2], rows[:, 1:3], rows[:1].expand(5, 4)):
            taken(view, view.numpy())
        refused(rows, torch.zeros(6, dtype=torch.complex64), INVALID_ARGUMENT, "type code 5")
        predicted(model, rows, [torch.zeros(6, dtype=torch.float64), torch.zeros(6, 1), torch.zeros(6, 3)[:, 1]])
        parts += ", torch " + torch.__version__
    biv.biv_model_free(model)
    print(f"python: DLPack with {parts}: used where they are, given back once")


if __name__ == "__main__":
    main()
