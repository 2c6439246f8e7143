#!/usr/bin/env python3
"""Writes the seeds of the corpora: small valid inputs of every kind, for the fuzzer to change.

Run from this folder after `cargo build --release` in the one above; the images are drawn by `biv faces`.
"""

import base64
import pathlib
import random
import subprocess
import tempfile

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent


def seed(target, name, data):
    folder = HERE / "corpus" / target
    folder.mkdir(parents=True, exist_ok=True)
    (folder / name).write_bytes(data)


OPTIONS = {
    0: ['{"kind": "mlp", "inputs": 3, "hidden": [4, 2], "batch_norm": true, "outputs": 2, "seed": 1}',
        '{"kind": "vanilla_ann", "dataset": "wine"}', '{"kind": "vanilla_cnn", "height": 64, "width": 64}',
        '{"kind": "resnet", "depth": 34, "height": 32, "width": 32}',
        '{"kind": "mlp", "inputs": 3.0, "hidden": 4e0, "seed": 1e3}',
        '{"kind": "ensemble", "members": 2, "network": {"kind": "mlp", "inputs": 3, "hidden": []}}'],
    1: ['{"loss": {"kind": "biv", "epsilon": {"min_effective_batch_ratio": 0.5}}, "batch_size": 8, "precision": "bf16"}',
        '{"adam": {"beta1": 0.8, "weight_decay": 0.1}, "learning_rate": 1e-3, "normalize": false, "device": "cpu"}',
        '{"optimizer": {"kind": "sgd", "momentum": 0.9, "nesterov": true}, "clip_norm": 1,'
        ' "schedule": {"kind": "cosine", "epochs": 9, "warmup_steps": 5}}'],
    2: ['{"kind": "iv", "epsilon": 0.5}', '{"kind": "biv", "epsilon": {"min_effective_batch_size": 2}}',
        '{"kind": "cutoff_mse", "threshold": 3}', '{"kind": "mse"}'],
    3: ['{"distribution": {"kind": "gamma", "mean": 1, "variance": 2}, "relative": true, "seed": 4}',
        '{"distribution": {"kind": "uniform", "low": 0, "high": 1}}'],
    4: ['{"kind": "binary_uniform", "components": {"low": 0, "high": 1}}', '{"kind": "gamma", "alpha": 1, "beta": 2}'],
    5: ['{"train_size": 5, "test_size": 3, "shuffle": true, "seed": 2, "keep_groups": true}'],
    6: ['{"rows": 20, "features": 6, "outputs": 2, "seed": 3}'],
    7: ['{"labels": ["y"], "standard_errors": ["s"], "error_divisor": 1.645, "one_hot": ["c"], "cyclic": {"h": 24}}',
        '{"labels": "y", "variances": "v", "features": "x", "one_hot": "k", "categories": {"k": "a"}, "cyclic": []}'],
    8: ['{"size": {"height": 8, "width": 8}, "corrupt": "skip", "memory_limit": 100}',
        '{"size": 64, "subfolders": true, "orientation": "exif"}'],
    9: ['{"dataset": {"kind": "synthetic", "train_size": 50, "test_size": 20}, "epochs": 2, "eval_every": {"steps": 7}}',
        '{"settings": {"experiment_settings": "a,1,bike,True,700", "model_settings": "vanilla_ann,biv,0.5",'
        ' "noise_settings": "True,gamma", "params_settings": "meanvar", "parameters": "2,1"}}'],
    10: ['{"base": {"epochs": 1}, "grid": {"seeds": [1, 2], "losses": [{"kind": "mse"}], "noises": [false],'
         ' "variants": [{"name": "a", "epochs": 2}]}, "jobs": 2}',
         '{"base": [], "grid": {"seeds": 1, "losses": {"kind": "mse"}, "noises": false}}'],
}
SETTINGS = [
    "a,1,bike,True,700\nvanilla_ann,biv,0.5\nFalse",
    "a,1,utkface,False,16000\nresnet,cutoffMSE,3\nTrue,uniform\nboundaries\n0,1\n64,0,True,0.001",
    "t,7,bike,True,7000\nvanilla_ann,iv,0.1\nTrue,binary_uniform\nmeanvar_avg,0.5,2\n1,2,3,4\n256,0,False,0.01",
    "t,7,bike,True,7000\nvanilla_ann,mse\nTrue,gamma\nalphabeta\n1,2\n256,1,True,0.01",
]
CSV = ["y,v,a,b\n1,2,3,4\n5,6,7,8\n", "y;v;a\n1;2;3\n", "y,z,a,b,c\n1,2,3,4,x\n1,2,3,4,y\n", '"y","a"\n"1e3",\n', "y\ta\n1\t2\n"]


WEBP = {
    "lossy": "UklGRiIAAABXRUJQVlA4IBYAAAAwAQCdASoBAAEADsD+JaQAA3AAAAAA",
    "lossless": "UklGRhoAAABXRUJQVlA4TA0AAAAvAAAAEAcQERGIiP4HAA==",
    "alpha": "UklGRkoAAABXRUJQVlA4WAoAAAAQAAAAAAAAAAAAQUxQSAwAAAARBxAR/Q9ERP8DAABWUDggGAAAABQBAJ0BKgEAAQAAAP4AAA3AAP7mtQAAAA==",
    "animation": "UklGRlIAAABXRUJQVlA4WAoAAAASAAAAAAAAAAAAQU5JTQYAAAD/////AABBTk1GJgAAAAAAAAAAAAAAAAAAAGQAAABWUDhMDQAAAC8AAAAQBxAREYiI"
                 "/gcA",
}


def main():
    for which, texts in OPTIONS.items():
        for number, text in enumerate(texts):
            seed("options", f"{which}-{number}", bytes([which]) + text.encode())
    for number, text in enumerate(SETTINGS):
        seed("settings", str(number), text.encode())
    for number, text in enumerate(CSV):
        for which in range(6):
            seed("csv", f"{which}-{number}", bytes([which]) + text.encode())
    with tempfile.TemporaryDirectory() as folder:
        faces = [str(ROOT / "target/release/biv"), "faces", folder, "--count", "2", "--size", "16"]
        subprocess.run(faces, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        for number, file in enumerate(sorted(pathlib.Path(folder).rglob("*.jp*g"))[:2]):
            jpeg = file.read_bytes()
            for which in (0, 2):
                seed("image", f"{which}-{number}", bytes([which]) + jpeg)
            # Turned, with a picture of its own in EXIF, bytes that fill and a comment with markers; a video after it.
            exif = b"Exif\0\0II*\0\x08\0\0\0\x01\0\x12\1\3\0\1\0\0\0\6\0\0\0\0\0\0\0" + jpeg
            exif = b"\xff\xe1" + (len(exif) + 2).to_bytes(2, "big") + exif
            comment = b"\xff\xff\xfe\0\x08\xff\xd9\xff\xda\xff\xd8"
            video = b"\0\0\0\x18ftypmp42\0\0\0\0mp42isom\0\0\0\x12mdat\xff\xda\0\x08\xff\xd8\xff\xd9"
            seed("image", f"jpeg-appended-{number}", b"\0" + jpeg + video)
            seed("image", f"jpeg-exif-{number}", bytes([6]) + jpeg[:2] + exif + comment + jpeg[2:] + video)
            seed("image", f"jpeg-twice-{number}", b"\0" + jpeg[:-2] + jpeg)
    # The smallest PNG: one grey pixel.
    png = bytes.fromhex(
        "89504e470d0a1a0a0000000d4948445200000001000000010800000000"
        "3a7e9b550000000a49444154789c6360000000020001489d3e5a0000000049454e44ae426082")
    for which in (0, 1, 3, 5):
        seed("image", f"png-{which}", bytes([which]) + png)
    # The smallest WebP of each kind: lossy, lossless, with transparency, animated.
    for name, webp in WEBP.items():
        seed("image", f"webp-{name}", b"\1" + base64.b64decode(webp))
    for file in sorted((ROOT / "tests/golden").glob("*.biv")):
        if file.stat().st_size < 4000:
            for which in (0, 1):
                seed("checkpoint", f"{file.stem}-{which}", bytes([which]) + file.read_bytes())
    model = b'{"kind": "mlp", "inputs": 1, "hidden": [1]}'
    tensors = b"".join(b"\0model.%s\0%s" % (name, values) for name, values in
                       [(b"0.weight", b"\1"), (b"0.bias", b"\2"), (b"2.weight", b"\1"), (b"2.bias", b"\4")])
    statistics = b"".join(b"\0normalization.%s\0\xff\3" % name for name in
                          [b"feature_mean", b"feature_std", b"label_mean", b"label_std"])
    seed("checkpoint", "model", bytes([128]) + model + tensors)
    seed("checkpoint", "model-normalized", bytes([128]) + model + tensors + statistics)
    state = b'{"model": %s, "trainer": {"batch_size": 2}, "steps": 1, "position": {"epoch": 1, "batch": 1}, "rows": 8}' % model
    moments = b"".join(b"\0adam.%s.%d\0\1" % (name, at) for name in (b"mean", b"square") for at in range(4))
    seed("checkpoint", "trainer", bytes([129]) + state + tensors + moments)
    seed("checkpoint", "trainer-normalized", bytes([129]) + state + tensors + moments + statistics)
    # The model's tensors, in each type; then with names that PyTorch's wrappers give, and one left over.
    for kind in range(4):
        seed("import", f"whole-{kind}", b"\1" + b"".join(bytes([name, 0, kind, name, 60]) for name in range(4)))
    seed("import", "wrapped", b"\3" + b"".join(bytes([name, name, 0, name, 61]) for name in range(4)) + b"\4\0\4\3\0")
    numbers = random.Random(1)
    for number in range(8):
        # Data set, model, trainer, steps: then anything.
        start = bytes([0, 8, 1, 1, 1, 1, 1, 3, 0, 2, 1, 1, 1, 1, 4, 3, 1])
        seed("calls", str(number), start + numbers.randbytes(40 * number))
    for number in range(8):
        seed("dlpack", str(number), numbers.randbytes(60 * (number + 1)))


if __name__ == "__main__":
    main()
