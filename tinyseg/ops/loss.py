"""How wrong a prediction is, as one number to differentiate."""

from __future__ import annotations

import autograd.numpy as np
import numpy
from autograd.extend import defjvp, defvjp, primitive

from tinyseg.ops.activation import log_softmax, softmax


def mean_squared_error(prediction, target):
    """The mean over all pixels of (prediction - target)^2.

    Args:
        prediction, target: equal shapes, of one float dtype.

    Returns:
        A scalar of that dtype.

    Raises:
        ValueError: shapes or dtypes differ.
    """
    if prediction.shape != target.shape or prediction.dtype != target.dtype:
        raise ValueError(
            f"mean_squared_error: expected target {prediction.shape} {prediction.dtype}, "
            f"got {target.shape} {target.dtype}"
        )
    error = prediction - target
    return np.sum(error * error) / error.size


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
    classes = logits.shape[1]
    if labels.shape != (logits.shape[0], *logits.shape[2:]) or labels.dtype.kind not in "iu":
        raise ValueError(
            f"cross_entropy: expected integer labels (N, H, W) for logits {logits.shape}, "
            f"got {labels.dtype} {labels.shape}"
        )
    if labels.min() < 0 or labels.max() >= classes:
        raise ValueError(
            f"cross_entropy: expected labels 0 to {classes - 1}, got {labels.min()} to {labels.max()}"
        )
    weights = numpy.ones(classes) if class_weights is None else numpy.asarray(class_weights)
    if weights.shape != (classes,) or not numpy.all(weights >= 0) or weights[labels].sum() == 0:
        raise ValueError(
            f"cross_entropy: expected {classes} class weights >= 0 with some pixels, got {weights}"
        )
    one_hot = labels[:, None] == numpy.arange(classes)[:, None, None]  # (N, H, W) -> (N, C, H, W)
    share = (one_hot * weights[:, None, None] / weights[labels].sum()).astype(logits.dtype)
    return _cross_entropy(logits, share)


@primitive
def _cross_entropy(logits, share):
    """-sum of share * log_softmax(logits); what has no share may be infinitely unlikely."""
    chosen = share > 0
    return -numpy.sum(share[chosen] * log_softmax(logits)[chosen])


# d log p_k = dx_k - sum_j p_j dx_j, so the loss changes by sum_j dx_j (p_j sum_k share_k - share_j).
def _cross_entropy_gradient(logits, share):
    return softmax(logits) * share.sum(axis=1, keepdims=True) - share


defvjp(_cross_entropy, lambda ans, logits, share: lambda g: g * _cross_entropy_gradient(logits, share))
defjvp(_cross_entropy, lambda dx, ans, logits, share: np.sum(dx * _cross_entropy_gradient(logits, share)))


def entropy(logits):
    """The mean over pixels of the entropy of softmax(logits), in nats: 0 when sure, log C when clueless.

        loss = - (1 / pixels) * sum over pixels and classes k of p_k log p_k,  p = softmax(logits)

    Args:
        logits: (N, C, H, W), float32 or float64.

    Returns:
        A scalar of the logits' dtype.

    Source: the unlabelled term of LungNet's loss (Anthimopoulos et al. 2018).
    """
    log_p = log_softmax(logits)
    return -np.sum(np.exp(log_p) * log_p) / (logits.size // logits.shape[1])
