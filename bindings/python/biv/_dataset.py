"""Data sets."""

from __future__ import annotations

import ctypes
import os
from ctypes import c_void_p
from typing import Any, Iterable, Optional, Sequence

import numpy as np
import numpy.typing as npt

from ._library import C, check, handle_from
from ._object import Object
from ._records import DatasetInfo, filled
from ._values import (column, copied, copied_json, described, handed_over, names_of, numbered, options, path_of, seed_of, whole)


class Dataset(Object):
    """Features, labels and, where they are known, the variances of the labels' noise. It never changes.

    Arrays are copied: features as float32, labels and variances as float64. `from_dlpack` uses them where they are.

    Args:
        x: the features, of shape (rows, ...): anything that NumPy makes an array of.
        y: the labels, of shape (rows,) or (rows, outputs), in any unit.
        variances: the variances of the labels' noise, shaped as `y`, in the square of its unit. An infinite one masks its
            label.
        std: the standard deviations instead, in the labels' unit.
        groups: an element for each row, numbers or texts: `fit` never trains on a part of a group and judges itself by the
            rest.
        missing_labels: with ``"mask"``, a label that is NaN is left out of training, statistics and metrics; with
            ``"error"`` it is an error.
        columns: the features' names; by default those of a data frame. A model that is trained on the data set knows them,
            and other data with names are matched by name.

    Raises:
        InvalidError: arrays that do not fit each other (``SHAPE``), values that are not allowed (``INVALID_ARGUMENT``).
    """

    _free = "biv_dataset_free"

    def __init__(self, x: npt.ArrayLike, y: npt.ArrayLike, *, variances: Optional[npt.ArrayLike] = None,
                 std: Optional[npt.ArrayLike] = None, groups: Optional[npt.ArrayLike] = None,
                 missing_labels: str = "error", columns: Optional[Sequence[str]] = None):
        arrays = described(x), described(y), described(noise_of(variances, std)), described(numbered(groups))
        settings = options(array_options(std is not None, missing_labels, names_of(x) if columns is None else columns))
        self._own(handle_from(lambda place: C.biv_dataset_create(*arrays, settings, place)))

    @classmethod
    def from_dlpack(cls, x: Any, y: Any, *, variances: Any = None, std: Any = None, groups: Any = None,
                    missing_labels: str = "error", columns: Optional[Sequence[str]] = None) -> Dataset:
        """A data set of arrays or tensors that speak DLPack 1.x, such as NumPy's, PyTorch's and CuPy's.

        Features of float32, and labels and variances of float64, in C order are used where they are: they must not change
        while the data set, or one that shares its memory, is in use. Others are copied; so are tensors on a GPU.
        """
        noise = noise_of(variances, std)
        settings = options(array_options(std is not None, missing_labels, columns))
        tensors = handed_over(x, y, noise, groups)
        return cls._made(lambda place: C.biv_dataset_create_from_dlpack(*tensors, None, settings, place))

    @classmethod
    def read_csv(cls, path: str | os.PathLike[str], **fields: Any) -> Dataset:
        """Reads a CSV file: ``read_csv(path, labels=["income"], standard_errors=["moe"], error_divisor=1.645)``.

        ``schema("csv")`` describes every option.
        """
        return cls._made(lambda place: C.biv_dataset_create_from_csv(path_of(path), options(fields), place))

    @classmethod
    def read_named(cls, name: str, path: str | os.PathLike[str]) -> Dataset:
        """Reads ``"bike"`` (hour.csv) or ``"wine"`` from its file or folder."""
        return cls._made(lambda place: C.biv_dataset_create_named(name.encode(), path_of(path), place))

    @classmethod
    def read_images(cls, folder: str | os.PathLike[str], **fields: Any) -> Dataset:
        """Reads a folder of images whose names begin with their labels: ``read_images(folder, size=64)``.

        ``schema("images")`` describes every option.
        """
        return cls._made(lambda place: C.biv_dataset_create_from_images(path_of(folder), options(fields), place))

    @classmethod
    def synthetic(cls, **fields: Any) -> Dataset:
        """Friedman's function: ``synthetic(rows=2000, features=10, seed=0)``."""
        return cls._made(lambda place: C.biv_dataset_create_synthetic(options(fields), place))

    def add_noise(self, **fields: Any) -> Dataset:
        """A copy with simulated label noise: ``add_noise(distribution={"kind": "gamma", "mean": 20, "variance": 400})``.

        ``schema("noise")`` describes every option.
        """
        return self._made(lambda place: C.biv_dataset_add_noise(self._handle, options(fields), place))

    def split(self, **fields: Any) -> tuple[Dataset, Dataset]:
        """Two parts: ``train, test = data.split(train_size=500, test_size=100, seed=1)``."""
        test = c_void_p()
        train = self._made(
            lambda place: C.biv_dataset_split(self._handle, options(fields), place, ctypes.byref(test)))
        return train, Dataset._of(test.value)

    def subset(self, rows: npt.ArrayLike) -> Dataset:
        """The rows `rows`, counted from 0, in that order; or those where an array of bool is true."""
        chosen = np.asarray(rows)
        chosen = np.flatnonzero(chosen) if chosen.dtype == bool else np.ascontiguousarray(chosen, dtype=np.int64)
        first = chosen.ctypes.data_as(ctypes.POINTER(ctypes.c_int64))
        return self._made(lambda place: C.biv_dataset_subset(self._handle, first, chosen.size, place))

    def shuffled(self, seed: int = 0) -> Dataset:
        """All rows in a random order, which the seed determines."""
        return self._made(lambda place: C.biv_dataset_shuffle(self._handle, seed_of(seed), place))

    def append(self, more: Dataset) -> Dataset:
        """A data set of these rows and then those of `more`, in shared memory: it takes time for the new rows only."""
        return self._made(lambda place: C.biv_dataset_append(self._handle, more._handle, place))

    def latest(self, rows: int) -> Dataset:
        """The last `rows` rows, or all where there are no more, in shared memory: a window over data that keep coming."""
        count = whole(rows, "rows", 0, 2**63 - 1)
        return self._made(lambda place: C.biv_dataset_latest(self._handle, count, place))

    def with_variances(self, variances: Optional[npt.ArrayLike] = None, *,
                       std: Optional[npt.ArrayLike] = None) -> Dataset:
        """The same rows with other variances of the labels' noise, or standard deviations, shaped as the labels."""
        noise = described(noise_of(variances, std))
        settings = options({"standard_deviations": std is not None})
        return self._made(lambda place: C.biv_dataset_with_variances(self._handle, noise, settings, place))

    def info(self) -> DatasetInfo:
        """The sizes."""
        return filled(DatasetInfo, lambda place: check(C.biv_dataset_get_info(self._handle, place)))

    def describe(self) -> dict[str, Any]:
        """What the columns are called, and what was left out when the data were read."""
        return copied_json(C.biv_dataset_describe, self._handle)

    def features(self) -> np.ndarray:
        """A copy of the features, of shape (rows, features): those of images flattened row-major."""
        info = self.info()
        return copied(lambda out: C.biv_dataset_copy_features(self._handle, out), info.rows, info.features)

    def labels(self) -> np.ndarray:
        """A copy of the labels, of shape (rows,) or (rows, outputs). Those that are missing are NaN."""
        return self._column(C.biv_dataset_copy_labels)

    def clean_labels(self) -> np.ndarray:
        """A copy of the labels as they were before simulated noise."""
        return self._column(C.biv_dataset_copy_clean_labels)

    def variances(self) -> np.ndarray:
        """A copy of the variances of the labels' noise, shaped as the labels. An `Error` where they are unknown."""
        return self._column(C.biv_dataset_copy_variances)

    def _column(self, copy: Any) -> np.ndarray:
        info = self.info()
        return column(copied(lambda out: copy(self._handle, out), info.rows, info.outputs))

    def __len__(self) -> int:
        return self.info().rows

    def _said(self) -> str:
        info = self.info()
        known = ", variances known" if info.has_variances else ""
        masked = f", {info.masked_labels} labels masked" if info.masked_labels else ""
        return f"rows={info.rows}, features={info.features}, outputs={info.outputs}{known}{masked}"


def noise_of(variances: Any, std: Any) -> Any:
    """Variances or standard deviations."""
    if variances is not None and std is not None:
        raise ValueError("give variances or std, not both")
    return variances if std is None else std


def array_options(std: bool, missing_labels: str, columns: Optional[Iterable[str]]) -> dict[str, Any]:
    fields: dict[str, Any] = {"standard_deviations": std, "missing_labels": missing_labels}
    return fields if columns is None else fields | {"columns": list(columns)}
