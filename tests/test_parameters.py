"""One vector and back, differentiably."""

import numpy as np
import pytest
from autograd import grad, make_jvp
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


def test_forward_mode_over_reverse_mode():
    """The product of a Hessian and a vector, of sum(x^3): 6 x v."""
    vector, v = np.random.default_rng(0).normal(size=(2, 11))
    cubes = grad(lambda vector: sum((piece**3).sum() for piece in unflatten(vector, LIKE).values()))
    np.testing.assert_allclose(make_jvp(cubes)(vector)(v)[1], 6 * vector * v)


def test_derivatives():
    def op(vector):
        pieces = unflatten(vector, LIKE)
        return pieces["a"] * pieces["c"] + pieces["b"][:3] ** 2

    check_op(op, np.random.default_rng(0).normal(size=11))


@pytest.mark.parametrize("arrays", [{}, {"a": np.zeros(2, "f"), "b": np.zeros(2)}, {"a": np.zeros(2, int)}])
def test_parameters_have_one_dtype(arrays):
    with pytest.raises(ValueError, match="one dtype, float32 or float64"):
        flatten(arrays)
