#!/usr/bin/env python3
"""Times PyTorch's training on a GPU, as examples/gpu.rs does libbiv's, and writes the table of both.

python3 gpu.py                  one line of JSON for each figure; nothing where there is no GPU
python3 gpu.py --report FILE    from such lines on standard input, FILE in Markdown
"""

import argparse
import json
import platform
import statistics
import sys
import time

EPOCHS = 5
BATCH = 256


def mlp(nn):
    widths = [19, 100, 50, 20, 10, 1]
    layers = []
    for inputs, outputs in zip(widths, widths[1:]):
        layers += [nn.Linear(inputs, outputs), nn.ReLU()]
    return nn.Sequential(*layers[:-1])


def resnet18(nn):
    """torchvision's, for one label."""

    class Block(nn.Module):
        def __init__(self, inputs, outputs, stride):
            super().__init__()
            self.conv1 = nn.Conv2d(inputs, outputs, 3, stride, 1, bias=False)
            self.bn1 = nn.BatchNorm2d(outputs)
            self.conv2 = nn.Conv2d(outputs, outputs, 3, 1, 1, bias=False)
            self.bn2 = nn.BatchNorm2d(outputs)
            self.relu = nn.ReLU(inplace=True)
            self.downsample = nn.Identity() if stride == 1 and inputs == outputs else nn.Sequential(
                nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))

        def forward(self, x):
            y = self.relu(self.bn1(self.conv1(x)))
            return self.relu(self.bn2(self.conv2(y)) + self.downsample(x))

    blocks, width = [], 64
    for stage in range(4):
        for block in range(2):
            outputs = 64 << stage
            blocks.append(Block(width, outputs, 2 if stage and not block else 1))
            width = outputs
    return nn.Sequential(nn.Conv2d(3, 64, 7, 2, 3, bias=False), nn.BatchNorm2d(64), nn.ReLU(inplace=True),
                         nn.MaxPool2d(3, 2, 1), *blocks, nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(512, 1))


def biv(torch, predictions, labels, variances):
    weights = 1 / (variances + 0.1)
    return (weights * (predictions - labels).square()).sum() / weights.sum()


# How it is compiled, whether triton's convolutions are tried beside cuDNN's, and Adam's options; of which network. What
# takes long to compile comes last.
VARIANTS = {
    "PyTorch, eager": (None, False, {}, ("mlp", "resnet18")),
    "PyTorch, eager, fused Adam": (None, False, {"fused": True}, ("mlp", "resnet18")),
    "PyTorch, torch.compile, fused Adam": ("default", False, {"fused": True}, ("mlp", "resnet18")),
    "PyTorch, torch.compile(mode=max-autotune) with cuDNN's convolutions, fused Adam":
        ("max-autotune", False, {"fused": True}, ("resnet18",)),
    "PyTorch, torch.compile(mode=max-autotune), fused Adam": ("max-autotune", True, {"fused": True}, ("mlp", "resnet18")),
}


def train(torch, device, what, variant, rows, size):
    """The median time of a step in microseconds: data on the device, losses read at an epoch's end."""
    images = what == "resnet18"
    mode, triton, options, _ = VARIANTS[variant]
    network = (resnet18 if images else mlp)(torch.nn).to(device)
    if images:
        network = network.to(memory_format=torch.channels_last)
        features = torch.randint(256, (rows, 3, size, size), dtype=torch.uint8, device=device)
        features = features.contiguous(memory_format=torch.channels_last)
    else:
        features = torch.randn(rows, 19, device=device)
    labels = torch.randn(rows, 1, device=device)
    variances = torch.rand(rows, 1, device=device)
    adam = torch.optim.Adam(network.parameters(), lr=1e-3, **options)

    def loss_of(x, y, v):
        if images:
            x = x.float().mul(1 / 127.5).sub(1)
        with torch.autocast(device, torch.bfloat16, enabled=images):
            predictions = network(x)
        return biv(torch, predictions.float(), y, v)

    compute = loss_of
    if mode:
        import torch._inductor.config

        torch._dynamo.reset()
        torch._inductor.config.max_autotune_conv_backends = "ATEN,TRITON" if triton else "ATEN"
        compute = torch.compile(loss_of, mode=mode)

    def epoch():
        order = torch.randperm(rows, device=device)
        losses = []
        start = time.perf_counter()
        for batch in order.split(BATCH):
            adam.zero_grad(set_to_none=True)
            loss = compute(features[batch], labels[batch], variances[batch])
            loss.backward()
            adam.step()
            losses.append(loss.detach().clone())
        assert torch.stack(losses).isfinite().all()
        return (time.perf_counter() - start) * 1e6 / len(losses)

    for _ in range(2):
        epoch()
    return statistics.median(epoch() for _ in range(EPOCHS))


def measure(device, sizes):
    import torch

    if device == "cuda" and not torch.cuda.is_available():
        print("gpu.py: there is no CUDA device, nothing was timed", file=sys.stderr)
        return
    torch.backends.cudnn.benchmark = True
    if device == "cuda":
        print(json.dumps({"gpu": torch.cuda.get_device_name(), "torch": torch.__version__,
                          "cuda": torch.version.cuda, "host": f"{platform.system()} {platform.machine()}"}))
    for variant, (_, _, _, networks) in VARIANTS.items():
        for what in networks:
            rows, size = sizes[what]
            try:
                us = train(torch, device, what, variant, rows, size)
            except Exception as error:  # A machine without a C compiler cannot compile; the other figures stand.
                print(f"gpu.py: {what}, {variant}: {error}", file=sys.stderr)
                continue
            print(json.dumps({"what": what, "variant": variant, "us": round(us, 1)}), flush=True)


TITLES = {"mlp": "Multi-layer perceptron 19-100-50-20-10-1, f32, batch 256",
          "resnet18": "ResNet-18, 3 x 200 x 200, bf16 channels-last, batch 256"}


def report(lines, path):
    records = [json.loads(line) for line in lines if line.startswith("{")]
    machine = next((record for record in records if "gpu" in record), {})
    text = ["# Training on a GPU", "",
            f"{machine.get('gpu', 'unknown GPU')}, PyTorch and libtorch {machine.get('torch', '?')}, "
            f"CUDA {machine.get('cuda', '?')}, {machine.get('host', '?')}. Written by `run.sh` of `make gpu-check`.", "",
            "A step gathers the mini-batch from data on the GPU and runs forward, the BIV loss, backward and Adam. Its time is",
            "that of an epoch divided by its steps, as the median of the epochs. Both sides search for the fastest convolution",
            "(PyTorch by `torch.backends.cudnn.benchmark`).", ""]
    for what, title in TITLES.items():
        figures = {record["variant"]: record["us"] for record in records if record.get("what") == what}
        if not figures:
            continue
        eager = figures.get("PyTorch, eager")
        text += [f"## {title}", "", "| | µs per step | rows/s | times as fast as PyTorch eager |", "|---|---|---|---|"]
        for variant, us in figures.items():
            times = f"{eager / us:.2f}" if eager else ""
            text.append(f"| {variant} | {us:.1f} | {BATCH * 1e6 / us:,.0f} | {times} |")
        text.append("")
    with open(path, "w", encoding="utf-8") as file:
        file.write("\n".join(text))


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--report", metavar="FILE")
    parser.add_argument("--trial", action="store_true", help="a few small steps on the CPU, to try the program")
    options = parser.parse_args()
    if options.report:
        report(sys.stdin, options.report)
    elif options.trial:
        measure("cpu", {"mlp": (512, 0), "resnet18": (256, 32)})
    else:
        measure("cuda", {"mlp": (51_200, 0), "resnet18": (2560, 200)})


if __name__ == "__main__":
    main()
