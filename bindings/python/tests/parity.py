"""The parity experiment from Python: see tests/parity/run.sh."""

import sys

import biv
import numpy as np

biv.set_threads(1)
train, test = biv.Dataset.synthetic(rows=600, features=10, seed=7).split(train_size=500, test_size=100, seed=7)
noisy = train.add_noise(distribution={"kind": "gamma", "mean": 20, "variance": 400}, seed=7)
trainer = biv.Trainer(biv.Model(kind="mlp", inputs=10, hidden=[32, 16], seed=7), noisy,
                      loss={"kind": "biv", "epsilon": 0.1}, batch_size=25, learning_rate=0.01, seed=7)
losses = [trainer.step().loss for _ in range(20)]
np.array([*losses, trainer.evaluate(test).rmse, *trainer.predict(test.features())]).tofile(sys.argv[1])
