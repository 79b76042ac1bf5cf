"""One vector and back, differentiably."""

import numpy as np
from harness import check_op

from tinyseg.networks import modified
from tinyseg.parameters import flatten, unflatten

LIKE = {"a": np.zeros((2, 3)), "b": np.zeros(4), "c": np.zeros(())}


def test_there_and_back():
    params, _ = modified().init(np.random.default_rng(0))
    vector = flatten(params)
    assert vector.dtype == np.float32 and vector.shape == (1309 - 4,)
    again = unflatten(vector, params)
    assert list(again) == list(params)
    for name, array in params.items():
        np.testing.assert_array_equal(again[name], array)


def test_derivatives():
    def op(vector):
        pieces = unflatten(vector, LIKE)
        return pieces["a"] * pieces["c"] + pieces["b"][:3] ** 2

    check_op(op, np.random.default_rng(0).normal(size=11))
