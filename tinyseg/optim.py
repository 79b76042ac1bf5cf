"""Gradient descent and Adam: from a vector, its gradient and what was remembered, to the next vector.

Here x is the vector of all parameters.
An optimiser is a frozen dataclass; what it remembers between steps is an array that the caller holds.
`rate` is an argument of each step. A schedule gives it: a function `(step, steps) -> rate` of the number of
steps made so far and of all steps of the training, both of which `training.fit` knows. `Clipped` and
`Freezing` wrap an optimiser, which stays as it is.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from fnmatch import fnmatch
from typing import Any

import numpy as np


@dataclass(frozen=True)
class GradientDescent:
    """v <- momentum * v + gradient,  then  x <- x - rate * v.

    Source: Polyak 1964, as PyTorch's SGD writes it.
    """

    momentum: float = 0.0

    def init(self, x: np.ndarray) -> np.ndarray:
        """The velocity v, zero."""
        return np.zeros_like(x)

    def step(self, x: np.ndarray, gradient: np.ndarray, v: np.ndarray, rate: float):
        """(x, v) after one step, of x's dtype; the arguments stay as they are."""
        v = (self.momentum * v + gradient).astype(x.dtype)
        return (x - rate * v).astype(x.dtype), v


@dataclass(frozen=True)
class Adam:
    """Steps of about `rate` in each coordinate, whatever the gradient's scale.

        m <- beta1 m + (1 - beta1) gradient,  v <- beta2 v + (1 - beta2) gradient^2
        x <- x - rate * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + eps) - rate * weight_decay * x

    with t = 1, 2, ... The weight decay is decoupled: it is no part of the gradient, so that m and v
    do not scale it.

    Source: Kingma & Ba 2015 (arXiv 1412.6980), algorithm 1; the decay, Loshchilov & Hutter 2019 (1711.05101).
    """

    beta1: float = 0.9
    beta2: float = 0.999
    eps: float = 1e-8
    weight_decay: float = 0.0

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
        x_shrunk = x - rate * self.weight_decay * x
        return (x_shrunk - rate * m_hat / (np.sqrt(v_hat) + self.eps)).astype(x.dtype), (m, v, t)


@dataclass(frozen=True)
class Clipped:
    """Another optimiser that sees no gradient longer than `norm`: a longer one is scaled down to it.

    Source: Pascanu, Mikolov & Bengio 2013 (arXiv 1211.5063), algorithm 1.
    """

    optimizer: Any
    norm: float = 1.0

    def init(self, x: np.ndarray):
        """The optimiser's own memory."""
        return self.optimizer.init(x)

    def step(self, x: np.ndarray, gradient: np.ndarray, memory, rate: float):
        """The optimiser's own step."""
        length = float(np.linalg.norm(gradient.astype(np.float64)))
        scale = min(1.0, self.norm / length) if length else 1.0
        return self.optimizer.step(x, (gradient * scale).astype(x.dtype), memory, rate)


@dataclass(frozen=True)
class Freezing:
    """Another optimiser that leaves some parameters as they are: `Freezing.of(adam, params, "block*")`."""

    optimizer: Any
    spans: tuple[tuple[int, int], ...]  # of the vector, where nothing changes

    @classmethod
    def of(cls, optimizer, params: dict, *patterns: str) -> Freezing:
        """Freeze all parameters whose key fits a pattern, where `*` stands for any characters.

        Raises:
            ValueError: a pattern fits no key.
        """
        for pattern in patterns:
            if not any(fnmatch(key, pattern) for key in params):
                raise ValueError(f"Freezing: expected a pattern of keys such as {next(iter(params), '')}, "
                                 f"got {pattern!r}, which fits none")  # fmt: skip
        spans, start = [], 0
        for key, array in params.items():  # in the order of `parameters.flatten`
            if any(fnmatch(key, pattern) for pattern in patterns):
                spans.append((start, start + array.size))
            start += array.size
        return cls(optimizer, tuple(spans))

    def init(self, x: np.ndarray):
        """The optimiser's own memory."""
        return self.optimizer.init(x)

    def step(self, x: np.ndarray, gradient: np.ndarray, memory, rate: float):
        """The optimiser's own step, and then the frozen numbers put back."""
        new, memory = self.optimizer.step(x, gradient, memory, rate)
        for start, stop in self.spans:
            new[start:stop] = x[start:stop]
        return new, memory


def constant(rate: float):
    """The schedule that stays at `rate`."""
    return lambda step, steps: rate


def linear_end(rate: float):
    """The schedule that stays at `rate` and falls to 0 in a straight line over the last fifth of the steps.

    Running statistics lag behind weights that change; in the end they catch up.
    """
    return lambda step, steps: rate * min(1.0, max(0.0, (steps - step) / (0.2 * steps)))


def cosine(rate: float):
    """The schedule that falls from `rate` at step 0 to 0 at the last step along half a cosine.

    Source: Loshchilov & Hutter 2017 (arXiv 1608.03983), without restarts.
    """
    return lambda step, steps: rate * 0.5 * (1 + math.cos(math.pi * min(step, steps) / steps))
