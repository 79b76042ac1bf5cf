"""Layers: ops that own parameters, as frozen dataclasses of hyper-parameters.

Three things are kept apart. Hyper-parameters are a layer's fields and never change. Parameters, all that
is differentiated, and state, the running statistics, are flat dicts of arrays that the caller holds:

    params, state = layer.init(rng)
    y, state = layer(params, state, x, train=True)

A layer within a layer has its name and a dot before its keys: `block3.conv.weight`. That key is the
array's name wherever it is spoken of.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from autograd.tracer import getval

from tinyseg.ops import add, conv2d, instance_norm, norm_add_relu, relu
from tinyseg.ops.norm import BATCH, INSTANCE, fixed_norm, moments, normalize


@dataclass(frozen=True)
class Conv2d:
    """A dilated convolution with its weight and bias; see `ops.conv2d`.

    Parameters: `weight` (C_out, C_in, kernel, kernel) from a normal distribution, `bias` (C_out,) zero.
    """

    in_channels: int
    out_channels: int
    kernel: int = 3
    dilation: int = 1
    weight_std: float | None = None  # None: He et al. 2015 (arXiv 1502.01852), sqrt(2 / fan_in)
    method: str = "gemm"

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state)."""
        shape = (self.out_channels, self.in_channels, self.kernel, self.kernel)
        fan_in = self.in_channels * self.kernel**2
        std = (2 / fan_in) ** 0.5 if self.weight_std is None else self.weight_std
        weight = rng.normal(0.0, std, shape).astype(np.float32)
        return {"weight": weight, "bias": np.zeros(self.out_channels, np.float32)}, {}

    def __call__(self, params, state, x, *, train: bool = False):
        """(N, C_in, H, W) to ((N, C_out, H, W), state)."""
        y = conv2d(x, params["weight"], params["bias"], dilation=self.dilation, method=self.method)
        return y, state


@dataclass(frozen=True)
class BatchNorm:
    """Batch norm with running statistics, so that a prediction never depends on the rest of its batch.

    Parameters: `gamma` ones and `beta` zeros, (C,). State: running `mean` and biased `variance`, (C,).
    Training normalises by the batch at hand and moves them; evaluation normalises by them:

        running = momentum * running + (1 - momentum) * batch's
    """

    channels: int
    eps: float = 1e-5
    momentum: float = 0.9  # of the old value; more would lag further behind weights that move
    running: bool = True  # False: the batch at hand in evaluation too, as LungNet's code has it

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state)."""
        one, zero = np.ones(self.channels, np.float32), np.zeros(self.channels, np.float32)
        return {"gamma": one, "beta": zero}, {"mean": zero, "variance": one} if self.running else {}

    def __call__(self, params, state, x, *, train: bool = False):
        """(N, C, H, W) to ((N, C, H, W), state); the state is a new one when training."""
        gamma, beta = params["gamma"], params["beta"]
        if self.running and not train:
            return fixed_norm(x, gamma, beta, state["mean"], state["variance"], eps=self.eps), state
        its_moments = moments(getval(x), BATCH)
        y = normalize(x, gamma, beta, axes=BATCH, eps=self.eps, x_moments=its_moments)
        return y, self._moved(state, its_moments)

    def add_relu(self, params, state, x, skip, *, train: bool = False):
        """relu(skip + x + norm(x)) at once, where skip may be None; else as the call."""
        gamma, beta = params["gamma"], params["beta"]
        if self.running and not train:
            x = add(x, fixed_norm(x, gamma, beta, state["mean"], state["variance"], eps=self.eps))
            return relu(x if skip is None else add(skip, x)), state
        its_moments = moments(getval(x), BATCH)
        y = norm_add_relu(x, gamma, beta, skip, axes=BATCH, eps=self.eps, y_moments=its_moments)
        return y, self._moved(state, its_moments)

    def _moved(self, state, its_moments):
        """The running statistics after a batch with these moments."""
        if not self.running:
            return {}
        batch = {"mean": its_moments.mean, "variance": its_moments.variance}
        return {
            k: self.momentum * state[k] + (1 - self.momentum) * v.ravel() for k, v in batch.items()
        }  # (C,)


@dataclass(frozen=True)
class InstanceNorm:
    """Instance norm, alike in training and evaluation. Parameters: `gamma` ones and `beta` zeros, (C,)."""

    channels: int
    eps: float = 1e-5

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state)."""
        return {"gamma": np.ones(self.channels, np.float32), "beta": np.zeros(self.channels, np.float32)}, {}

    def __call__(self, params, state, x, *, train: bool = False):
        """(N, C, H, W) to ((N, C, H, W), state)."""
        return instance_norm(x, params["gamma"], params["beta"], eps=self.eps), state

    def add_relu(self, params, state, x, skip, *, train: bool = False):
        """relu(skip + x + norm(x)) at once, where skip may be None; else as the call."""
        return norm_add_relu(x, params["gamma"], params["beta"], skip, axes=INSTANCE, eps=self.eps), state


@dataclass(frozen=True)
class Block:
    """The paper's layer, relu(y + norm(y)) with y = conv(x); with `residual`, relu(x + y + norm(y)).

    Source: Anthimopoulos et al. 2018. The residual connection around the layer is the article's; that it
    joins before the relu, as in He et al. 2015 (arXiv 1512.03385), is our choice.
    """

    conv: Conv2d
    norm: BatchNorm | InstanceNorm
    residual: bool = False

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state), keyed `conv.*` and `norm.*`."""
        return init_all({"conv": self.conv, "norm": self.norm}, rng)

    def __call__(self, params, state, x, *, train: bool = False):
        """(N, C_in, H, W) to ((N, C_out, H, W), state)."""
        params, state = by_layer(params), by_layer(state)
        y, _ = self.conv(params["conv"], {}, x, train=train)
        skip = x if self.residual else None
        y, norm_state = self.norm.add_relu(params["norm"], state.get("norm", {}), y, skip, train=train)
        return y, prefixed(norm_state, "norm")


@dataclass(frozen=True)
class InputBlock:
    """What the paper puts before its first convolution: x + norm(x)."""

    norm: BatchNorm | InstanceNorm

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state), keyed `norm.*`."""
        return init_all({"norm": self.norm}, rng)

    def __call__(self, params, state, x, *, train: bool = False):
        """(N, C, H, W) to ((N, C, H, W), state)."""
        params, state = by_layer(params), by_layer(state)
        normed, norm_state = self.norm(params["norm"], state.get("norm", {}), x, train=train)
        return add(x, normed), prefixed(norm_state, "norm")


def init_all(layers: dict, rng: np.random.Generator):
    """Initialise named layers in their order: one dict of all parameters, one of all state."""
    params, state = {}, {}
    for name, layer in layers.items():
        its_params, its_state = layer.init(rng)
        params |= prefixed(its_params, name)
        state |= prefixed(its_state, name)
    return params, state


def prefixed(arrays: dict, name: str) -> dict:
    """The same arrays with `name.` before every key."""
    return {f"{name}.{key}": value for key, value in arrays.items()}


def by_layer(arrays) -> dict[str, dict]:
    """One dict for each name that keys begin with, its keys without it: `prefixed` undone."""
    layers = {}
    for key in arrays:
        name, _, rest = key.partition(".")
        layers.setdefault(name, {})[rest] = arrays[key]
    return layers
