#!/usr/bin/env python3
"""Reads the files of models and checkpoints by docs/format.md alone, and checks their digests.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/format.py
"""

import ctypes
import hashlib
import json
import os
import pathlib
import struct
import tempfile
from ctypes import byref, c_char_p, c_int64, c_void_p

LIBRARY = os.environ.get("BIV_LIBRARY") or pathlib.Path(__file__).parents[2] / "build/install/lib/libbiv.so"
biv = ctypes.CDLL(str(LIBRARY), mode=os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
biv.biv_last_error_message.restype = c_char_p
biv.biv_trainer_create.argtypes = [c_void_p, c_void_p, c_char_p, c_void_p]
biv.biv_trainer_fit.argtypes = [c_void_p, c_int64, c_void_p, c_void_p, c_void_p]
for save in (biv.biv_model_save, biv.biv_trainer_save):
    save.argtypes = [c_void_p, c_char_p]


def made(function, *arguments):
    handle = c_void_p()
    status = function(*arguments, byref(handle))
    assert status == 0, biv.biv_last_error_message()
    return handle


def read(content):
    """The record and the arrays (type, shape, bytes) by name."""
    (length,) = struct.unpack("<Q", content[:8])
    header = json.loads(content[8 : 8 + length])
    record = json.loads(header.pop("__metadata__")["libbiv"])
    data = content[8 + length :]
    arrays = {name: (a["dtype"], a["shape"], data[slice(*a["data_offsets"])]) for name, a in header.items()}
    return record, arrays


def digest(record, arrays):
    hashed = hashlib.sha256()

    def field(part):
        hashed.update(struct.pack("<Q", len(part)))
        hashed.update(part)

    field(f"{record['version']} {record['kind'].capitalize()}".encode())
    field(record["state"].encode())
    for name in sorted(arrays, key=str.encode):
        dtype, shape, content = arrays[name]
        field(name.encode())
        field(f"{dtype} {shape}".encode())
        field(content)
    return hashed.hexdigest()


data = made(biv.biv_dataset_create_synthetic, b'{"rows": 100, "features": 5}')
model = made(biv.biv_model_create, b'{"kind": "mlp", "inputs": 5, "hidden": [4], "norm": "batch_norm"}')
trainer = made(biv.biv_trainer_create, model, data, b'{"loss": {"kind": "mse"}, "batch_size": 50}')
assert biv.biv_trainer_fit(trainer, 2, None, None, None) == 0, biv.biv_last_error_message()
with tempfile.TemporaryDirectory() as folder:
    path = pathlib.Path(folder) / "file.biv"
    for kind, save, handle in (("model", biv.biv_model_save, model), ("training", biv.biv_trainer_save, trainer)):
        assert save(handle, str(path).encode()) == 0, biv.biv_last_error_message()
        record, arrays = read(path.read_bytes())
        assert record["version"] == 1 and record["kind"] == kind
        assert digest(record, arrays) == record["digest"], kind
        state = json.loads(record["state"])
        assert (state if kind == "model" else state["model"])["kind"] == "mlp"
        assert arrays["model.0.weight"][:2] == ("F32", [4, 5]) and len(arrays["normalization.label_std"][2]) == 8
        assert ("adam.square.5" in arrays) == (kind == "training")
        assert kind == "model" or state["steps"] == 4
print("python: files of a model and a checkpoint are as docs/format.md says")
