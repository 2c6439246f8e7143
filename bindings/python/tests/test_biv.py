"""Data sets, models, trainers, fits."""

import contextlib
import copy
import gc
import math
import os
import pathlib
import pickle
import signal
import tempfile
import threading
import time
import unittest

import biv
import numpy as np
from biv import _callbacks, _library

X = np.array([[10.0 * j + i for j in range(1, 4)] for i in range(1, 7)])
Y = np.arange(1.0, 7.0)


def small():
    return biv.Dataset.synthetic(rows=200, features=5).add_noise(distribution={"kind": "gamma", "mean": 5, "variance": 50})


def small_model(**fields):
    return biv.Model(**{"kind": "mlp", "inputs": 5, "hidden": [8]} | fields)


def truth(x):
    return np.sin(4 * x[:, 0]) + 2 * x[:, 1]


def binary_noise(seed, rows=1000):
    rng = np.random.default_rng(seed)
    x, v = rng.random((rows, 2)), np.where(np.arange(rows) % 2, 0.01, 4.0)
    return x, truth(x) + np.sqrt(v) * rng.normal(size=rows), v


class Frame:
    """What a data frame is to the package."""

    def __init__(self, values, names):
        self.values, self.columns = values, names

    def __array__(self, dtype=None, copy=None):
        return self.values

    def __getitem__(self, names):
        return Frame(self.values[:, [self.columns.index(name) for name in names]], names)


class Case(unittest.TestCase):
    @contextlib.contextmanager
    def refused(self, status, text):
        """The block raises an Error of that status whose message says `text`."""
        with self.assertRaises(biv.Error) as caught:
            yield
        self.assertEqual(caught.exception.status, status)
        self.assertIn(text, caught.exception.message)

    def same(self, found, expected):
        np.testing.assert_array_equal(found, expected)

    def setUp(self):
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = pathlib.Path(folder.name)


class Datasets(Case):
    def test_arrays_keep_their_order(self):
        data = biv.Dataset(X, Y, variances=2 * Y)
        self.assertEqual(data.info(), (6, 3, 1, True, False, 0, 0))
        self.assertEqual(len(data), 6)
        self.same(data.features(), X), self.same(data.labels(), Y), self.same(data.variances(), 2 * Y)
        for view in (X.astype(np.float32), X.astype(int), np.asfortranarray(X), X.T, X[::-1, ::2], X.astype(">f8"),
                     np.broadcast_to(X[:1], (6, 3))):
            self.same(biv.Dataset(view, view[:, 0]).features(), view)
        packed = np.zeros(6, dtype=[("flag", "i1"), ("x", "f8")])
        packed["x"] = Y
        self.same(biv.Dataset(packed["x"], Y).features()[:, 0], Y)
        self.same(biv.Dataset(X.tolist(), list(Y)).features(), X)
        self.same(biv.Dataset(X, Y, std=Y).variances(), Y**2)
        self.same(biv.Dataset(X, np.c_[Y, 2 * Y]).labels(), np.c_[Y, 2 * Y])
        images = np.arange(24, dtype=np.float32).reshape(2, 3, 2, 2)
        self.same(biv.Dataset(images, [1, 2]).features(), images.reshape(2, 12))
        self.same(data.subset([5, 0]).features(), X[[5, 0]])
        self.same(data.subset(Y > 4).labels(), [5, 6])
        self.same(sorted(data.shuffled(seed=3).labels()), Y)
        one, other = data.split(train_size=4)
        self.same(sorted([*one.labels(), *other.labels()]), Y)
        noisy = data.add_noise(distribution={"kind": "uniform", "low": 1, "high": 1})
        np.testing.assert_allclose(noisy.variances(), 2 * Y + 1)
        self.same(noisy.clean_labels(), Y)
        self.assertFalse((noisy.labels() == Y).all())

    def test_what_is_wrong_is_said(self):
        with self.refused("SHAPE", "labels have 5 rows, the features have 6"):
            biv.Dataset(X, Y[1:])
        with self.refused("INVALID_ARGUMENT", "row 6, feature 0: NaN"):
            biv.Dataset(np.r_[X, [[math.nan, 0, 0]]], np.r_[Y, 1])
        with self.refused("INVALID_ARGUMENT", "row 0, variance 0: -1 must not be negative"):
            biv.Dataset(X, Y, variances=-Y)
        with self.refused("INVALID_CONFIG", "model.hidden[1]: is -1, must be at least 1"):
            small_model(hidden=[8, -1])
        with self.refused("INVALID_CONFIG", "synthetic.row: is no known field (did you mean 'rows'?)"):
            biv.Dataset.synthetic(row=3)
        with self.refused("NOT_FOUND", "nowhere.csv"):
            biv.Dataset.read_csv("nowhere.csv", labels="y")
        with self.refused("INVALID_ARGUMENT", "6"):
            biv.Dataset(X, Y).subset([6])
        table = self.folder / "t.csv"
        table.write_text("a,y\n1,2\n3,x\n")
        with self.refused("PARSE", "line 3, row 2, column 'y': 'x'"):
            biv.Dataset.read_csv(table, labels="y")
        for kind, make in (
            (ValueError, lambda: biv.Dataset(X, Y[1:])),
            (LookupError, lambda: biv.Dataset.read_csv("nowhere.csv", labels="y")),
            (MemoryError, lambda: biv.Dataset.synthetic(rows=2**50)),
        ):
            with self.assertRaises(kind) as caught:
                make()
            error = caught.exception
            again = pickle.loads(pickle.dumps(error))
            self.assertEqual((type(again), again.code, str(again)),
                             (type(error), error.code, f"{error.message} ({error.status})"))
        for text, make in (
            ("not both", lambda: biv.Dataset(X, Y, variances=Y, std=Y)),
            ("an array of real numbers is needed, not of <U1", lambda: biv.Dataset(["a"], [1])),
            ("an array of real numbers is needed, not of complex128", lambda: biv.Dataset(X, Y + 1j)),
            ("seed is -1, must be from 0 to 18446744073709551615", lambda: small().shuffled(seed=-1)),
            ("not JSON compliant", lambda: biv.Trainer(small_model(), small(), learning_rate=math.nan)),
        ):
            with self.assertRaisesRegex(ValueError, text):
                make()
        with self.assertRaisesRegex(TypeError, "an option is <object"):
            small_model(seed=object())

    def test_masks_and_groups(self):
        for mask in ([math.nan, *Y[1:]], np.array([None, *Y[1:]]), np.ma.masked_equal(Y, 1)):
            masked = biv.Dataset(X, mask, missing_labels="mask")
            self.assertEqual(masked.info().masked_labels, 1)
            self.same(masked.labels(), [math.nan, *Y[1:]])
            with self.refused("INVALID_ARGUMENT", "row 0, label 0"):
                biv.Dataset(X, mask)
        self.assertIn("2 labels masked", repr(biv.Dataset(X, Y, variances=[*Y[:4], math.inf, math.inf])))
        with self.refused("INVALID_CONFIG", "drop"):
            biv.Dataset(X, Y, missing_labels="drop")
        with self.refused("SHAPE", "groups"):
            biv.Dataset(X, Y, groups=range(5))
        # Two groups are two folds, and no more. Texts are the same groups in all data sets.
        rng = np.random.default_rng(1)

        def of(*groups):
            return biv.Dataset(rng.random((30, 2)), rng.random(30), groups=groups * 15)

        data = of("north", "south")
        self.assertEqual(biv.fit(data, members=2, epochs=1)[1]["rows"], 30)
        with self.refused("INVALID_ARGUMENT", "group"):
            biv.fit(data, members=3, epochs=1)
        grown = data.append(of("south", "east"))
        self.assertEqual(biv.fit(grown, members=3, epochs=1)[1]["rows"], 60)
        with self.refused("INVALID_ARGUMENT", "group"):
            biv.fit(grown, members=4, epochs=1)

    def test_data_that_grow(self):
        def part(rows):
            return biv.Dataset(X[rows], Y[rows], variances=Y[rows])

        grown = part(slice(0, 4)).append(part(slice(4, 6)))
        self.same(grown.labels(), Y), self.same(grown.features(), X), self.same(grown.variances(), Y)
        self.same(grown.latest(2).labels(), Y[4:]), self.same(grown.latest(9).labels(), Y)
        self.same(grown.with_variances(2 * Y).variances(), 2 * Y), self.same(grown.with_variances(std=Y).variances(), Y**2)
        with self.refused("INVALID_ARGUMENT", "have none"):
            grown.append(biv.Dataset(X, Y))
        trainers = [biv.Trainer(biv.Model(kind="mlp", inputs=3, hidden=[4]), grown, batch_size=2) for _ in range(2)]
        for _ in range(4):
            trainers[1].set_data(grown)
            self.assertEqual(trainers[0].step(), trainers[1].step())
        with self.refused("SHAPE", "features"):
            trainers[1].set_data(biv.Dataset.synthetic(rows=5, features=9))

    def test_data_frames(self):
        """Features are found by their names."""
        frame = Frame(X, ["a", "b", "c"])
        data = biv.Dataset(frame, Y)
        self.assertEqual([field["name"] for field in data.describe()["columns"]["features"]], ["a", "b", "c"])
        model = biv.Model(kind="mlp", inputs=3, hidden=[4])
        trainer = biv.Trainer(model, data, loss={"kind": "mse"}, batch_size=6)
        trainer.fit(3)
        expected, other = model.predict(X), Frame(np.c_[X[:, ::-1], Y], ["c", "b", "a", "d"])
        self.same(model.predict(other), expected), self.same(trainer.predict(other), expected)
        with self.assertRaisesRegex(ValueError, "there is no column 'b', but a, c"):
            model.predict(frame[["a", "c"]])
        self.same(biv.Model(kind="mlp", inputs=3, hidden=[4]).predict(frame).shape, (6,))
        (self.folder / "k.csv").write_text("y,k\n1,r\n2,b\n3,r\n")
        table = biv.Dataset.read_csv(self.folder / "k.csv", labels="y", one_hot="k")
        with self.assertRaisesRegex(ValueError, "the model codes the column 'k'"):
            biv.fit(table, members=1, epochs=1)[0].predict(Frame(np.zeros((1, 1)), ["k"]))

    def test_dlpack(self):
        x, y, v = X.astype(np.float32), Y.copy(), 2 * Y
        data = biv.Dataset.from_dlpack(x, y, variances=v)
        x[2, 1], y[3], v[4] = 41, 42, 43
        self.assertEqual((data.features()[2, 1], data.labels()[3], data.variances()[4]), (41, 42, 43))
        with self.refused("SHAPE", "labels have 5 rows"):
            biv.Dataset.from_dlpack(x, y[:5])
        model, out = biv.Model(kind="mlp", inputs=3, hidden=[4]), np.zeros(6)
        model.predict_dlpack(x, out)
        self.same(out, model.predict(x))

    def test_objects(self):
        data, model = small(), small_model()
        trainer = biv.Trainer(model, data, batch_size=50)
        self.assertEqual(repr(data), "Dataset(rows=200, features=5, outputs=1, variances known)")
        self.assertEqual(repr(model), "Model(mlp, inputs=5, outputs=1, parameters=57)")
        self.assertEqual(repr(trainer), "Trainer(loss=biv, device=cpu, epoch=0, steps=0)")
        with data as same:
            self.assertIs(same, data)
        self.assertTrue(data.closed)
        data.close()
        self.assertEqual(repr(data), "Dataset(closed)")
        with self.refused("INVALID_HANDLE", "NULL"):
            data.labels()
        self.assertTrue(math.isfinite(trainer.step().loss))
        for thing in (trainer, small()):
            with self.assertRaisesRegex(TypeError, "cannot be copied or pickled"):
                pickle.dumps(thing)
        for twin in (copy.copy(model), copy.deepcopy(model), pickle.loads(pickle.dumps(model))):
            self.same(twin.predict(X[:, [0, 1, 2, 0, 1]]), model.predict(X[:, [0, 1, 2, 0, 1]]))
        handle = trainer._handle
        del trainer
        gc.collect()
        self.assertEqual(_library.C.biv_trainer_cancel(handle), 2)


class Training(Case):
    def test_training(self):
        data, test = small().split(train_size=150)
        trainer = biv.Trainer(small_model(), data, batch_size=50, learning_rate=0.01)
        first = trainer.step()
        self.assertEqual((first.rows, first.epsilon), (50, 0.1))
        before, seen = trainer.evaluate(test).rmse, []
        self.assertTrue(trainer.fit(30, test=test, callback=seen.append))
        self.assertEqual([epoch.epoch for epoch in seen], list(range(1, 31)))
        self.assertEqual(seen[-1].test.rmse, trainer.evaluate(test).rmse)
        self.assertLess(seen[-1].test.rmse, before)
        predictions = trainer.predict(test.features())
        self.assertAlmostEqual(np.sqrt(np.mean((predictions - test.labels()) ** 2)), seen[-1].test.rmse, places=6)
        self.same(trainer.model.predict(np.asfortranarray(test.features())), predictions)
        trainer.learning_rate = 0.5
        self.assertEqual((trainer.learning_rate, trainer.progress().epoch), (0.5, 30))
        self.assertEqual(trainer.describe()["kernel"], "mlp_cpu")
        own = biv.Trainer(small_model(), loss={"kind": "mse"})
        self.assertEqual(own.step(test.features(), test.labels()).rows, 50)
        with self.refused("SHAPE", "3 features, the model has 5"):
            trainer.step(X, Y)
        with self.refused("INVALID_CONFIG", "trainer.loss.epsilon: is -1"):
            biv.Trainer(small_model(), data, loss={"kind": "biv", "epsilon": -1})
        with self.refused("INVALID_CONFIG", "learning_rate"):
            trainer.learning_rate = math.nan

    def test_callbacks_stop_raise_and_use_the_trainer(self):
        data = small()
        trainer, threads = biv.Trainer(small_model(), data, batch_size=50), set()

        def listen(epoch):
            threads.add(threading.current_thread())
            return trainer.evaluate(data).rmse > 0 and epoch.epoch < 3

        self.assertFalse(trainer.fit(10, callback=listen))
        self.assertEqual((trainer.progress().epoch, threads), (3, {threading.current_thread()}))

        def out_of_patience(_):
            raise ZeroDivisionError("out of patience")

        with self.assertRaisesRegex(ZeroDivisionError, "out of patience"):
            trainer.fit(10, callback=out_of_patience)
        self.assertTrue(trainer.fit(1))
        self.assertEqual(trainer.progress().epoch, 5)
        x, y, v = binary_noise(6, rows=300)
        settings = {"variances": v, "members": 2, "epochs": 6, "model": {"kind": "mlp", "inputs": 2, "hidden": [8]}}
        with self.assertRaisesRegex(ZeroDivisionError, "out of patience"):
            biv.fit(x, y, **settings, callback=out_of_patience)
        file = self.folder / "fit.biv"
        with self.assertRaises(biv.Cancelled):
            biv.fit(x, y, **settings, checkpoint=file, callback=lambda progress: progress.epoch < 2)
        epochs = []
        model, _ = biv.fit(x, y, **settings, checkpoint=file, callback=lambda progress: epochs.append(progress.epoch))
        self.assertGreaterEqual(min(epochs), 2)
        self.same(model.predict(x), biv.fit(x, y, **settings)[0].predict(x))

    def test_ctrl_c(self):
        """A signal ends a training that nothing else would end: no callback, or epochs without end."""
        x = np.random.default_rng(1).random((40_000, 5))
        trainer = biv.Trainer(small_model(hidden=[64, 64]), biv.Dataset(x, x[:, 0]), loss={"kind": "mse"}, batch_size=8)
        heard = threading.Event()

        def when_running():
            while trainer.progress().steps == 0:
                time.sleep(0.001)
            os.kill(os.getpid(), signal.SIGINT)

        threading.Thread(target=when_running).start()
        with self.assertRaises(KeyboardInterrupt):
            trainer.fit(2**40)
        self.assertTrue(math.isfinite(trainer.step().loss))
        self.assertFalse(trainer.progress().running)

        def interrupted(progress):
            if not heard.is_set():
                heard.set()
                os.kill(os.getpid(), signal.SIGINT)

        with self.assertRaises(KeyboardInterrupt):
            biv.fit(x[:200], x[:200, 0], epochs=2**40, callback=interrupted)
        self.assertTrue(heard.is_set())

    def test_what_stops_a_call(self):
        """A call that has no callback for a while is cancelled."""
        cancelled = threading.Event()

        def call(_):
            os.kill(os.getpid(), signal.SIGINT)
            cancelled.wait()
            return 0

        with self.assertRaises(KeyboardInterrupt):
            _callbacks.run(call, biv.Epoch, None, cancelled.set)
        with self.assertRaises(ZeroDivisionError):
            _callbacks.run(lambda _: 1 // 0, biv.Epoch, None)

    def test_several_threads(self):
        data, losses = small(), []

        def train():
            trainer = biv.Trainer(small_model(), data, batch_size=50)
            trainer.fit(20)
            losses.append(trainer.progress().loss)

        workers = [threading.Thread(target=train) for _ in range(4)]
        [worker.start() for worker in workers]
        [worker.join() for worker in workers]
        self.assertEqual(len(losses), 4)
        self.assertEqual(len(set(losses)), 1)

    def test_files(self):
        data = small()
        rows = data.features()
        trainer = biv.Trainer(small_model(), data, batch_size=50)
        trainer.fit(2)
        trainer.save(self.folder / "trainer.biv")
        trainer.model.save(self.folder / "model.biv")
        step = biv.Trainer.load(self.folder / "trainer.biv", data).step()
        self.assertEqual(biv.Trainer.load(trainer.to_bytes(), data).step(), step)
        other = data.subset(range(199, -1, -1))
        with self.refused("INVALID_ARGUMENT", "its rows are in another order"):
            biv.Trainer.load(self.folder / "trainer.biv", other)
        self.assertGreater(biv.Trainer.load(self.folder / "trainer.biv", other, accept_data=True).step().loss, 0)
        loaded = biv.Model.load(self.folder / "model.biv")
        expected = loaded.predict(rows)
        for twin in (biv.Model.load(self.folder / "trainer.biv"), biv.Model.load(loaded.to_bytes())):
            self.same(twin.predict(rows), expected)
        self.assertEqual(trainer.step(), step)
        loaded.export(self.folder / "weights.safetensors")
        loaded.export(self.folder / "model", format="onnx")
        self.assertGreater((self.folder / "model").stat().st_size, 0)
        with self.refused("INVALID_ARGUMENT", ".onnx or .safetensors"):
            loaded.export(self.folder / "model")
        twin = loaded.copy()
        twin.set_tensor("0.bias", np.zeros(8))
        self.same(twin.tensor("0.bias"), np.zeros(8))
        self.assertEqual(twin.tensor("0.weight").shape, (8, 5))
        self.assertFalse((twin.predict(rows) == expected).all())
        self.assertEqual(len(twin.import_weights(self.folder / "weights.safetensors")["imported"]), 4)
        self.same(twin.predict(rows), expected)
        with self.refused("NOT_FOUND", "9.bias"):
            twin.tensor("9.bias")
        with self.refused("SHAPE", "'0.bias'"):
            twin.set_tensor("0.bias", np.zeros(7))
        (self.folder / "broken.biv").write_text("hello")
        with self.refused("CORRUPT", "broken.biv"):
            biv.Model.load(self.folder / "broken.biv")
        (self.folder / "ü.csv").write_text("y,k,a,e\n2,r,1,1.645\n,r,2,1\n4,b,3,3.29\n")
        table = biv.Dataset.read_csv(self.folder / "ü.csv", labels=["y"], one_hot=["k"], standard_errors=["e"],
                                     error_divisor=1.645, skip_missing=True)
        np.testing.assert_allclose(table.variances(), [1, 4])
        said = table.describe()
        self.assertEqual([field["name"] for field in said["columns"]["features"]], ["k", "a"])
        self.assertEqual((said["left_out"], table.info().left_out), (["row 2: column 'y' is empty"], 1))

    def test_validation(self):
        x, y, v = binary_noise(7)
        train, validation = biv.Dataset(x, y, variances=v).split(train_size=700)
        trainer = biv.Trainer(biv.Model(kind="mlp", inputs=2, hidden=[32]), train, loss={"kind": "biv", "epsilon": "auto"},
                              batch_size=50, learning_rate=0.02, patience=3, normalization="labels")
        with self.refused("INVALID_ARGUMENT", "validation"):
            trainer.fit(1)
        trainer.set_validation(validation)
        seen = []
        self.assertTrue(trainer.fit(200, callback=seen.append))
        self.assertTrue(4 <= len(seen) < 200 and seen[-1].best_epoch == len(seen) - 3)
        self.assertEqual(trainer.evaluate(validation).rmse, trainer.model.evaluate(validation).rmse)

    def test_normalisation(self):
        model, inputs = small_model(), np.add.outer(np.arange(4.0), np.arange(5.0))
        self.assertIsNone(model.normalization()), self.assertIsNone(model.error_bars())
        before = model.predict(inputs)
        model.set_normalization(feature_mean=0, feature_std=1, label_mean=5, label_std=2)
        np.testing.assert_allclose(model.predict(inputs), 2 * before + 5, rtol=1e-5)
        scale = biv.Normalization(np.arange(5.0), np.array([2.0, 2, 2, 2, 4]), np.zeros(1), np.ones(1))
        model.set_normalization(**scale._asdict())
        for found, expected in zip(model.normalization(), scale):
            self.same(found, expected)
        model.reset_normalization()
        self.assertIsNone(model.normalization())
        with self.refused("INVALID_ARGUMENT", "no deviation"):
            model.set_normalization(feature_mean=0, feature_std=0, label_mean=0, label_std=1)


class Fits(Case):
    def test_fit(self):
        x, y, v = binary_noise(5)
        test = np.random.default_rng(8).random((500, 2))
        settings = {"model": {"kind": "mlp", "inputs": 2, "hidden": [32]}, "members": 3, "epochs": 30, "batch_size": 50,
                    "learning_rate": 0.005}
        seen = []
        model, report = biv.fit(x, y, variances=v, **settings, callback=seen.append)
        self.assertEqual((seen[-1].epoch, seen[-1].steps), (report["epochs"], seen[-1].total_steps))
        self.assertIs(seen[-1].is_final, False)
        found = report["outputs"][0]
        self.assertEqual((report["members"], report["rows"]), (3, 1000))
        self.assertTrue(0 < found["variance_model"]["epsilon"] < 1 and 0.7 < found["variance_model"]["scale"] <= 1)
        self.assertTrue(0.6 < found["coverage_68"] < 0.76)
        predictions, variances = model.predict_with_variance(test)
        self.same(predictions, model.predict(test))
        self.assertTrue(variances.shape == (500,) and (variances > 0).all())

        def rmse(model):
            return np.sqrt(np.mean((model.predict(test) - truth(test)) ** 2))

        alike, _ = biv.fit(biv.Dataset(x, y, std=np.sqrt(v)), **settings, loss={"kind": "mse"})
        self.assertLess(rmse(model), 0.7 * rmse(alike))
        bars = model.error_bars()
        np.testing.assert_allclose(bars.tau2, found["variance_model"]["tau2"])
        metrics = model.evaluate(biv.Dataset(test, truth(test)))
        self.assertAlmostEqual(metrics.rmse, rmse(model), places=9)
        self.assertAlmostEqual(metrics.mean_z2, np.mean((predictions - truth(test)) ** 2 / variances), places=9)
        # Without variances; with what the library says of it.
        _, plain = biv.fit(x, y, **settings | {"epochs": 1})
        self.assertEqual(plain["outputs"][0]["variance_model"]["epsilon"], math.inf)
        self.assertEqual(plain["history"][0]["models"][0]["epsilon"], math.inf)
        self.assertIn("no variances", plain["warnings"][0])
        for status, text, make in (
            ("INVALID_CONFIG", "fit.member: is no known field (did you mean 'members'?)", lambda: biv.fit(x, y, member=3)),
            ("SHAPE", "3", lambda: biv.fit(x, y, model={"kind": "mlp", "inputs": 3, "hidden": []})),
            ("INVALID_ARGUMENT", "2", lambda: biv.fit(x[:2], y[:2])),
            ("UNSUPPORTED", "fit", lambda: small_model().predict_with_variance(np.ones((2, 5)))),
        ):
            with self.refused(status, text):
                make()
        for arguments in ((x,), (biv.Dataset(x, y), y)):
            with self.assertRaisesRegex(ValueError, "Dataset"):
                biv.fit(*arguments)

    def test_variance_models(self):
        rng = np.random.default_rng(2)
        v = np.repeat([0.1, 10.0], 2000)
        r = rng.normal(size=4000) * np.sqrt(0.8 * v + 0.2)
        found = biv.variance_model(r, v)
        self.assertTrue(found.verdict in ("profile", "floor") and found.warning is None and found.rows == 4000)
        self.assertTrue(0.7 < found.scale < 0.9)
        self.assertAlmostEqual(found.tau2, found.scale * found.epsilon)
        self.assertIn("overstated", biv.variance_model(r, 2.5 * v).warning)
        self.assertEqual(biv.variance_model(r[:29], v[:29])[-2], "too-few-rows")
        self.assertEqual(biv.variance_model(r, np.ones(4000)).epsilon, math.inf)
        with self.refused("INVALID_ARGUMENT", "row 1: "):
            biv.variance_model([1, math.nan], [1, 1])

    def test_losses_noise_and_experiments(self):
        found = biv.loss({"kind": "biv", "epsilon": 0.5}, [1, 2], [0, 0], [0.5, 1.5])
        # Weights 1 and 1/2, normalised: 2/3 and 1/3.
        self.assertAlmostEqual(found.value, 2 / 3 + 4 / 3)
        np.testing.assert_allclose(found.gradient, [4 / 3, 4 / 3])
        # Of value 1 and variance e = 0.5 + exp(0): (log e + 1 / e) / 2.
        found = biv.loss({"kind": "gaussian"}, [[1, 0]], [0], [0.5])
        self.assertAlmostEqual(found.value, (math.log(1.5) + 1 / 1.5) / 2)
        self.assertEqual(found.gradient.shape, (1, 2))
        noise = biv.sample_noise({"kind": "uniform", "low": 0, "high": 2}, 100, seed=2**64 - 1)
        self.assertTrue((noise >= 0).all() and (noise <= 2).all() and noise.std() > 0.4)
        config = {"dataset": {"kind": "synthetic", "train_size": 128, "test_size": 32}, "batch_size": 32, "epochs": 2,
                  "model": {"kind": "mlp", "hidden": (4,)}, "loss": {"kind": "mse"}}
        self.assertEqual(biv.resolve_experiment(config)["learning_rate"], 0.01)
        seen = []
        self.assertGreater(biv.run_experiment(config, seen.append)["last"]["rmse"], 0)
        self.assertEqual((seen[-1].done, seen[-1].stage), (8, "training"))
        with self.assertRaises(biv.Cancelled):
            biv.run_experiment(config, lambda progress: False)
        sweep = biv.run_sweep({"base": config, "grid": {"seeds": np.arange(2), "losses": [{"kind": "mse"}]}})
        self.assertEqual(sweep["table"][0]["runs"], 2)

    def test_the_library(self):
        self.assertTrue(biv.threads() >= 1 and biv.cuda_devices() >= 0 and "properties" in biv.schema("trainer"))
        before, heard = biv.threads(), []
        biv.set_log(lambda level, message: heard.append((level, message)), "info")
        self.assertTrue(any(level == "info" and message.startswith("this is libbiv") for level, message in heard))
        heard.clear()
        many = os.cpu_count() + 1
        biv.set_threads(many)
        biv.set_threads(many)
        self.assertEqual([level for level, _ in heard], ["warning"])
        self.assertTrue(heard[0][1].startswith(f"{many} threads"))
        biv.set_log(None)
        biv.set_threads(many + 1)
        self.assertEqual(len(heard), 1)
        biv.set_threads(before)
        with self.assertRaisesRegex(ValueError, "level is 'loud'"):
            biv.set_log(print, "loud")
