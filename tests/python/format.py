#!/usr/bin/env python3
"""The file format by docs/format.md alone: the functions of that page read what the library writes, and the library reads
what they write. Needs no package.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/format.py
"""

import ctypes
import math
import os
import pathlib
import struct
import tempfile
from ctypes import byref, c_char_p, c_int32, c_int64, c_void_p

ROOT = pathlib.Path(__file__).parents[2]
page = (ROOT / "docs/format.md").read_text()
exec(page.split("```python\n")[1].split("```")[0])

biv = ctypes.CDLL(os.environ.get("BIV_LIBRARY") or str(ROOT / "build/install/lib/libbiv.so"))
biv.biv_last_error_message.restype = c_char_p
OK, CORRUPT = 0, 14


class Array(ctypes.Structure):
    """biv_array and biv_array_out, of f64."""

    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", c_void_p), ("strides", c_void_p),
                ("size", c_int64)]

    def __init__(self, values, *shape):
        self.values, self.sizes = (ctypes.c_double * len(values))(*values), (c_int64 * len(shape))(*shape)
        super().__init__(ctypes.addressof(self.values), 2, len(shape), ctypes.addressof(self.sizes), None, len(values))


def check(status):
    assert status == OK, biv.biv_last_error_message().decode()


def array(dtype, values, *shape):
    letter = {"F32": "f", "F64": "d"}[dtype]
    return dtype, list(shape) or [len(values)], struct.pack(f"<{len(values)}{letter}", *values)


def numbers(array):
    dtype, shape, values = array
    letter = {"F32": "f", "F64": "d"}[dtype]
    return list(struct.unpack(f"<{math.prod(shape)}{letter}", values))


def load(file, function=biv.biv_model_load):
    """The status, and a handle of the model in the bytes of a file."""
    handle = c_void_p()
    path = folder / "file.biv"
    path.write_bytes(file)
    return function(str(path).encode(), byref(handle)), handle


def save(function, handle):
    path = folder / "saved.biv"
    check(function(handle, str(path).encode()))
    return path.read_bytes()


def predict(model, rows):
    out = Array([0.0] * len(rows), len(rows))
    check(biv.biv_model_predict(model, byref(Array(sum(rows, []), len(rows), len(rows[0]))), byref(out)))
    return list(out.values)


def own_files_are_read():
    for name, kind, count in [("model-0.1.0.biv", "model", 18), ("checkpoint-0.1.0.biv", "training", 38)]:
        file = (ROOT / "tests/golden" / name).read_bytes()
        found, state, arrays = read(file)
        assert (found, len(arrays)) == (kind, count), (found, len(arrays))
        assert (state if kind == "model" else state["model"])["hidden"] == [6, 4]
        assert arrays["model.0.weight"][:2] == ("F32", [6, 3]) and arrays["normalization.label_std"][:2] == ("F64", [1])
        damaged = bytearray(file)
        damaged[-3] ^= 1
        try:
            read(bytes(damaged))
            raise AssertionError("a changed byte was not noticed")
        except ValueError:
            pass


def what_is_written_is_loaded():
    state = {"kind": "mlp", "inputs": 2, "hidden": [2]}
    arrays = {
        "model.2.weight": array("F32", [2.0, -3.0], 1, 2),
        "model.2.bias": array("F32", [0.5]),
        "model.0.weight": array("F32", [1.0, -1.0, 0.25, 2.0], 2, 2),
        "model.0.bias": array("F32", [0.125, -0.5]),
        "normalization.feature_mean": array("F64", [3.0, -1.0]),
        "normalization.feature_std": array("F64", [2.0, 0.5]),
        "normalization.label_mean": array("F64", [40.0]),
        "normalization.label_std": array("F64", [10.0]),
        "notes.größe": array("F64", [1.0, 2.0]),
    }
    file = write("model", state, arrays)
    status, model = load(file)
    assert status == OK, biv.biv_last_error_message().decode()

    def expected(x):
        a, b = (x[0] - 3) / 2, (x[1] + 1) / 0.5
        hidden = max(a - b + 0.125, 0), max(a / 4 + 2 * b - 0.5, 0)
        return (2 * hidden[0] - 3 * hidden[1] + 0.5) * 10 + 40

    rows = [[3.0, -1.0], [8.0, 0.5], [-2.0, -4.0]]
    found = predict(model, rows)
    assert all(abs(a - expected(x)) < 1e-4 for a, x in zip(found, rows)), (found, [expected(x) for x in rows])

    kind, again, back = read(save(biv.biv_model_save, model))
    del arrays["notes.größe"]
    assert (kind, again["hidden"], back) == ("model", [2], arrays)
    biv.biv_model_free(model)

    status, model = load(file[:-1] + b"\1")
    assert status == CORRUPT and b"digest" in biv.biv_last_error_message(), (status, biv.biv_last_error_message())
    assert not model


def a_checkpoint_has_its_model():
    rows = [[float(i % 5), float(i % 7), float(i % 3)] for i in range(40)]
    labels = [a + 2 * b - c for a, b, c in rows]
    data, model, trainer = c_void_p(), c_void_p(), c_void_p()
    check(biv.biv_dataset_create_from_arrays(byref(Array(sum(rows, []), 40, 3)), byref(Array(labels, 40)), None, byref(data)))
    check(biv.biv_model_create(b'{"kind": "mlp", "inputs": 3, "hidden": [4], "batch_norm": true}', byref(model)))
    options = b'{"loss": {"kind": "mse"}, "batch_size": 8, "seed": 3}'
    check(biv.biv_trainer_create(model, data, options, byref(trainer)))
    for _ in range(7):
        check(biv.biv_trainer_step(trainer, None))
    kind, state, arrays = read(save(biv.biv_trainer_save, trainer))
    assert (kind, state["steps"], state["position"], state["rows"]) == ("training", 7, {"epoch": 1, "batch": 2}, 40)
    # Of the eight tensors of the model, two are running statistics, which the optimiser does not see.
    assert [sum(name.startswith(part) for name in arrays) for part in ("model.", "adam.mean.", "adam.square.")] == [8, 6, 6]
    assert any(numbers(arrays["adam.square.0"]))

    inside = {name: array for name, array in arrays.items() if name.startswith(("model.", "normalization."))}
    status, alone = load(write("model", state["model"], inside))
    check(status)
    assert predict(alone, rows) == predict(model, rows)

    # What another program changes in a checkpoint is what training goes on with.
    arrays["model.3.bias"] = array("F32", [0.75])
    trained = c_void_p()
    status, loaded = load(write(kind, state, arrays), lambda path, out: biv.biv_trainer_load(path, data, None, out))
    check(status)
    check(biv.biv_trainer_get_model(loaded, byref(trained)))
    moved = predict(trained, rows)[0] - predict(model, rows)[0]
    shift = (0.75 - numbers(inside["model.3.bias"])[0]) * numbers(arrays["normalization.label_std"])[0]
    assert abs(moved - shift) < 1e-5, (moved, shift)
    check(biv.biv_trainer_step(loaded, None))
    for handle, free in [(loaded, biv.biv_trainer_free), (trainer, biv.biv_trainer_free), (trained, biv.biv_model_free),
                         (alone, biv.biv_model_free), (model, biv.biv_model_free), (data, biv.biv_dataset_free)]:
        free(handle)


with tempfile.TemporaryDirectory() as temporary:
    folder = pathlib.Path(temporary)
    tests = [own_files_are_read, what_is_written_is_loaded, a_checkpoint_has_its_model]
    for test in tests:
        test()
    print(f"python: {len(tests)} tests of the file format passed")
