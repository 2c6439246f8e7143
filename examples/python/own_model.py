#!/usr/bin/env python3
"""A network of one's own in PyTorch, trained with libbiv's loss: biv_loss_compute() gives the gradient by the predictions,
and autograd takes it from there. A second network is libbiv's: its data and its predictions are PyTorch's tensors, which
go over by DLPack and are not copied.

  BIV_LIBRARY=build/install/lib/libbiv.so examples/python/own_model.py

There is no Python package: ctypes calls the C functions of include/biv.h. A process has one libtorch, here PyTorch's, which
must be of the version that libbiv was built for (docs/linking.md).
"""

import ctypes
import math
import os
import pathlib
from ctypes import byref, c_char_p, c_double, c_int32, c_int64, c_size_t, c_void_p

import torch

LIBRARY = os.environ.get("BIV_LIBRARY") or pathlib.Path(__file__).parents[2] / "build/install/lib/libbiv.so"
biv = ctypes.CDLL(str(LIBRARY), mode=os.RTLD_NOW | os.RTLD_LOCAL | os.RTLD_DEEPBIND)
biv.biv_last_error_message.restype = c_char_p
biv.biv_dataset_create_from_dlpack.argtypes = [c_void_p] * 5 + [c_char_p, c_void_p]
biv.biv_model_predict_dlpack.argtypes = [c_void_p] * 3
biv.biv_trainer_create.argtypes = [c_void_p, c_void_p, c_char_p, c_void_p]
biv.biv_trainer_fit.argtypes = [c_void_p, c_int64, c_void_p, c_void_p, c_void_p]
for free in (biv.biv_dataset_free, biv.biv_model_free, biv.biv_trainer_free):
    free.argtypes, free.restype = [c_void_p], None


def check(status):
    if status != 0:
        raise RuntimeError(biv.biv_last_error_message().decode())


class Array(ctypes.Structure):
    """biv_array and biv_array_out, of a tensor of float64 on the CPU with any strides."""

    _fields_ = [("data", c_void_p), ("dtype", c_int32), ("rank", c_int32), ("shape", c_void_p), ("strides", c_void_p),
                ("size", c_int64)]

    def __init__(self, tensor):
        assert tensor.dtype == torch.float64 and tensor.device.type == "cpu"
        sizes = c_int64 * tensor.dim()
        self.kept = tensor, sizes(*tensor.shape), sizes(*tensor.stride())
        super().__init__(tensor.data_ptr(), 2, tensor.dim(), *[ctypes.addressof(part) for part in self.kept[1:]], 0)


class LossResult(ctypes.Structure):
    """biv_loss_result."""

    _fields_ = [("struct_size", c_size_t), ("value", c_double), ("effective_batch_size", c_double),
                ("epsilon", c_double), ("samples_used", c_int64)]


class Loss(torch.autograd.Function):
    """A loss of libbiv's, for `loss.backward()`."""

    @staticmethod
    def forward(context, predictions, labels, variances, options):
        gradient, result = torch.empty_like(predictions), LossResult(struct_size=ctypes.sizeof(LossResult))
        arrays = [Array(tensor) for tensor in (predictions.detach(), labels, variances, gradient)]
        check(biv.biv_loss_compute(options, *map(byref, arrays[:3]), byref(result), byref(arrays[3])))
        context.save_for_backward(gradient)
        return predictions.new_tensor(result.value)

    @staticmethod
    def backward(context, above):
        return above * context.saved_tensors[0], None, None, None


def handed_over(tensor):
    """A tensor by DLPack, for one call: libbiv calls its deleter."""
    capsule = tensor.__dlpack__(max_version=(1, 0))
    python = ctypes.pythonapi
    python.PyCapsule_GetPointer.restype = c_void_p
    python.PyCapsule_GetPointer.argtypes = python.PyCapsule_SetName.argtypes = [ctypes.py_object, c_char_p]
    pointer = python.PyCapsule_GetPointer(capsule, b"dltensor_versioned")
    python.PyCapsule_SetName(capsule, b"used_dltensor_versioned")
    return pointer


def made(make, *arguments):
    handle = c_void_p()
    check(make(*arguments, byref(handle)))
    return handle


def own_network(options, x, y, v):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1)).double()
    adam = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(30):
        for rows in torch.randperm(len(x)).split(100):
            adam.zero_grad()
            Loss.apply(network(x[rows]), y[rows], v[rows], options).backward()
            adam.step()
    return network


def main():
    # Friedman's first function; nine labels of ten have much more noise than the others.
    torch.manual_seed(0)
    x = torch.rand(3000, 5, dtype=torch.float64)
    truth = 10 * (math.pi * x[:, 0] * x[:, 1]).sin() + 20 * (x[:, 2] - 0.5) ** 2 + 10 * x[:, 3] + 5 * x[:, 4]
    truth = truth[:, None]
    v = torch.where(torch.rand(3000, 1) < 0.1, 0.1, 100.0).double()
    y = truth + v.sqrt() * torch.randn(3000, 1, dtype=torch.float64)

    def rmse(predictions):
        return (predictions - truth[2000:]).square().mean().sqrt().item()

    # Normalised, as libbiv does it by itself.
    scaled = (x - x[:2000].mean(0)) / x[:2000].std(0)
    mean, std = y[:2000].mean(), y[:2000].std()
    errors = []
    for options in (b'{"kind": "mse"}', b'{"kind": "biv", "epsilon": 0.1}'):
        network = own_network(options, scaled[:2000], (y[:2000] - mean) / std, v[:2000] / std**2)
        with torch.no_grad():
            errors.append(rmse(network(scaled[2000:]) * std + mean))
        print(f"own network, {options.decode()}: RMSE {errors[-1]:.2f}")

    single = x.float()
    data = made(biv.biv_dataset_create_from_dlpack, handed_over(single[:2000]), handed_over(y[:2000]),
                handed_over(v[:2000]), None, None, None)
    model = made(biv.biv_model_create, b'{"kind": "mlp", "inputs": 5, "hidden": [64]}')
    trainer = made(biv.biv_trainer_create, model, data, b'{"batch_size": 100, "learning_rate": 0.01}')
    check(biv.biv_trainer_fit(trainer, 30, None, None, None))
    predictions = torch.empty(1000, 1, dtype=torch.float64)
    check(biv.biv_model_predict_dlpack(model, handed_over(single[2000:]), handed_over(predictions)))
    print(f"libbiv's network: RMSE {rmse(predictions):.2f}")
    biv.biv_trainer_free(trainer)
    biv.biv_model_free(model)
    biv.biv_dataset_free(data)
    assert errors[1] < errors[0]


if __name__ == "__main__":
    main()
