#!/usr/bin/env python3
"""Interpreters that end while daemon threads of theirs are in the library, by ctypes: in training, or in a callback, where
Python ends them. Nothing crashes and nothing hangs.

  BIV_LIBRARY=build/install/lib/libbiv.so tests/python/exit.py

BIV_EXITS=N for N interpreters of each kind (1).
"""

import ctypes
import os
import pathlib
import subprocess
import sys
import threading
import time

LIBRARY = os.environ.get("BIV_LIBRARY") or pathlib.Path(__file__).parents[2] / "build/install/lib/libbiv.so"
# Each thread trains for ever.
EPOCHS = 10**9


def end(kind):
    """An interpreter that ends while two threads train or, where `kind` says so, are in a callback."""
    biv = ctypes.CDLL(str(LIBRARY))
    biv.biv_last_error_message.restype = ctypes.c_char_p
    biv.biv_trainer_fit.argtypes = [ctypes.c_void_p, ctypes.c_int64] + [ctypes.c_void_p] * 3
    inside = threading.Semaphore(0)

    def made(function, *arguments):
        handle = ctypes.c_void_p()
        assert function(*arguments, ctypes.byref(handle)) == 0, biv.biv_last_error_message()
        return handle

    @ctypes.CFUNCTYPE(ctypes.c_int32, ctypes.c_void_p, ctypes.c_void_p)
    def stay(user, epoch):
        # After each sleep the thread wants the interpreter's lock, and is ended when the interpreter leaves.
        inside.release()
        while True:
            time.sleep(0.001)

    precision = b"bf16" if "bf16" in kind else b"f32"
    options = b'{"batch_size": 16, "loss": {"kind": "mse"}, "precision": "%s"}' % precision
    callback = ctypes.cast(stay, ctypes.c_void_p) if "callback" in kind else None
    data = made(biv.biv_dataset_create_synthetic, b'{"rows": 64, "features": 5}')
    for _ in range(2):
        model = made(biv.biv_model_create, b'{"kind": "mlp", "inputs": 5, "hidden": [8]}')
        trainer = made(biv.biv_trainer_create, model, data, options)
        threading.Thread(target=biv.biv_trainer_fit, args=(trainer, EPOCHS, None, callback, None), daemon=True).start()
    for _ in range(2):
        inside.acquire() if callback else time.sleep(0.1)
    print("the end", flush=True)


def main():
    kinds = ["callback", "training in f32", "training in bf16"]
    times = int(os.environ.get("BIV_EXITS", 1))
    failures = []
    for kind in kinds * times:
        try:
            found = subprocess.run([sys.executable, __file__, kind], capture_output=True, text=True, timeout=120)
            ended = (found.returncode, found.stdout, found.stderr)
        except subprocess.TimeoutExpired:
            ended = "hangs"
        if ended != (0, "the end\n", ""):
            failures.append(f"{kind}: {ended}")
    print("\n".join(failures) or f"python: {len(kinds) * times} interpreters ended while their threads were in the library")
    return len(failures) > 0


if __name__ == "__main__":
    sys.exit(end(sys.argv[1]) if len(sys.argv) > 1 else main())
