"""Gradient descent and Adam: from a vector, its gradient and what was remembered, to the next vector.

An optimiser is a frozen dataclass; what it remembers between steps is an array that the caller holds.
`rate` is an argument of each step, so that a schedule is any function of the step's number.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class GradientDescent:
    """x <- x - rate * gradient."""

    def init(self, x: np.ndarray) -> tuple:
        """Nothing is remembered."""
        return ()

    def step(self, x: np.ndarray, gradient: np.ndarray, memory: tuple, rate: float):
        """(x, memory) after one step, of x's dtype; the arguments stay as they are."""
        return (x - rate * gradient).astype(x.dtype), memory


@dataclass(frozen=True)
class Adam:
    """Steps of about `rate` in each coordinate, whatever the gradient's scale.

        m <- beta1 m + (1 - beta1) g,    v <- beta2 v + (1 - beta2) g^2
        x <- x - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps),    t = 1, 2, ...

    Source: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1.
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8

    def init(self, x: np.ndarray) -> tuple:
        """(m, v, t): both averages zero, no step taken."""
        return np.zeros_like(x), np.zeros_like(x), 0

    def step(self, x: np.ndarray, gradient: np.ndarray, memory: tuple, rate: float):
        """(x, memory) after one step, of x's dtype; the arguments stay as they are."""
        m, v, t = memory
        m = (self.beta1 * m + (1 - self.beta1) * gradient).astype(x.dtype)
        v = (self.beta2 * v + (1 - self.beta2) * gradient**2).astype(x.dtype)
        t += 1
        m_hat, v_hat = m / (1 - self.beta1**t), v / (1 - self.beta2**t)  # both averages began at zero
        return (x - rate * m_hat / (np.sqrt(v_hat) + self.eps)).astype(x.dtype), (m, v, t)


def constant(rate: float):
    """The schedule that stays at `rate`."""
    return lambda step: rate


def settling(rate: float, steps: int):
    """The schedule that stays at `rate` and falls to 0 in a straight line over the last fifth of the steps.

    Running statistics lag behind weights that move; in the end they catch up.
    """
    return lambda step: rate * min(1.0, max(0.0, (steps - step) / (0.2 * steps)))


def cosine(rate: float, steps: int):
    """The schedule that falls from `rate` at step 0 to 0 at step `steps` along half a cosine.

    Source: Loshchilov & Hutter 2017 (arXiv 1608.03983), without restarts.
    """
    return lambda step: rate * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
