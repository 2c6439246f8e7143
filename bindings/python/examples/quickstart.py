"""A model with error bars in one call: every second label is far noisier than the others, and fit finds out what that
means. Then the same by hand, with a network and a loss of one's own choice."""

import biv
import numpy as np

rng = np.random.default_rng(1)
x = rng.random((2000, 2))
v = np.where(np.arange(2000) % 2, 4.0, 0.01)


def f(x):
    return np.sin(6 * x[:, 0]) + 2 * x[:, 1]


y = f(x) + np.sqrt(v) * rng.normal(size=2000)

model, report = biv.fit(x, y, variances=v, members=3, epochs=40, batch_size=64)
found = report["outputs"][0]["variance_model"]
stop = f"stopped after epoch {report['stop_epoch']} of {report['epochs']}"
print(f"epsilon {found['epsilon']:.2g} ({found['verdict']}), {stop}")
for warning in report["warnings"]:
    print(warning)

new = rng.random((1000, 2))
predictions, variances = model.predict_with_variance(new)
error = np.sqrt(np.mean((predictions - f(new)) ** 2))
print(f"RMSE against the truth {error:.3f}, as the error bars say {np.sqrt(variances.mean()):.3f}")

train, validation = biv.Dataset(x, y, variances=v).split(train_size=1600)
network = biv.Model(kind="mlp", inputs=2, hidden=[64, 32])
trainer = biv.Trainer(network, train, loss={"kind": "biv", "epsilon": 0.1}, batch_size=64, patience=10)
trainer.set_validation(validation)


def listen(epoch):
    if epoch.epoch % 10 == 0:
        print(f"epoch {epoch.epoch}: validation loss {epoch.validation_loss:.3f}")


trainer.fit(100, callback=listen)
print(trainer, f"RMSE against the truth {np.sqrt(np.mean((network.predict(new) - f(new)) ** 2)):.3f}")
