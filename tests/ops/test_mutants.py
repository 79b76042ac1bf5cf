"""What only a mutant missed: see mutate.py."""

from functools import partial

import numpy as np
import pytest
import scipy.special
from autograd import grad, make_jvp

from tinyseg import fast, ops
from tinyseg.ops import UNLABELLED, dropout, entropy, median_frequency, semi_supervised, softmax
from tinyseg.ops.norm import BATCH

RNG = np.random.default_rng(8)
LOGITS = RNG.normal(size=(2, 3, 4, 5))
NOTHING = np.full((2, 4, 5), UNLABELLED)


@pytest.mark.parametrize("barred", [-np.inf, -1e5])
@pytest.mark.parametrize(
    "loss", [entropy, lambda x: semi_supervised(x, NOTHING, entropy_weight=1)], ids=["entropy", "sparse"]
)
def test_forward_mode_of_the_entropy_where_p_is_0(loss, barred):
    """dH = -sum_k p_k (log p_k + H) dx_k; a class that cannot be has no part in it, whatever its change."""
    logits = np.concatenate([LOGITS, np.full((2, 1, 4, 5), barred)], axis=1)
    tangent = RNG.normal(size=logits.shape)
    p = scipy.special.softmax(LOGITS, axis=1)
    h = scipy.special.entr(p).sum(axis=1, keepdims=True)
    expected = -np.sum(p * (np.log(p) + h) * tangent[:, :3]) / NOTHING.size
    np.testing.assert_allclose(make_jvp(loss)(logits)(tangent)[1], expected)


@pytest.mark.parametrize("axis", range(-4, 4))
def test_softmax_along_any_axis(axis):
    np.testing.assert_allclose(softmax(LOGITS, axis), scipy.special.softmax(LOGITS, axis))


def test_dropout_keeps_what_draws_exactly_the_rate():
    """A draw lies in [0, 1), so that at least the rate is 1 - rate of it; at rate 0, all of it."""

    class Drawn:
        def random(self, shape):
            return np.array([0.0, 0.25, 0.5])

    np.testing.assert_array_equal(dropout(np.ones(3), 0.25, Drawn()), [0, 4 / 3, 4 / 3])
    np.testing.assert_array_equal(dropout(np.ones(3), 0.0, Drawn()), 1)


@pytest.mark.parametrize("eps", [np.float64(1e-3), np.array(1e-3)], ids=["scalar", "array"])
def test_an_eps_of_numpy_leaves_float32_as_it_is(eps):
    x, one = LOGITS.astype(np.float32), np.ones(3, np.float32)
    for norm in (ops.batch_norm, ops.instance_norm, partial(ops.fixed_norm, mean=one, variance=one)):
        assert norm(x, one, one, eps=eps).dtype == np.float32
    for norm in (ops.normalize, fast.normalize, fast.norm_add_relu):
        y, mean, variance = norm(x, one, one, axes=BATCH, eps=eps)
        assert y.dtype == mean.dtype == variance.dtype == np.float32


@pytest.mark.parametrize("loss", [entropy, lambda x: semi_supervised(x, NOTHING, entropy_weight=1)])
def test_forward_over_reverse_mode_of_the_entropy(loss):
    """The gradient -p (log p + H) once more, along v, by central differences."""

    def gradient(x):
        p = scipy.special.softmax(x, axis=1)
        h = scipy.special.entr(p).sum(axis=1, keepdims=True)
        return -p * (np.log(p) + h) / NOTHING.size

    v = RNG.normal(size=LOGITS.shape)
    expected = (gradient(LOGITS + 1e-5 * v) - gradient(LOGITS - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(make_jvp(grad(loss))(LOGITS)(v)[1], expected, atol=1e-10)


@pytest.mark.parametrize("weight", [np.inf, np.nan, -1e-9])
def test_an_entropy_weight_is_finite(weight):
    with pytest.raises(ValueError, match="expected an entropy weight of at least 0, got"):
        semi_supervised(LOGITS, NOTHING, entropy_weight=weight)


def test_a_single_pixel_is_a_mean_of_its_own():
    """One that nobody annotated, and a class that has but one."""
    labels = np.zeros((2, 4, 5), int)
    labels[1, 2, 3] = UNLABELLED
    p = scipy.special.softmax(LOGITS, axis=1)
    right = -np.log(p[:, 0])[labels == 0].mean()
    doubt = scipy.special.entr(p[1, :, 2, 3]).sum()
    np.testing.assert_allclose(semi_supervised(LOGITS, labels, entropy_weight=0.5), right + 0.5 * doubt)
    np.testing.assert_array_equal(median_frequency(np.array([0, 0, 0, 1]), 3), [2 / 3, 2, 0])


@pytest.mark.parametrize("norm", [ops.normalize, fast.normalize, fast.norm_add_relu])
def test_one_channel_that_overflows_is_enough(norm):
    x, one = LOGITS.astype(np.float32), np.ones(3, np.float32)
    x[:, 1] *= np.float32(1e25)
    with pytest.raises(OverflowError, match="the variance is too large for float32"):
        norm(x, one, one, axes=BATCH)
