#!/usr/bin/env python3
"""A network of one's own in PyTorch, trained with libbiv's loss: biv.loss() gives the gradient by the predictions, and
autograd takes it from there. A second network is libbiv's: its data and its predictions are PyTorch's tensors, which go
over by DLPack and are not copied.

It needs the Python package (bindings/python). A process has one libtorch, here PyTorch's, which must be of the version
that libbiv was built for (docs/linking.md).
"""

import math

import biv
import torch


class Loss(torch.autograd.Function):
    """A loss of libbiv's, for `loss.backward()`."""

    @staticmethod
    def forward(context, predictions, labels, variances, kind):
        found = biv.loss(kind, predictions.detach(), labels, variances)
        context.save_for_backward(torch.from_numpy(found.gradient))
        return predictions.new_tensor(found.value)

    @staticmethod
    def backward(context, upstream):
        return upstream * context.saved_tensors[0], None, None, None


def own_network(kind, x, y, v):
    torch.manual_seed(1)
    network = torch.nn.Sequential(torch.nn.Linear(5, 64), torch.nn.SiLU(), torch.nn.Linear(64, 1)).double()
    adam = torch.optim.Adam(network.parameters(), lr=0.01)
    for _ in range(30):
        for rows in torch.randperm(len(x)).split(100):
            adam.zero_grad()
            Loss.apply(network(x[rows]), y[rows], v[rows], kind).backward()
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
    for kind in ({"kind": "mse"}, {"kind": "biv", "epsilon": 0.1}):
        network = own_network(kind, scaled[:2000], (y[:2000] - mean) / std, v[:2000] / std**2)
        with torch.no_grad():
            errors.append(rmse(network(scaled[2000:]) * std + mean))
        print(f"own network, {kind}: RMSE {errors[-1]:.2f}")

    single = x.float()
    data = biv.Dataset.from_dlpack(single[:2000], y[:2000], variances=v[:2000])
    model = biv.Model(kind="mlp", inputs=5, hidden=[64])
    biv.Trainer(model, data, batch_size=100, learning_rate=0.01).fit(30)
    predictions = torch.empty(1000, 1, dtype=torch.float64)
    model.predict_dlpack(single[2000:], predictions)
    print(f"libbiv's network: RMSE {rmse(predictions):.2f}")
    assert errors[1] < errors[0]


if __name__ == "__main__":
    main()
