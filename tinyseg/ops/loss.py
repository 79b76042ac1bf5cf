"""How wrong a prediction is, as one number to differentiate.

The squared error and the entropy are lazy autodiff; cross-entropy and the semi-supervised loss have their
derivatives below them.
"""

from __future__ import annotations

import autograd.numpy as np
import numpy
from autograd.extend import defjvp, defvjp, primitive

from tinyseg.ops.activation import log_softmax, softmax
from tinyseg.ops.check import check_nchw, floats

UNLABELLED = 255  # in a label map: nobody has said what this pixel is


def mean_squared_error(prediction, target):
    """The mean over all pixels of (prediction - target)^2.

    Args:
        prediction, target: equal shapes, of one float dtype.

    Returns:
        A scalar of that dtype.

    Raises:
        ValueError: shapes or dtypes do not fit, or there are no pixels.
    """
    p, t = floats("mean_squared_error", prediction=prediction, target=target)
    if p.shape != t.shape or p.size == 0:
        raise ValueError(
            f"mean_squared_error: expected equal shapes with no empty axis, got {p.shape}, {t.shape}"
        )
    error = prediction - target
    return np.sum(error * error) / p.size


def cross_entropy(logits, labels, *, class_weights=None):
    """The mean negative log-probability of the right class, over pixels, weighted by class.

        loss = - sum over pixels of weight[label] * log_softmax(logits)[label]
               / sum over pixels of weight[label]

    Args:
        logits: (N, C, H, W), float32 or float64, before any softmax.
        labels: (N, H, W) integers in [0, C).
        class_weights: (C,), at least 0; None weighs all classes 1. A weight of 0 leaves a class out.

    Returns:
        A scalar of the logits' dtype.

    Raises:
        ValueError: shapes do not fit, a label is no class, or no pixel has a weight.
    """
    target = _targets("cross_entropy", logits, labels, class_weights)
    if not target.any():
        raise ValueError(f"cross_entropy: expected class weights with some pixels, got {class_weights}")
    return _cross_entropy(logits, target)


def _targets(name, logits, labels, class_weights, allowed=()):
    """One-hot labels (N, C, H, W), each pixel times its weight in the mean; all 0 if no pixel has one."""
    logits = _plain(name, logits)
    n, classes, h, w = logits.shape
    _check_labels(name, labels, classes, allowed)
    if labels.shape != (n, h, w):
        raise ValueError(
            f"{name}: expected integer labels (N, H, W) for logits {logits.shape}, got {labels.shape}"
        )
    weights = numpy.ones(classes) if class_weights is None else numpy.asarray(class_weights)
    if weights.shape != (classes,) or not numpy.all((weights >= 0) & (weights < np.inf)):
        raise ValueError(f"{name}: expected {classes} class weights >= 0, all finite, got {weights}")
    one_hot = labels[:, None] == numpy.arange(classes)[:, None, None]  # (N, H, W) -> (N, C, H, W)
    target = one_hot * weights[:, None, None]
    return (target / (target.sum() or 1)).astype(logits.dtype)


def _plain(name, logits):
    """The logits out of autograd's box, or one clear error."""
    (logits,) = floats(name, logits=logits)
    check_nchw(name, logits=logits)
    return logits


def _check_labels(name, labels, classes, allowed):
    """One clear error before anything is computed."""
    if not isinstance(labels, numpy.ndarray) or labels.dtype.kind not in "iu":
        got = labels.dtype if isinstance(labels, numpy.ndarray) else type(labels).__name__
        raise ValueError(f"{name}: expected an array of integer labels, got {got}")
    known = labels[~numpy.isin(labels, allowed)]
    if known.size and (known.min() < 0 or known.max() >= classes):
        raise ValueError(f"{name}: expected labels 0 to {classes - 1}, got {known.min()} to {known.max()}")


@primitive
def _cross_entropy(logits, target):
    """-sum of target * log_softmax(logits); where target is 0 nothing is added, even of -infinity."""
    log_p = log_softmax(logits)
    chosen = (target > 0) | numpy.isnan(log_p)  # a NaN is never left out
    return -numpy.sum(target[chosen] * log_p[chosen])


# With t = target and p = softmax(logits): d log p_k = dx_k - sum_j p_j dx_j, so the loss, -sum_k t_k log p_k,
# changes by sum_j dx_j (p_j sum_k t_k - t_j).
def _cross_entropy_gradient(logits, target):
    return softmax(logits) * target.sum(axis=1, keepdims=True) - target


defvjp(_cross_entropy, lambda ans, logits, target: lambda g: g * _cross_entropy_gradient(logits, target))
defjvp(_cross_entropy, lambda dx, ans, logits, target: np.sum(dx * _cross_entropy_gradient(logits, target)))


def entropy(logits):
    """The mean over pixels of the entropy of softmax(logits): 0 when sure, log C when all are equally likely.

        loss = - (1 / pixels) * sum over pixels and classes k of p_k log p_k,  p = softmax(logits)

    Args:
        logits: (N, C, H, W), float32 or float64.

    Returns:
        A scalar of the logits' dtype.

    Raises:
        ValueError: the logits are no (N, C, H, W) array of floats, or empty.

    Source: the unlabelled term of LungNet's loss (Anthimopoulos et al. 2018).
    """
    n, _, h, w = _plain("entropy", logits).shape
    log_p = log_softmax(logits)
    return -np.sum(np.exp(log_p) * _finite(log_p)) / (n * h * w)


@primitive
def _finite(log_p):
    """log p, but 0 where p is 0 and it would be infinite, for p log p is 0 there."""
    return numpy.where(log_p > -numpy.inf, log_p, 0)


# dy = dx where log p is finite, else 0: a mask, its own transpose.
defvjp(_finite, lambda ans, log_p: lambda g: g * (log_p > -numpy.inf))
defjvp(_finite, lambda dx, ans, log_p: dx * (log_p > -numpy.inf))


def semi_supervised(logits, labels, *, class_weights=None, entropy_weight: float = 0.1):
    """Learn from sparse labels: annotated pixels get the right class, the others some class for sure.

        loss = cross_entropy over annotated pixels, weighted by class
               + entropy_weight * the mean entropy over the others

    The entropy of a pixel is low if the network is sure of its class. To be sure of most pixels, it has to
    put the border between two classes where few pixels look like that.

    Args:
        logits: (N, C, H, W), float32 or float64, before any softmax.
        labels: (N, H, W) integers, in [0, C) where annotated, else UNLABELLED (255).
        class_weights: (C,), at least 0; None weighs all classes 1.
        entropy_weight: at least 0.

    Returns:
        A scalar of the logits' dtype; a term without pixels is 0.

    Raises:
        ValueError: shapes do not fit, a label is neither a class nor UNLABELLED, or a weight is negative.

    Source: LungNet's loss (Anthimopoulos et al. 2018), but for three things. Its code has (1 - 0.1) before
    the cross-entropy, it gives the unannotated class an output of its own, which is in its entropy too, and
    it clips p to [1e-7, 1 - 1e-7].
    """
    if not 0 <= entropy_weight < np.inf:
        raise ValueError(f"semi_supervised: expected an entropy weight of at least 0, got {entropy_weight}")
    target = _targets("semi_supervised", logits, labels, class_weights, allowed=(UNLABELLED,))
    blank = labels[:, None] == UNLABELLED  # (N, H, W) -> (N, 1, H, W)
    blank = (blank * (entropy_weight / max(blank.sum(), 1))).astype(logits.dtype)  # each pixel's weight
    return _semi_supervised(logits, target, blank)


def median_frequency(labels, classes: int):
    """Class weights by which rare classes count as much as frequent ones: median frequency / frequency.

    Args:
        labels: integers of any shape; UNLABELLED ones do not count.
        classes: how many classes there are, C.

    Returns:
        (C,) float64; 0 for a class without a pixel, which has no part in the median either.

    Raises:
        ValueError: the labels are no array of integers, or one is neither a class nor UNLABELLED.

    Source: LungNet's loss. Eigen & Fergus 2015 (arXiv 1411.4734), whose idea it was, take a class's frequency
    among those images alone that show it.
    """
    _check_labels("median_frequency", labels, classes, allowed=(UNLABELLED,))
    counts = numpy.bincount(labels[labels != UNLABELLED], minlength=classes)
    there = counts > 0
    weights = numpy.zeros(classes)
    weights[there] = numpy.median(counts[there]) / counts[there] if there.any() else 0
    return weights


@primitive
def _semi_supervised(logits, target, blank):
    """-sum of (target + blank * p) * log p with p = softmax(logits), blank (N, 1, H, W)."""
    log_p = log_softmax(logits)
    weight = target + blank * numpy.exp(log_p)
    counted = weight != 0  # leave out 0 * (-infinity), which would be NaN; but no NaN that is there
    return -numpy.sum(weight[counted] * log_p[counted])


# The entropy H = -sum_k p_k log p_k changes by -sum_k dp_k log p_k, since sum_k dp_k = 0;
# with dp_k = p_k (dx_k - sum_j p_j dx_j) that is -sum_j dx_j p_j (log p_j + H).
def _semi_supervised_gradient(logits, target, blank):
    log_p = log_softmax(logits)
    p = np.exp(log_p)
    log_p = _finite(log_p)
    negative_h = np.sum(p * log_p, axis=1, keepdims=True)  # -H, (N, C, H, W) -> (N, 1, H, W)
    return _cross_entropy_gradient(logits, target) - blank * p * (log_p - negative_h)


defvjp(
    _semi_supervised, lambda ans, x, target, blank: lambda g: g * _semi_supervised_gradient(x, target, blank)
)
defjvp(_semi_supervised, lambda dx, ans, *args: np.sum(dx * _semi_supervised_gradient(*args)))
