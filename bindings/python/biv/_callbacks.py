"""Long calls: callbacks, and what stops them."""

from __future__ import annotations

import atexit
import contextlib
import ctypes
import queue
import threading
from ctypes import POINTER, c_int32, c_void_p
from typing import Any, Callable, NamedTuple, Optional

from ._errors import Cancelled, Error
from ._library import error_of
from ._records import STRUCTS, record_of


class End(NamedTuple):
    """How a call ended."""

    error: Optional[BaseException]


def run(call: Callable[[Any], int], record: type, listen: Optional[Callable[[Any], Any]],
        cancel: Callable[[], None] = lambda: None) -> Optional[Cancelled]:
    """Makes a call of the library that takes a callback, on a thread of its own: a signal, such as Ctrl-C's, that arrives
    in a C function is heard by Python only at its end. `listen` runs here, on the caller's thread, and stops the call where
    it returns False. Where it raises, or a signal does, the call is stopped and the exception goes on.

    Args:
        call: is given the C callback and returns a status.
        record: what the callback hears.
        cancel: stops the call before its next callback, if it has begun.

    Returns:
        None where the call came to its end; what the library says where `listen` stopped it.
    """
    events: queue.SimpleQueue[Any] = queue.SimpleQueue()
    answers: queue.SimpleQueue[int] = queue.SimpleQueue()
    stopped = threading.Event()

    def hear(_: Optional[int], place: Any) -> int:
        if listen is not None and not stopped.is_set():
            events.put(record_of(place.contents))
            if answers.get():
                stopped.set()
        return int(stopped.is_set())

    callback = ctypes.CFUNCTYPE(c_int32, c_void_p, POINTER(STRUCTS[record]))(hear)

    def work() -> None:
        error: Optional[BaseException]
        try:
            status = call(callback)
            error = error_of(status) if status else None
        except BaseException as raised:
            error = raised
        events.put(End(error))

    thread = threading.Thread(target=work, name="biv")
    leaving = threading.Event()

    def stop() -> None:
        stopped.set()
        answers.put(1)
        while thread.is_alive():
            with contextlib.suppress(Error):
                cancel()
            thread.join(0.05)

    def leave() -> None:
        leaving.set()
        stop()

    # A thread that Python ends within a callback, when the interpreter leaves, would end the process.
    atexit.register(leave)
    try:
        thread.start()
        while not isinstance(event := events.get(), End):
            answers.put(int(listen is not None and listen(event) is False))
        thread.join()
    except BaseException:
        stop()
        raise
    finally:
        atexit.unregister(leave)
    if leaving.is_set():
        raise SystemExit
    if isinstance(event.error, Cancelled) and stopped.is_set():
        return event.error
    if event.error is not None:
        raise event.error
    return None
