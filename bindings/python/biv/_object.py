"""What owns a handle of the library's."""

from __future__ import annotations

import weakref
from typing import Any, Callable, Optional, TypeVar

from ._library import C, handle_from

T = TypeVar("T", bound="Object")


class Object:
    """An object of the library's. It frees itself; ``close()`` or the end of a ``with`` block does it at once.

    Using a closed object is an `Error` of status ``INVALID_HANDLE``; closing it again does nothing.
    """

    _free: str

    def _own(self, handle: Optional[int]) -> None:
        self._finalizer = weakref.finalize(self, getattr(C, self._free), handle)

    @classmethod
    def _of(cls: type[T], handle: Optional[int]) -> T:
        """The object that owns `handle`."""
        made = cls.__new__(cls)
        made._own(handle)
        return made

    @classmethod
    def _made(cls: type[T], make: Callable[[Any], int]) -> T:
        """The object whose handle `make` makes."""
        return cls._of(handle_from(make))

    @property
    def _handle(self) -> Optional[int]:
        """The handle; NULL, which every function refuses, of a closed object."""
        alive = self._finalizer.peek()
        return alive[2][0] if alive else None

    def close(self) -> None:
        """Frees the object at once."""
        self._finalizer()

    @property
    def closed(self) -> bool:
        """Whether the object was freed."""
        return self._handle is None

    def __enter__(self: T) -> T:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __reduce__(self) -> Any:
        raise TypeError(f"a {type(self).__name__} cannot be copied or pickled")

    def __repr__(self) -> str:
        return f"{type(self).__name__}({'closed' if self.closed else self._said()})"

    def _said(self) -> str:
        """What the text of an open object says in its brackets."""
        raise NotImplementedError


def handle_of(value: Optional[Object]) -> Optional[int]:
    """An object's handle; NULL for None."""
    return None if value is None else value._handle
