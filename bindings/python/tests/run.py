#!/usr/bin/env python3
"""Runs the tests against the package `biv` that Python finds; see `make python-test`."""

import pathlib
import signal
import sys
import unittest

HERE = pathlib.Path(__file__).parent

# A shell lets its background jobs ignore this signal, and Python leaves it so; tests send it.
signal.signal(signal.SIGINT, signal.default_int_handler)

suite = unittest.defaultTestLoader.discover(str(HERE))
result = unittest.TextTestRunner(verbosity=0).run(suite)
for test, reason in result.skipped:
    print(f"python: SKIPPED {test.id()}: {reason}")
print(f"python {sys.version.split()[0]}: {result.testsRun - len(result.skipped)} tests of the package")
sys.exit(not result.wasSuccessful())
