"""What is special of relu, softmax and dropout; test_contract.py has what all ops promise."""

import numpy as np
import pytest
import scipy.special
from autograd import grad
from harness import check_op

from tinyseg.ops import dropout, log_softmax, relu, softmax

X = np.random.default_rng(2).normal(size=(2, 3, 4, 5))


def test_relu():
    np.testing.assert_array_equal(relu(np.array([-2.0, -0.0, 0.0, 3.0])), [0, 0, 0, 3])
    edge = np.array([-np.inf, 0.0, np.inf])
    np.testing.assert_array_equal(relu(edge), [0, 0, np.inf])
    np.testing.assert_array_equal(grad(lambda x: relu(x).sum())(np.zeros(3)), np.zeros(3))


def test_relu_of_a_single_number():
    assert relu(2.5) == relu(np.float32(2.5)) == relu(np.array(2.5)) == 2.5
    assert grad(relu)(2.5) == 1 and grad(relu)(-2.5) == 0


@pytest.mark.parametrize("axis", [0, -1, -4])
def test_softmax_along_another_axis(axis):
    np.testing.assert_allclose(softmax(X, axis), scipy.special.softmax(X, axis), atol=1e-14)
    np.testing.assert_allclose(log_softmax(X, axis), scipy.special.log_softmax(X, axis), atol=1e-14)
    check_op(lambda x: softmax(x, axis), X)
    check_op(lambda x: log_softmax(x, axis=axis), X)


@pytest.mark.parametrize("op", [softmax, log_softmax], ids=["softmax", "log_softmax"])
def test_softmax_needs_channels(op):
    for x in (X[0, 0, 0], np.array(1.0), 1.0, X[:, :0]):
        with pytest.raises(
            ValueError, match="softmax: expected x with at least one channel along axis 1, got"
        ):
            op(x)


def test_softmax_sums_to_one_and_does_not_mind_a_shift():
    np.testing.assert_allclose(softmax(X).sum(axis=1), 1, atol=1e-14)
    shift = np.random.default_rng(3).normal(size=(2, 1, 4, 5))
    np.testing.assert_allclose(softmax(X + shift), softmax(X), atol=1e-14)
    np.testing.assert_allclose(log_softmax(X + shift), log_softmax(X), atol=1e-13)


def test_softmax_does_not_overflow():
    x = np.array([1e4, 0.0, -1e4], np.float32).reshape(1, 3, 1, 1)
    np.testing.assert_array_equal(softmax(x).ravel(), [1, 0, 0])
    np.testing.assert_array_equal(log_softmax(x).ravel(), [0, -1e4, -2e4])


def test_dropout_drops_its_share_and_keeps_the_expectation():
    x = np.ones((1, 1, 300, 300))
    y = dropout(x, 0.3, np.random.default_rng(0))
    assert set(np.unique(y)) == {0.0, 1 / 0.7}
    assert abs((y == 0).mean() - 0.3) < 0.01  # 6 standard deviations
    assert abs(y.mean() - 1) < 0.02


def test_dropout_of_nothing_and_by_the_same_numbers():
    np.testing.assert_array_equal(dropout(X, 0.0, np.random.default_rng(0)), X)
    twice = [dropout(X, 0.5, np.random.default_rng(1)) for _ in range(2)]
    np.testing.assert_array_equal(*twice)


def test_dropout_keeps_what_draws_exactly_the_rate():
    """A draw lies in [0, 1), so that at least the rate is 1 - rate of it; at rate 0, all of it."""

    class Drawn:
        def random(self, shape):
            return np.array([0.0, 0.25, 0.5])

    np.testing.assert_array_equal(dropout(np.ones(3), 0.25, Drawn()), [0, 4 / 3, 4 / 3])
    np.testing.assert_array_equal(dropout(np.ones(3), 0.0, Drawn()), 1)


@pytest.mark.parametrize("rate", [-0.1, 1.0, 2])
def test_dropout_rate_is_a_share(rate):
    with pytest.raises(ValueError, match="the share dropped"):
        dropout(X, rate, np.random.default_rng(0))


def test_dropout_shows_the_call_that_it_needs():
    with pytest.raises(ValueError, match=r"rng=numpy.random.default_rng\(seed\)"):
        dropout(X, 0.5, None)
