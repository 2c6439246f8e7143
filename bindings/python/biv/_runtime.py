"""The library itself: versions, threads, devices, its log, the schemas of its options."""

from __future__ import annotations

import collections
import ctypes
import json
from ctypes import byref, c_char_p, c_int32, c_void_p
from typing import Any, Callable, Literal, Optional

from ._library import C, check
from ._values import static_text, whole

LEVELS = {"silent": 0, "warning": 1, "info": 2}
LOG_CALLBACK = ctypes.CFUNCTYPE(None, c_void_p, c_int32, c_char_p)
#: The callback that the library has, and the one before, which may be the one that sets it: they must not be collected.
_listeners: collections.deque[Any] = collections.deque(maxlen=2)


def version() -> str:
    """The library's version."""
    return C.biv_version().decode()


def build_info() -> dict[str, Any]:
    """What the library is built from and runs on, such as whose BLAS libtorch calls."""
    return json.loads(static_text(C.biv_build_info))


def schema(name: str) -> dict[str, Any]:
    """The JSON Schema of the options called `name`, such as ``"trainer"``, with the meaning and the default of every
    field."""
    return json.loads(static_text(lambda place: C.biv_config_schema(name.encode(), place)))


def threads() -> int:
    """How many threads libtorch uses inside one operation, in the whole process."""
    return _number(C.biv_get_num_threads)


def set_threads(count: int) -> None:
    """Sets the number of threads inside one operation, in the whole process."""
    check(C.biv_set_num_threads(whole(count, "count", -2**31, 2**31 - 1)))


def cuda_devices() -> int:
    """The number of CUDA devices that can be used."""
    return _number(C.biv_cuda_device_count)


def _number(get: Any) -> int:
    number = c_int32()
    check(get(byref(number)))
    return number.value


def set_log(listen: Optional[Callable[[str, str], Any]], level: Literal["silent", "warning", "info"] = "warning") -> None:
    """Calls ``listen(level, message)`` with what the library says beside errors, each message once; None hears nothing.

    Up to ``"warning"`` that is what makes work slow and what was not expected, with ``"info"`` also what is in use. It is
    called on a thread that is in a call of the library's. What it raises goes to `sys.unraisablehook`.
    """
    if level not in LEVELS:
        raise ValueError(f"level is {level!r}, must be one of {', '.join(LEVELS)}")

    def hear(_: Optional[int], number: int, message: bytes) -> None:
        assert listen is not None
        listen("warning" if number == LEVELS["warning"] else "info", message.decode())

    listener = None if listen is None else LOG_CALLBACK(hear)
    check(C.biv_set_log(LEVELS[level], listener, None))
    _listeners.append(listener)
