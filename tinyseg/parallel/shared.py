"""The network of which each worker computes a share, and the algebra of what the workers have to exchange.

`group` stands for all workers: `workers` is how many they are, `rank` which one this is. `gather(x)` gives
everyone all workers' arrays (n, ...) in the workers' order, one after another, and `sum(x)` their sum.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property, partial
from typing import Any, NamedTuple

import numpy as np
from autograd.extend import defvjp, defvjp_argnums, primitive
from autograd.tracer import getval

from tinyseg.fast import FAST
from tinyseg.fast.norm import count, mean_of, mean_product, moments, per_channel
from tinyseg.layers import using
from tinyseg.ops import Engine
from tinyseg.ops.norm import BATCH, check_norm, measured
from tinyseg.parameters import unflatten


@dataclass(frozen=True)
class Shared:
    """A network as `fit` takes it, of which each worker computes its share of the minibatch."""

    net: Any
    group: Any

    def init(self, rng):
        """The network's own."""
        return self.net.init(rng)

    def loss(self, y, labels):
        """The network's own, of the whole minibatch."""
        return self.net.loss(y, labels)

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """The network's (y, state) of the whole minibatch x, on every worker."""
        group, images = self.group, len(x)
        if images < group.workers:  # all compute all of it, and one gradient counts
            params = unflatten(_replicated(group, group.rank == 0, *params.values()), params)
            return self.net(params, state, x, train=train, rng=rng)
        share = share_of(images, group)
        params = unflatten(_replicated(group, True, *params.values()), params)
        rng = RandomShare(rng, images, share)
        y, state = self._of_share(params, state, x[share], train=train, rng=rng)
        return _gathered(y, group), state

    @cached_property
    def _of_share(self):
        return using(self.net, engine(self.group))


def share_of(images: int, group) -> slice:
    """Which images of a minibatch are this worker's: as many as any other's, or one more or less."""
    return slice(*(images * rank // group.workers for rank in (group.rank, group.rank + 1)))


@dataclass(frozen=True)
class RandomShare:
    """The random numbers of a share of the minibatch, out of those that the whole minibatch draws."""

    rng: np.random.Generator
    images: int  # of the whole minibatch
    share: slice  # of its images

    def random(self, size, *args, **options):
        """As of a generator; size is (n, ...) for the share's n images."""
        n = self.share.stop - self.share.start
        if not isinstance(size, tuple) or size[:1] != (n,):
            raise ValueError(f"fit_parallel: expected random numbers (N, ...) for {n} images, got {size}")
        return self.rng.random((self.images, *size[1:]), *args, **options)[self.share]

    def __getattr__(self, name):
        raise ValueError(
            f"fit_parallel: expected a layer to draw by rng.random((N, ...)), which workers can share, "
            f"got rng.{name}"
        )


# The algebra. There is one loss L, of the outputs y = (y_1, ..., y_W) of W workers. Worker v finds y_v from
# its share and the parameters p, and L from all of y. So it knows dL/dy, of which it needs dL/dy_v: the way
# back through the gathering takes the own slice, without a message. The parameters enter L through every
# y_v. Each worker finds the part of dL/dp that goes through its own, and dL/dp is the sum of these parts.


@primitive
def _gathered(y, group):
    return group.gather(y)


defvjp(_gathered, lambda ans, y, group: lambda g: g[share_of(len(g), group)], argnums=(0,))


@primitive
def _replicated(group, counts, *arrays):
    """All parameters as one vector. On the way back, its cotangent is the sum of the workers' that count."""
    return np.concatenate([np.ravel(array) for array in arrays])


def _replicated_back(argnums, ans, args, _):
    group, counts, *arrays = args
    like = dict(enumerate(arrays))

    def backward(g):
        pieces = unflatten(group.sum(g if counts else np.zeros_like(g)), like)
        return [pieces[argnum - 2] for argnum in argnums]

    return backward


defvjp_argnums(_replicated, _replicated_back)


def engine(group) -> Engine:
    """The fast ops, but with batch norm over all workers' images. Instance norm needs its worker's alone."""

    def normalize(x, gamma, beta, *, axes, eps: float = 1e-5):
        if axes != BATCH:
            return FAST.normalize(x, gamma, beta, axes=axes, eps=eps)
        check_norm("batch_norm", x=x, gamma=gamma, beta=beta)
        found = measured("batch_norm", partial(_moments, group), getval(x), axes)
        y = _normalize(x, gamma, beta, found, group, float(eps))
        return y, found.mean.squeeze(axes), found.variance.squeeze(axes)  # (1, C, 1, 1) -> (C,)

    return Engine(FAST.conv2d, normalize)


# Moments of parts give those of the whole. Worker v has n_v numbers of a channel, with mean m_v and sum of
# squares q_v about m_v. With n = sum n_v and m = sum n_v m_v / n,
#
#     sum over all (x - m)^2 = sum_v (q_v + n_v (m_v - m)^2),
#
# since within a part the numbers' distances from m_v add up to 0. No large squares are subtracted, so no
# digits are lost. (Chan, Golub & LeVeque 1979.)
def _moments(group, x, axes):
    mean, variance, centred = moments(x, axes)
    n = np.full_like(mean, count(x, axes))  # (1, C, 1, 1), as all of these
    parts = group.gather(np.stack([n, mean, n * variance], axis=1))  # (1, 3, C, 1, 1) -> (W, 3, C, 1, 1)
    n, means, squares = (parts[:, i] for i in range(3))
    numbers = n.sum(axis=0, keepdims=True)
    m = (n * means).sum(axis=0, keepdims=True) / numbers
    centred += mean - m
    return AllMoments(
        m, (squares + n * (means - m) ** 2).sum(axis=0, keepdims=True) / numbers, centred, numbers
    )


class AllMoments(NamedTuple):
    """What batch norm has to know of all workers' images."""

    mean: np.ndarray  # (1, C, 1, 1)
    variance: np.ndarray  # (1, C, 1, 1), biased
    centred: np.ndarray  # the own x - mean, (N, C, H, W)
    numbers: np.ndarray  # that went into one mean, (1, C, 1, 1)


@primitive
def _normalize(x, gamma, beta, x_moments, group, eps):
    # As in fast/norm.py, the moments are all that is needed of x; its cotangent is asked for.
    y = x_moments.centred * (per_channel(gamma) * (x_moments.variance + eps) ** -0.5)
    y += per_channel(beta)
    return y


# ops/norm.py derives dx = gamma r (g - m(g) - xhat m(xhat g)). It holds here with m for the mean over all
# workers' images: one exchange of two sums for each channel. The sums that are the cotangents of gamma and
# beta stay the worker's own: like all parameters' they are summed in the end.
def _normalize_back(argnums, ans, args, _):
    _, gamma, _, (_, variance, centred, numbers), group, eps = args

    def backward(g):
        r = (variance + eps) ** -0.5
        own = [mean_of(g, BATCH), r * mean_product(centred, g, BATCH)]
        own = count(g, BATCH) * np.stack(own)  # (2, 1, C, 1, 1): sum(g), sum(xhat g)
        m_g, m_xhat_g = group.sum(own) / numbers
        dx = centred * (-r * m_xhat_g)
        dx += g
        dx -= m_g
        dx *= per_channel(gamma) * r
        cotangents = dx, own[1].ravel(), own[0].ravel()  # (1, C, 1, 1) -> (C,)
        return [cotangents[argnum] for argnum in argnums]

    return backward


defvjp_argnums(_normalize, _normalize_back)
