"""What the library's failures are in Python."""


class Error(Exception):
    """A failure of the library.

    Attributes:
        code: the number of the status, as in biv.h.
        status: its name, for example ``"SHAPE"`` for ``BIV_ERROR_SHAPE``.
        message: what was wrong, where, and what would be right. Rows, features, labels and the items of lists count
            from 0; rows and lines of files from 1.
    """

    def __init__(self, code: int, status: str, message: str):
        super().__init__(code, status, message)
        self.code, self.status, self.message = code, status, message

    def __str__(self) -> str:
        return f"{self.message} ({self.status})"


class InvalidError(Error, ValueError):
    """An argument, an option, a shape or a file's content is not what it should be. It is a ``ValueError`` too."""


class NotFoundError(Error, LookupError):
    """A file, column or tensor does not exist. It is a ``LookupError`` too."""


class OutOfMemoryError(Error, MemoryError):
    """There is no memory for a large buffer. It is a ``MemoryError`` too."""


class Cancelled(Error):
    """A callback stopped the work."""


CLASSES = {
    "INVALID_ARGUMENT": InvalidError, "INVALID_HANDLE": InvalidError, "INVALID_CONFIG": InvalidError, "SHAPE": InvalidError,
    "PARSE": InvalidError, "CORRUPT": InvalidError, "NOT_FOUND": NotFoundError, "OUT_OF_MEMORY": OutOfMemoryError,
    "CANCELLED": Cancelled,
}
