"""The library: where it is, its functions as C declares them, and its failures as exceptions."""

import ctypes
import importlib.metadata
import importlib.util
import os
import pathlib
import sys
from ctypes import POINTER, c_char_p, c_double, c_int32, c_int64, c_size_t, c_uint64, c_void_p
from typing import Any, Callable, Optional

from ._errors import CLASSES, Error

#: The version of PyTorch whose libtorch the library is built for.
TORCH_VERSION = "2.11.0"
#: The ABI version that is declared below.
ABI_VERSION = 1


class Array(ctypes.Structure):
    """biv_array and biv_array_out."""

    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", POINTER(c_int64)),
                ("strides", POINTER(c_int64)), ("size", c_int64)]


TEXT, HANDLE, PLACE, STRUCT, TENSOR = c_char_p, c_void_p, POINTER(c_void_p), c_void_p, c_void_p
TEXT_PLACE, ARRAY, BYTES, CALLBACK = POINTER(c_char_p), POINTER(Array), c_void_p, c_void_p

#: Parameters of the functions that return a status. Two that older programs use, what DLPack does better and what
#: another function does too are left out; the test of the declarations names them.
STATUS_FUNCTIONS: dict[str, list[Any]] = {
    "biv_build_info": [TEXT_PLACE],
    "biv_set_log": [c_int32, CALLBACK, c_void_p],
    "biv_config_schema": [TEXT, TEXT_PLACE],
    "biv_cuda_device_count": [POINTER(c_int32)],
    "biv_get_num_threads": [POINTER(c_int32)],
    "biv_set_num_threads": [c_int32],
    "biv_dataset_create": [ARRAY, ARRAY, ARRAY, ARRAY, TEXT, PLACE],
    "biv_dataset_create_from_dlpack": [TENSOR, TENSOR, TENSOR, TENSOR, c_void_p, TEXT, PLACE],
    "biv_dataset_create_from_csv": [TEXT, TEXT, PLACE],
    "biv_dataset_create_named": [TEXT, TEXT, PLACE],
    "biv_dataset_create_from_images": [TEXT, TEXT, PLACE],
    "biv_dataset_create_synthetic": [TEXT, PLACE],
    "biv_dataset_add_noise": [HANDLE, TEXT, PLACE],
    "biv_dataset_split": [HANDLE, TEXT, PLACE, PLACE],
    "biv_dataset_subset": [HANDLE, POINTER(c_int64), c_size_t, PLACE],
    "biv_dataset_shuffle": [HANDLE, c_uint64, PLACE],
    "biv_dataset_append": [HANDLE, HANDLE, PLACE],
    "biv_dataset_latest": [HANDLE, c_size_t, PLACE],
    "biv_dataset_with_variances": [HANDLE, ARRAY, TEXT, PLACE],
    "biv_dataset_get_info": [HANDLE, STRUCT],
    "biv_dataset_describe": [HANDLE, BYTES, c_size_t, POINTER(c_size_t)],
    "biv_dataset_copy_features": [HANDLE, ARRAY],
    "biv_dataset_copy_labels": [HANDLE, ARRAY],
    "biv_dataset_copy_clean_labels": [HANDLE, ARRAY],
    "biv_dataset_copy_variances": [HANDLE, ARRAY],
    "biv_noise_sample": [TEXT, c_uint64, POINTER(c_double), c_size_t],
    "biv_loss_compute": [TEXT, ARRAY, ARRAY, ARRAY, STRUCT, ARRAY],
    "biv_model_create": [TEXT, PLACE],
    "biv_model_load": [TEXT, PLACE],
    "biv_model_load_from_memory": [BYTES, c_size_t, PLACE],
    "biv_model_save": [HANDLE, TEXT],
    "biv_model_save_to_memory": [HANDLE, BYTES, c_size_t, POINTER(c_size_t)],
    "biv_model_copy": [HANDLE, PLACE],
    "biv_model_export": [HANDLE, TEXT, TEXT],
    "biv_model_import_weights": [HANDLE, TEXT, TEXT, PLACE],
    "biv_model_get_info": [HANDLE, STRUCT],
    "biv_model_describe": [HANDLE, BYTES, c_size_t, POINTER(c_size_t)],
    "biv_model_get_tensor": [HANDLE, TEXT, ARRAY],
    "biv_model_set_tensor": [HANDLE, TEXT, ARRAY],
    "biv_model_predict": [HANDLE, ARRAY, ARRAY],
    "biv_model_predict_with_variance": [HANDLE, ARRAY, ARRAY, ARRAY],
    "biv_model_predict_dlpack": [HANDLE, TENSOR, TENSOR],
    "biv_model_evaluate": [HANDLE, HANDLE, STRUCT],
    "biv_model_set_normalization": [HANDLE, ARRAY, ARRAY, ARRAY, ARRAY],
    "biv_model_reset_normalization": [HANDLE],
    "biv_trainer_create": [HANDLE, HANDLE, TEXT, PLACE],
    "biv_trainer_step": [HANDLE, STRUCT],
    "biv_trainer_step_on": [HANDLE, ARRAY, ARRAY, ARRAY, STRUCT],
    "biv_trainer_set_data": [HANDLE, HANDLE],
    "biv_trainer_set_validation": [HANDLE, HANDLE],
    "biv_trainer_fit": [HANDLE, c_int64, HANDLE, CALLBACK, c_void_p],
    "biv_trainer_cancel": [HANDLE],
    "biv_trainer_get_progress": [HANDLE, STRUCT],
    "biv_trainer_describe": [HANDLE, BYTES, c_size_t, POINTER(c_size_t)],
    "biv_trainer_evaluate": [HANDLE, HANDLE, STRUCT],
    "biv_trainer_predict": [HANDLE, ARRAY, ARRAY],
    "biv_trainer_get_learning_rate": [HANDLE, POINTER(c_double)],
    "biv_trainer_set_learning_rate": [HANDLE, c_double],
    "biv_trainer_get_model": [HANDLE, PLACE],
    "biv_trainer_save": [HANDLE, TEXT],
    "biv_trainer_save_to_memory": [HANDLE, BYTES, c_size_t, POINTER(c_size_t)],
    "biv_trainer_load_with": [TEXT, HANDLE, TEXT, PLACE],
    "biv_trainer_load_from_memory": [BYTES, c_size_t, HANDLE, TEXT, PLACE],
    "biv_variance_model_fit": [ARRAY, ARRAY, STRUCT],
    "biv_fit": [TEXT, HANDLE, TEXT, CALLBACK, c_void_p, PLACE, PLACE],
    "biv_experiment_resolve": [TEXT, PLACE],
    "biv_experiment_run": [TEXT, CALLBACK, c_void_p, PLACE],
    "biv_sweep_run": [TEXT, CALLBACK, c_void_p, PLACE],
    "biv_text_get": [HANDLE, TEXT_PLACE],
}
#: Result and parameters of the others.
OTHER_FUNCTIONS: dict[str, tuple[Any, list[Any]]] = {
    "biv_status_name": (c_char_p, [c_int32]),
    "biv_version": (c_char_p, []),
    "biv_abi_version": (c_int32, []),
    "biv_last_error_message": (c_char_p, []),
    "biv_dataset_free": (None, [HANDLE]),
    "biv_model_free": (None, [HANDLE]),
    "biv_trainer_free": (None, [HANDLE]),
    "biv_text_free": (None, [HANDLE]),
}


def torch_folder() -> Optional[pathlib.Path]:
    """Where the installed PyTorch is, if it is of the version that the library needs. Nothing of it is imported."""
    try:
        spec = importlib.util.find_spec("torch")
        version = importlib.metadata.version("torch").split("+")[0]
    except (ValueError, importlib.metadata.PackageNotFoundError):
        return None
    if spec is None or spec.origin is None or version != TORCH_VERSION:
        return None
    return pathlib.Path(spec.origin).parent


def candidates() -> list[str]:
    """Where the library may be: in BIV_LIBRARY, else beside this file, in the checkout, where the system looks."""
    if os.environ.get("BIV_LIBRARY"):
        return [os.environ["BIV_LIBRARY"]]
    here = pathlib.Path(__file__).resolve().parent
    built = here.parents[2] / "build/install/lib/libbiv.so"
    return [str(path) for path in (here / "libbiv.so", built) if path.exists()] + ["libbiv.so.0.1"]


def load() -> ctypes.CDLL:
    """Loads the library. libbiv looks for a libtorch that is there already, so that of PyTorch is loaded before it."""
    folder = torch_folder()
    if folder is not None:
        ctypes.CDLL(str(folder / "lib/libtorch_cpu.so"))
    path = candidates()[0]
    try:
        library = ctypes.CDLL(path)
    except OSError as error:
        torch = getattr(sys.modules.get("torch"), "__version__", None)
        hint = (f"; torch {torch} has been imported, which is another version" if torch and folder is None
                else "" if folder else f"; torch {TORCH_VERSION} is not installed")
        raise ImportError(f"{error}. The environment variable BIV_LIBRARY says where libbiv is; it needs the libtorch of "
                          f"torch {TORCH_VERSION}{hint}.", path=path) from None
    version = library.biv_abi_version()
    if version != ABI_VERSION:
        raise ImportError(f"{path} has the ABI version {version}, this package needs {ABI_VERSION}", path=path)
    for name, parameters in STATUS_FUNCTIONS.items():
        getattr(library, name).argtypes = parameters
    for name, (result, parameters) in OTHER_FUNCTIONS.items():
        getattr(library, name).restype, getattr(library, name).argtypes = result, parameters
    return library


C = load()


def error_of(status: int) -> Error:
    """The exception for a status that this thread's last call returned."""
    name = C.biv_status_name(status).decode().removeprefix("BIV_ERROR_")
    return CLASSES.get(name, Error)(status, name, C.biv_last_error_message().decode())


def check(status: int) -> None:
    """Raises the exception for a status that is none of success."""
    if status != 0:
        raise error_of(status)


def handle_from(make: Callable[[Any], int]) -> int:
    """The new handle whose place `make` is given."""
    place = c_void_p()
    check(make(ctypes.byref(place)))
    return place.value or 0
