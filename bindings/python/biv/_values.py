"""How Python's values go to C: arrays, tensors, groups, options, whole numbers, paths; and texts back."""

import ctypes
import hashlib
import json
import math
import operator
import os
from ctypes import c_char_p, c_int64, c_size_t, c_void_p, pythonapi
from typing import Any, Callable, Optional

import numpy as np
import numpy.typing as npt

from ._library import Array, C, check, handle_from

DTYPES = {np.dtype(np.float32): 1, np.dtype(np.float64): 2}

pythonapi.PyCapsule_GetPointer.restype = c_void_p
pythonapi.PyCapsule_GetPointer.argtypes = [ctypes.py_object, c_char_p]
pythonapi.PyCapsule_SetName.argtypes = [ctypes.py_object, c_char_p]


def real(values: npt.ArrayLike) -> np.ndarray:
    """An array of float32 or float64: `values` itself where it is one, else a copy."""
    if isinstance(values, np.ma.MaskedArray):
        return np.ma.filled(values.astype(np.float64), np.nan)
    array = np.asarray(values)
    if array.dtype.kind == "O":
        # None, and pandas' NA, are NaN.
        array = np.array([math.nan if value is None or type(value).__name__ == "NAType" else value for value in array.flat],
                         dtype=np.float64).reshape(array.shape)
    if array.dtype in DTYPES and all(stride % array.itemsize == 0 for stride in array.strides):
        return array
    if array.dtype.kind not in "biuf":
        raise ValueError(f"an array of real numbers is needed, not of {array.dtype}")
    return array.astype(np.float64)


def described(values: Optional[npt.ArrayLike]) -> Any:
    """The library's `Array` that describes an array, which lives as long as that; None for None."""
    if values is None:
        return None
    array = np.atleast_1d(real(values))
    sizes = c_int64 * array.ndim
    result = Array(array.ctypes.data if array.size else None, DTYPES[array.dtype], array.ndim, sizes(*array.shape),
                   sizes(*(stride // array.itemsize for stride in array.strides)), 0)
    result.kept = array
    return result


def copied(copy: Callable[[Any], int], *shape: int) -> np.ndarray:
    """A new array that `copy` fills."""
    array = np.empty(shape)
    check(copy(described(array)))
    return array


def names_of(table: Any) -> Optional[list[str]]:
    """The columns' names of a data frame, as pandas and Polars have them; None of what has none."""
    names = getattr(table, "columns", None)
    return None if names is None or not all(isinstance(name, str) for name in names) else list(names)


def column(array: np.ndarray) -> np.ndarray:
    """An array of one output without the dimension for outputs."""
    return array[:, 0] if array.shape[1] == 1 else array


def numbered(groups: Optional[npt.ArrayLike]) -> Optional[np.ndarray]:
    """The groups' numbers: equal elements have one, in whatever data set and process. A float64 holds 53 bits of it."""
    if groups is None:
        return None
    groups = np.asarray(groups)
    if groups.dtype.kind in "biuf":
        return groups
    names, places = np.unique(groups.astype(str), return_inverse=True)
    numbers = [int.from_bytes(hashlib.blake2b(str(name).encode(), digest_size=8).digest(), "big") >> 11 for name in names]
    return np.array(numbers, dtype=np.float64)[places.reshape(groups.shape)]


def handed_over(*tensors: Any) -> list[Optional[int]]:
    """Tensors by DLPack, for one call: the library calls their deleters."""
    capsules = [None if tensor is None else tensor.__dlpack__(max_version=(1, 0)) for tensor in tensors]
    pointers = [None if capsule is None else pythonapi.PyCapsule_GetPointer(capsule, b"dltensor_versioned")
                for capsule in capsules]
    for capsule in capsules:
        if capsule is not None:
            pythonapi.PyCapsule_SetName(capsule, b"used_dltensor_versioned")
    return pointers


def plain(value: Any) -> Any:
    """What JSON has for a value that it does not know."""
    if isinstance(value, (np.ndarray, np.generic)):
        return value.tolist()
    if isinstance(value, os.PathLike):
        return os.fspath(value)
    if isinstance(value, (range, set, frozenset)):
        return list(value)
    raise TypeError(f"an option is {value!r}, which is no text, number, list or dict")


def options(fields: Any) -> Optional[bytes]:
    """Options as JSON. A text is JSON already; None stands for the defaults."""
    if fields is None or isinstance(fields, str):
        return fields.encode() if fields else None
    return json.dumps(fields, default=plain, allow_nan=False).encode()


def whole(value: Any, name: str, low: int, high: int) -> int:
    """A whole number within C's limits, which ctypes would otherwise cut off."""
    value = operator.index(value)
    if not low <= value <= high:
        raise ValueError(f"{name} is {value}, must be from {low} to {high}")
    return value


def seed_of(seed: Any) -> int:
    return whole(seed, "seed", 0, 2**64 - 1)


def path_of(path: "str | os.PathLike[str]") -> bytes:
    return os.fsencode(path)


def copied_bytes(copy: Callable[..., int], handle: Optional[int]) -> bytes:
    """The bytes that a C function copies."""
    needed = c_size_t()
    check(copy(handle, None, 0, ctypes.byref(needed)))
    buffer = ctypes.create_string_buffer(needed.value)
    check(copy(handle, buffer, len(buffer), ctypes.byref(needed)))
    return buffer.raw


def copied_json(copy: Callable[..., int], handle: Optional[int]) -> dict[str, Any]:
    """The text that a C function copies, as JSON."""
    return json.loads(copied_bytes(copy, handle)[:-1])


def static_text(get: Callable[[Any], int]) -> str:
    """A text that the library keeps."""
    place = c_char_p()
    check(get(ctypes.byref(place)))
    return (place.value or b"").decode()


def taken_text(text: Optional[int]) -> Any:
    """What the JSON of a text says; the text is freed."""
    try:
        return json.loads(static_text(lambda place: C.biv_text_get(text, place)))
    finally:
        C.biv_text_free(text)


def made_text(make: Callable[[Any], int]) -> Any:
    """What the JSON of a new text says."""
    return taken_text(handle_from(make))
