"""The estimator in scikit-learn's own checks and tools."""

import pickle
import unittest
import warnings

import biv
import numpy as np

try:
    import sklearn
    from biv.sklearn import BIVRegressor
    from sklearn.base import clone
    from sklearn.model_selection import GridSearchCV, cross_val_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler
    from sklearn.utils.estimator_checks import check_estimator
except ImportError:
    sklearn = None


def noisy(rows=300):
    rng = np.random.default_rng(3)
    x, v = rng.random((rows, 2)), np.where(np.arange(rows) % 2, 0.01, 4.0)
    return x, np.sin(4 * x[:, 0]) + 2 * x[:, 1] + np.sqrt(v) * rng.normal(size=rows), v


@unittest.skipIf(sklearn is None, "scikit-learn is not installed")
class Estimator(unittest.TestCase):
    def small(self, **options):
        return BIVRegressor(**{"hidden": (8,), "members": 2, "epochs": 5, "random_state": 0} | options)

    def test_check_estimator(self):
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            results = check_estimator(BIVRegressor(random_state=0))
        self.assertGreater(len(results), 40)
        skipped = {result["check_name"] for result in results if result["status"] != "passed"}
        # They need SCIPY_ARRAY_API and pandas.
        self.assertLessEqual(skipped, {"check_array_api_input", "check_regressor_data_not_an_array"})

    def test_parameters_are_the_options_of_fit(self):
        options = biv.schema("fit")["properties"]
        parameters = BIVRegressor().get_params()
        # "adam" is the older form of "optimizer", and copies of an estimator would share a checkpoint, or the place where
        # processes meet.
        left_out = {"adam", "checkpoint", "checkpoint_seconds", "distributed", "seed"}
        self.assertEqual(set(parameters) - {"hidden", "model", "random_state"}, set(options) - left_out)
        for name, value in parameters.items():
            if name in options and value is not None:
                self.assertEqual(value, options[name]["default"], name)

    def test_variances_and_error_bars(self):
        x, y, v = noisy()
        regressor = self.small(epochs=60, learning_rate=0.01).fit(x, y, y_variance=v)
        predictions, std = regressor.predict(x, return_std=True)
        model, _ = biv.fit(x, y, variances=v, model={"kind": "mlp", "inputs": 2, "hidden": [8], "seed": seed_of(0)},
                           members=2, epochs=60, learning_rate=0.01, batch_size=16, seed=seed_of(0))
        np.testing.assert_array_equal(predictions, model.predict(x))
        np.testing.assert_array_equal(std**2, np.sqrt(model.predict_with_variance(x)[1]) ** 2)
        self.assertLess(regressor.report_["outputs"][0]["variance_model"]["epsilon"], 1)
        # Two outputs; labels of infinite variance do not count.
        both, twice = np.c_[y, 2 * y], np.c_[v, 4 * v]
        both[0], twice[0] = 1e6, np.inf
        fitted = self.small().fit(x, both, y_variance=twice)
        predictions, std = fitted.predict(x, return_std=True)
        self.assertEqual((predictions.shape, std.shape), ((300, 2), (300, 2)))
        self.assertLess(np.abs(predictions).max(), 100)
        for text, variances in (("299 rows", v[1:]), ("-1", -np.ones(300))):
            with self.assertRaisesRegex(ValueError, text):
                self.small().fit(x, y, y_variance=variances)

    def test_tools(self):
        x, y, v = noisy()
        twin = pickle.loads(pickle.dumps(self.small().fit(x, y, y_variance=v)))
        np.testing.assert_array_equal(twin.predict(x), clone(twin).fit(x, y, y_variance=v).predict(x))
        self.assertTrue((twin.predict(x) != clone(twin).fit(x, y).predict(x)).any())
        pipeline = make_pipeline(StandardScaler(), self.small())
        self.assertEqual(pipeline.fit(x, y, bivregressor__y_variance=v).predict(x).shape, (300,))
        with sklearn.config_context(enable_metadata_routing=True):
            regressor = self.small().set_fit_request(y_variance=True)
            scores = cross_val_score(regressor, x, y, cv=3, params={"y_variance": v})
            self.assertTrue(np.isfinite(scores).all() and len(set(scores)) == 3)
            self.assertTrue((scores != cross_val_score(self.small(), x, y, cv=3)).all())
            search = GridSearchCV(make_pipeline(StandardScaler(), regressor), {"bivregressor__hidden": [(4,), (8, 4)]}, cv=2,
                                  n_jobs=2)
            search.fit(x, y, y_variance=v)
            best = search.best_estimator_.named_steps["bivregressor"]
            self.assertEqual(best.model_.info().outputs, 1)
            self.assertIn("scale", best.report_["outputs"][0]["variance_model"])


def seed_of(random_state):
    return int(np.random.RandomState(random_state).randint(2**31))
