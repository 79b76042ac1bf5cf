"""Batch and instance norm against NumPy's own moments, identities, and numerical gradients."""

import numpy as np
import pytest
from autograd import grad
from harness import check_op

from tinyseg import fast
from tinyseg.fast.norm import moments as fast_moments
from tinyseg.ops import batch_norm, instance_norm, normalize
from tinyseg.ops.norm import BATCH, INSTANCE, fixed_norm, moments


def fast_batch_norm(x, gamma, beta, *, eps=1e-5):
    return fast.normalize(x, gamma, beta, axes=BATCH, eps=eps)[0]


def fast_instance_norm(x, gamma, beta, *, eps=1e-5):
    return fast.normalize(x, gamma, beta, axes=INSTANCE, eps=eps)[0]


norms = pytest.mark.parametrize(
    ("norm", "axes"),
    [
        (batch_norm, BATCH),
        (instance_norm, INSTANCE),
        (fast_batch_norm, BATCH),
        (fast_instance_norm, INSTANCE),
    ],
    ids=["batch", "instance", "fast batch", "fast instance"],
)
measures = pytest.mark.parametrize("measure", [moments, fast_moments], ids=["by hand", "fast"])
shapes = pytest.mark.parametrize(
    "shape", [(2, 3, 5, 4), (1, 3, 4, 4), (3, 1, 5, 3), (2, 2, 1, 7), (4, 2, 6, 1)], ids=str
)


def arrays(shape):
    rng = np.random.default_rng(1)
    return rng.normal(2.0, 3.0, shape), rng.normal(size=shape[1]), rng.normal(size=shape[1])


@norms
@shapes
def test_equals_its_definition(norm, axes, shape):
    x, gamma, beta = arrays(shape)
    mean, variance = x.mean(axis=axes, keepdims=True), x.var(axis=axes, keepdims=True)
    expected = gamma[:, None, None] * (x - mean) / np.sqrt(variance + 1e-3) + beta[:, None, None]
    np.testing.assert_allclose(norm(x, gamma, beta, eps=1e-3), expected, rtol=1e-12, atol=1e-12)


@norms
@shapes
def test_derivatives(norm, axes, shape):
    check_op(norm, *arrays(shape))


@norms
def test_derivatives_where_eps_matters(norm, axes):
    x, gamma, beta = arrays((2, 2, 3, 4))
    check_op(lambda *a: norm(*a, eps=0.7), 0.5 * x, gamma, beta)


def test_derivatives_with_fixed_moments():
    x, gamma, beta = arrays((2, 3, 4, 5))
    mean, variance = np.array([0.5, 2.0, -1.0]), np.array([0.3, 2.0, 9.0])
    check_op(lambda *a: fixed_norm(*a, mean.astype(a[0].dtype), variance.astype(a[0].dtype)), x, gamma, beta)


def test_fixed_moments_that_are_the_batchs_give_batch_norm():
    x, gamma, beta = arrays((2, 3, 4, 5))
    y = fixed_norm(x, gamma, beta, x.mean(axis=BATCH), x.var(axis=BATCH), eps=0.7)
    np.testing.assert_allclose(y, batch_norm(x, gamma, beta, eps=0.7), atol=1e-12)


@pytest.mark.parametrize("eps", [np.float64(1e-3), np.array(1e-3)], ids=["scalar", "array"])
def test_statistics_and_eps_do_not_promote(eps):
    x, gamma, beta = (a.astype(np.float32) for a in arrays((2, 3, 4, 5)))
    mean, variance = x.mean(axis=BATCH), x.var(axis=BATCH)
    assert fixed_norm(x, gamma, beta, mean, variance, eps=eps).dtype == np.float32
    for norm in (normalize, fast.normalize, fast.norm_add_relu):
        assert {a.dtype.name for a in norm(x, gamma, beta, axes=BATCH, eps=eps)} == {"float32"}


@pytest.mark.parametrize("norm", [normalize, fast.normalize], ids=["by hand", "fast"])
def test_a_norm_returns_its_statistics(norm):
    x, gamma, beta = arrays((2, 3, 4, 5))
    for axes in (BATCH, INSTANCE):
        _, mean, variance = norm(x, gamma, beta, axes=axes)
        np.testing.assert_allclose(mean, x.mean(axis=axes), rtol=1e-12)
        np.testing.assert_allclose(variance, x.var(axis=axes), rtol=1e-12)


@norms
def test_errors_name_the_norm(norm, axes):
    with pytest.raises(ValueError, match="batch_norm" if axes == BATCH else "instance_norm"):
        norm(np.zeros((1, 3, 4, 4)), np.ones(2), np.ones(3))


def test_one_image_a_batch_makes_them_the_same():
    x, gamma, beta = arrays((1, 3, 6, 5))
    np.testing.assert_array_equal(batch_norm(x, gamma, beta), instance_norm(x, gamma, beta))


@norms
def test_undoes_a_shift_and_a_stretch(norm, axes):
    x, gamma, beta = arrays((2, 3, 6, 5))
    np.testing.assert_allclose(norm(7 * x - 3, gamma, beta, eps=0), norm(x, gamma, beta, eps=0), atol=1e-10)


@norms
def test_sum_of_the_output_never_changes(norm, axes):
    x, gamma, beta = arrays((2, 3, 6, 5))
    np.testing.assert_allclose(grad(lambda x: norm(x, gamma, beta).sum())(x), 0, atol=1e-12)


@measures
def test_two_passes_survive_a_large_mean(measure):
    """One pass (mean of squares less squared mean) would lose all digits here: 1e8 against 1."""
    noise = np.random.default_rng(0).normal(size=(1, 1, 64, 64))
    variance = measure((noise + 1e4).astype(np.float32), INSTANCE)[1]
    np.testing.assert_allclose(variance.item(), noise.var(), rtol=1e-3)


@measures
@pytest.mark.parametrize("broadcast", [False, True])
@pytest.mark.parametrize(("value", "size"), [(1000.1, 256), (1e4 / 3, 1024)])
def test_the_mean_of_many_equal_numbers_is_that_number(value, size, broadcast, measure):
    """One float32 sum over a million pixels would be off by 0.7; a variance that should be 0, by 0.5."""
    x = np.broadcast_to(np.float32(value), (1, 1, size, size))
    x = x if broadcast else x.copy()
    mean, variance = measure(x, INSTANCE)[:2]
    np.testing.assert_allclose(mean.item(), np.float32(value), rtol=1e-5)
    assert variance <= (1e-5 * value) ** 2


@norms
def test_a_flat_channel_is_no_division_by_zero(norm, axes):
    x = np.full((2, 1, 3, 3), 5.0)
    np.testing.assert_array_equal(norm(x, np.ones(1), np.ones(1)), np.ones_like(x))
    assert np.isfinite(grad(lambda x: (norm(x, np.ones(1), np.ones(1)) ** 2).sum())(x)).all()


@pytest.mark.parametrize(
    "norm", [normalize, fast.normalize, fast.norm_add_relu], ids=["by hand", "fast", "block"]
)
@pytest.mark.parametrize("axes", [BATCH, INSTANCE], ids=["batch", "instance"])
def test_squares_too_large_for_the_dtype(norm, axes):
    """Their variance would be infinite, and y the shift alone. What float32 can hold comes out right."""
    x, gamma, beta = (a.astype(np.float32) for a in arrays((2, 3, 5, 4)))
    y = norm(np.float32(1e17) * x, gamma, beta, axes=axes)[0]
    expected = norm(1e17 * x.astype(float), gamma.astype(float), beta.astype(float), axes=axes)[0]
    np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-4)
    for large in (1e20, 1e37):
        with pytest.raises(
            OverflowError, match="norm.*: the variance is too large for float32; scale x down"
        ):
            norm(np.float32([1, large, 1])[:, None, None] * x, gamma, beta, axes=axes)  # one channel will do
    with pytest.raises(OverflowError, match="for float64"):
        norm(1e200 * x.astype(float), gamma.astype(float), beta.astype(float), axes=axes)
