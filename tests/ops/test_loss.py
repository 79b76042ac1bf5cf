"""Losses of what is known, and their errors; test_contract.py has what all ops promise."""

import numpy as np
import pytest
import scipy.special
from autograd import grad, make_jvp
from harness import check_op

from tinyseg.ops import (
    UNLABELLED,
    cross_entropy,
    entropy,
    mean_squared_error,
    median_frequency,
    semi_supervised,
)

RNG = np.random.default_rng(6)
LOGITS = RNG.normal(size=(2, 3, 4, 5))
LABELS = RNG.integers(0, 3, size=(2, 4, 5))
NOTHING = np.full_like(LABELS, UNLABELLED)


def test_mean_squared_error():
    x, y = RNG.normal(size=(2, 1, 3, 4)), RNG.normal(size=(2, 1, 3, 4))
    np.testing.assert_allclose(grad(mean_squared_error)(x, y), 2 * (x - y) / x.size)
    with pytest.raises(
        ValueError, match=r"expected equal shapes with no empty axis, got \(2, 1, 3, 4\), \(1, "
    ):
        mean_squared_error(x, y[:1])


@pytest.mark.parametrize("weights", [None, [1, 1, 1], [0.5, 2, 3], [0, 1, 4]], ids=str)
def test_cross_entropy_equals_the_sum_over_pixels(weights):
    p = scipy.special.softmax(LOGITS, axis=1)
    w = np.ones(3) if weights is None else np.array(weights)
    terms = [
        (w[LABELS[n, i, j]], -np.log(p[n, LABELS[n, i, j], i, j])) for n, i, j in np.ndindex(LABELS.shape)
    ]
    expected = sum(wi * ti for wi, ti in terms) / sum(wi for wi, _ in terms)
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, class_weights=weights), expected)
    check_op(lambda x: cross_entropy(x, LABELS, class_weights=weights), LOGITS)


def test_cross_entropy_gradient_is_probability_less_one_hot():
    p = scipy.special.softmax(LOGITS, axis=1)
    one_hot = np.eye(3)[LABELS].transpose(0, 3, 1, 2)
    np.testing.assert_allclose(grad(cross_entropy)(LOGITS, LABELS), (p - one_hot) / LABELS.size, atol=1e-15)


def test_cross_entropy_of_what_is_known():
    np.testing.assert_allclose(cross_entropy(np.zeros((1, 4, 2, 2)), np.zeros((1, 2, 2), int)), np.log(4))
    sure = np.array([1000.0, 0.0]).reshape(1, 2, 1, 1)
    assert cross_entropy(sure, np.zeros((1, 1, 1), int)) == 0
    assert cross_entropy(sure, np.ones((1, 1, 1), int)) == 1000  # where log(softmax) would be infinite
    barred = np.array([0.0, 0.0, -np.inf]).reshape(1, 3, 1, 1)
    np.testing.assert_allclose(cross_entropy(barred, np.zeros((1, 1, 1), int)), np.log(2))


def test_entropy():
    np.testing.assert_allclose(entropy(np.zeros((2, 5, 3, 3))), np.log(5))
    assert entropy(np.array([1e4, 0.0]).reshape(1, 2, 1, 1)) == 0


SPARSE = np.where(RNG.random(LABELS.shape) < 0.4, LABELS, UNLABELLED)


@pytest.mark.parametrize("weights", [None, [0.5, 2, 3], [0, 1, 4]], ids=str)
def test_semi_supervised_is_two_means_over_two_kinds_of_pixels(weights):
    p = scipy.special.softmax(LOGITS, axis=1).transpose(0, 2, 3, 1)  # (N, H, W, C)
    known = SPARSE != UNLABELLED
    w = (np.ones(3) if weights is None else np.array(weights))[SPARSE[known]]
    right = -np.log(np.take_along_axis(p[known], SPARSE[known][:, None], axis=1)[:, 0])
    expected = np.average(right, weights=w) + 0.3 * scipy.special.entr(p[~known]).sum(axis=1).mean()
    actual = semi_supervised(LOGITS, SPARSE, class_weights=weights, entropy_weight=0.3)
    np.testing.assert_allclose(actual, expected)
    check_op(lambda x: semi_supervised(x, SPARSE, class_weights=weights, entropy_weight=0.3), LOGITS)


def test_semi_supervised_is_its_two_terms_where_one_has_no_pixels():
    np.testing.assert_allclose(semi_supervised(LOGITS, LABELS), cross_entropy(LOGITS, LABELS))
    np.testing.assert_allclose(semi_supervised(LOGITS, NOTHING), 0.1 * entropy(LOGITS))
    np.testing.assert_allclose(semi_supervised(LOGITS, NOTHING.astype(np.uint8)), 0.1 * entropy(LOGITS))
    np.testing.assert_allclose(grad(semi_supervised)(LOGITS, NOTHING), 0.1 * grad(entropy)(LOGITS))
    assert semi_supervised(LOGITS, NOTHING, entropy_weight=0) == 0


def test_a_single_pixel_is_a_mean_of_its_own():
    labels = np.zeros_like(LABELS)
    labels[1, 2, 3] = UNLABELLED
    p = scipy.special.softmax(LOGITS, axis=1)
    right = -np.log(p[:, 0])[labels == 0].mean()
    doubt = scipy.special.entr(p[1, :, 2, 3]).sum()
    np.testing.assert_allclose(semi_supervised(LOGITS, labels, entropy_weight=0.5), right + 0.5 * doubt)


entropies = pytest.mark.parametrize(
    "loss", [entropy, lambda x: semi_supervised(x, NOTHING, entropy_weight=1)], ids=["entropy", "sparse"]
)


def entropy_gradient(x):
    """-p_k (log p_k + H), by hand."""
    p = scipy.special.softmax(x, axis=1)
    h = scipy.special.entr(p).sum(axis=1, keepdims=True)
    return -p * (np.log(p) + h) / NOTHING.size


@entropies
@pytest.mark.parametrize("barred", [-np.inf, -1e5])
def test_forward_mode_of_the_entropy_where_p_is_0(loss, barred):
    """A class that cannot be has no part in it, whatever its change."""
    logits = np.concatenate([LOGITS, np.full((2, 1, 4, 5), barred)], axis=1)
    tangent = np.random.default_rng(1).normal(size=logits.shape)
    expected = np.sum(entropy_gradient(LOGITS) * tangent[:, :3])
    np.testing.assert_allclose(make_jvp(loss)(logits)(tangent)[1], expected)


@entropies
def test_forward_over_reverse_mode_of_the_entropy(loss):
    v = np.random.default_rng(1).normal(size=LOGITS.shape)
    expected = (entropy_gradient(LOGITS + 1e-5 * v) - entropy_gradient(LOGITS - 1e-5 * v)) / 2e-5
    np.testing.assert_allclose(make_jvp(grad(loss))(LOGITS)(v)[1], expected, atol=1e-10)


def test_semi_supervised_of_large_logits_is_finite():
    sure = np.float32([1e4, -1e4]).reshape(1, 2, 1, 1) * np.ones((1, 1, 1, 2), np.float32)
    labels = np.array([[[1, UNLABELLED]]])
    assert semi_supervised(sure, labels) == 2e4
    assert np.isfinite(grad(semi_supervised)(sure, labels)).all()


@pytest.mark.parametrize(
    ("labels", "weights", "words"),
    [
        (SPARSE.astype(float), None, "semi_supervised: expected an array of integer labels, got float64"),
        (SPARSE[:1], None, r"semi_supervised: expected integer labels \(N, H, W\)"),
        (np.where(SPARSE == 2, 3, SPARSE), None, "expected labels 0 to 2, got 0 to 3"),
        (np.where(SPARSE == 2, -1, SPARSE), None, "expected labels 0 to 2, got -1 to 1"),
        (SPARSE, [1, 1], "3 class weights"),
        (SPARSE, [1, 1, np.nan], ">= 0"),
        (SPARSE, [1, 1, np.inf], "all finite"),
    ],
)
def test_one_clear_error_about_sparse_labels(labels, weights, words):
    with pytest.raises(ValueError, match=words):
        semi_supervised(LOGITS, labels, class_weights=weights)


@pytest.mark.parametrize(
    ("labels", "weights", "words"),
    [
        (LABELS[0], None, r"integer labels \(N, H, W\)"),
        (LABELS.astype(float), None, "expected an array of integer labels, got float64"),
        (LABELS > 0, None, "expected an array of integer labels, got bool"),
        (LABELS.tolist(), None, "expected an array of integer labels, got list"),
        (None, None, "expected an array of integer labels, got NoneType"),
        (LABELS + 1, None, "expected labels 0 to 2, got 1 to 3"),
        (LABELS - 1, None, "got -1 to 1"),
        (LABELS, [1, 1], "3 class weights"),
        (LABELS, [-1, 1, 1], ">= 0"),
        (LABELS, [0, 0, 0], "with some pixels"),
    ],
)
def test_one_clear_error(labels, weights, words):
    with pytest.raises(ValueError, match=words):
        cross_entropy(LOGITS, labels, class_weights=weights)


def test_what_is_impossible_adds_nothing():
    """0 log 0 is 0: a class that is infinitely unlikely, or as good as, is as if it were not there."""
    for barred in (-np.inf, -1e5):
        logits = np.concatenate([LOGITS, np.full((2, 1, 4, 5), barred)], axis=1)
        np.testing.assert_allclose(entropy(logits), entropy(LOGITS))
        np.testing.assert_allclose(semi_supervised(logits, SPARSE), semi_supervised(LOGITS, SPARSE))
        for loss in (entropy, lambda x: semi_supervised(x, SPARSE)):
            np.testing.assert_allclose(grad(loss)(logits)[:, :3], grad(loss)(LOGITS), atol=1e-15)
            assert (grad(loss)(logits)[:, 3] == 0).all()
    far = np.float32([3e38, -3e38]).reshape(1, 2, 1, 1)
    with np.errstate(over="ignore"):
        assert semi_supervised(far, np.full((1, 1, 1), UNLABELLED)) == entropy(far) == 0


def test_no_nan_is_lost_where_nothing_is_labelled():
    nothing = np.full((1, 2, 2), UNLABELLED)
    for logits in (np.full((1, 3, 2, 2), np.nan), np.full((1, 3, 2, 2), np.nan, np.float32)):
        assert np.isnan(
            [semi_supervised(logits, nothing), semi_supervised(logits, 0 * nothing), entropy(logits)]
        ).all()
        assert np.isnan(cross_entropy(logits, 0 * nothing))


def test_median_frequency_of_what_is_no_class():
    for labels in ([0, 3], [-1, 0]):
        with pytest.raises(ValueError, match="median_frequency: expected labels 0 to 2"):
            median_frequency(np.array(labels), 3)
    for labels in ([0, 1], None, np.ones(3)):
        with pytest.raises(ValueError, match="median_frequency: expected an array of integer labels, got"):
            median_frequency(labels, 3)


@pytest.mark.parametrize("weight", [-1, -1e-9, np.inf, np.nan])
def test_an_entropy_weight_that_is_none(weight):
    with pytest.raises(ValueError, match=f"entropy weight of at least 0, got {weight}"):
        semi_supervised(LOGITS, SPARSE, entropy_weight=weight)


def test_median_frequency():
    labels = np.repeat(np.uint8([0, 1, 3, UNLABELLED]), [8, 2, 4, 100]).reshape(2, 57)
    np.testing.assert_array_equal(median_frequency(labels, 5), [4 / 8, 4 / 2, 0, 4 / 4, 0])
    np.testing.assert_array_equal(median_frequency(labels[labels == UNLABELLED], 2), [0, 0])
    np.testing.assert_array_equal(median_frequency(np.array([0, 0, 0, 1]), 3), [2 / 3, 2, 0])


def test_by_median_frequency_every_class_counts_the_same():
    """Weights times numbers of pixels are equal, so that the loss is the mean of the classes' means."""
    weights = median_frequency(LABELS, 3)
    each = [cross_entropy(LOGITS, LABELS, class_weights=np.eye(3)[k]) for k in range(3)]
    np.testing.assert_allclose(cross_entropy(LOGITS, LABELS, class_weights=weights), np.mean(each))
