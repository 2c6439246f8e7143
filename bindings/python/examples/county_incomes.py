"""Incomes of US counties, which a survey publishes with margins of error at 90 %: BIVRegressor against scikit-learn's
MLPRegressor, with networks of the same size. The file acs2017_county_data.csv is looked for in BIV_DATA_DIR/acs.

  python county_incomes.py [SEEDS [ADDED]]

RMSE on other counties, whose incomes have the survey's own errors, in dollars; means over the seeds, 5 where none are
given. Each table has ADDED times the survey's variance added to the labels for training: by default 0 and then 30. Times
are those of the processor, in seconds for a fit.
"""

import os
import pathlib
import sys
import time

import biv
import numpy as np
from biv.sklearn import BIVRegressor
from sklearn.compose import TransformedTargetRegressor
from sklearn.ensemble import BaggingRegressor
from sklearn.neural_network import MLPRegressor
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

FEATURES = ["Hispanic", "White", "Black", "Native", "Asian", "Pacific", "Poverty", "ChildPoverty", "Professional", "Service",
            "Office", "Construction", "Production", "Drive", "Carpool", "Transit", "Walk", "OtherTransp", "WorkAtHome",
            "MeanCommute", "PrivateWork", "PublicWork", "SelfEmployed", "FamilyWork", "Unemployment"]


def scaled(regressor):
    """Of features and labels that are normalised, as BIVRegressor does it by itself."""
    return TransformedTargetRegressor(make_pipeline(StandardScaler(), regressor), transformer=StandardScaler())


def mlp(seed):
    return MLPRegressor(hidden_layer_sizes=(100, 50), early_stopping=True, n_iter_no_change=20, max_iter=500,
                        random_state=seed)


# What is made for a seed, and the fit's arguments beside features and labels.
PEERS = {
    "MLPRegressor": (lambda seed: scaled(mlp(seed)), lambda v: {}),
    "MLPRegressor, weights 1 / variance": (
        lambda seed: scaled(mlp(seed)), lambda v: {"mlpregressor__sample_weight": 1 / v}),
    "BaggingRegressor of 5 MLPRegressors": (
        lambda seed: scaled(BaggingRegressor(mlp(None), 5, random_state=seed)), lambda v: {}),
    "BIVRegressor": (lambda seed: BIVRegressor(random_state=seed), lambda v: {"y_variance": v}),
    "BIVRegressor, members 1": (lambda seed: BIVRegressor(members=1, random_state=seed), lambda v: {"y_variance": v}),
}


def compare(x, y, v, added, seeds):
    """Errors and times by name, and the share of test labels within BIVRegressor's 68 % bars."""
    errors, times, covered = {}, {}, []
    for seed in range(seeds):
        rng = np.random.default_rng(seed)
        order = rng.permutation(len(y))
        train, test = order[:2200], order[2200:]
        labels = y[train] + np.sqrt(added * v[train]) * rng.normal(size=len(train))
        for name, (make, arguments) in PEERS.items():
            regressor, start = make(seed), time.process_time()
            regressor.fit(x[train], labels, **arguments((1 + added) * v[train]))
            times.setdefault(name, []).append(time.process_time() - start)
            errors.setdefault(name, []).append(np.sqrt(np.mean((regressor.predict(x[test]) - y[test]) ** 2)))
            if name == "BIVRegressor":
                predictions, std = regressor.predict(x[test], return_std=True)
                scale = regressor.model_.error_bars().scale
                covered.append(np.mean(np.abs(y[test] - predictions) < np.sqrt(std**2 + scale * v[test])))
    return errors, times, np.mean(covered)


def main():
    path = pathlib.Path(os.environ.get("BIV_DATA_DIR", ""), "acs", "acs2017_county_data.csv")
    if not path.is_file():
        sys.exit(f"no {path.name} in BIV_DATA_DIR")
    seeds, *tables = map(int, sys.argv[1:] or ["5"])
    # margin of error = 1.645 standard errors
    data = biv.Dataset.read_csv(path, labels=["Income"], standard_errors=["IncomeErr"], error_divisor=1.645,
                                features=FEATURES, skip_missing=True)
    x, y, v = data.features(), data.labels(), data.variances()
    for added in tables or (0, 30):
        errors, times, covered = compare(x, y, v, added, seeds)
        print(f"\n{added:2} times the variance added {'RMSE':>17} {'SE':>6} {'CPU, s':>7}")
        for name in PEERS:
            spread = np.std(errors[name], ddof=1) / np.sqrt(seeds) if seeds > 1 else np.nan
            print(f"{name:37} {np.mean(errors[name]):7.0f} {spread:6.0f} {np.mean(times[name]):7.2f}")
        print(f"{100 * covered:.0f} % of the test labels are within BIVRegressor's 68 % bars, their noise included")


if __name__ == "__main__":
    main()
