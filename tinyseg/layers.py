"""Layers: ops that own parameters, as frozen dataclasses of hyper-parameters.

Three things are kept apart. Hyper-parameters are a layer's fields and never change. Parameters are all that
is differentiated. State is the running statistics. Parameters and state are flat dicts of arrays, and the
caller holds them:

    params, state = layer.init(rng)
    y, state = layer(params, state, x, train=True, rng=rng)

Anything with these two is a layer: see docs/layers.md for one of your own. A layer within a layer has its
name and a dot before its keys: `block3.conv.weight`. That key is the array's name wherever we speak of it.
"""

from __future__ import annotations

from collections.abc import Mapping
from copy import copy
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any

import numpy as np
from autograd.tracer import getval

from tinyseg.fast import FAST  # the one line by which the library takes the twins; DEFINITIONS works as well
from tinyseg.ops import Engine, add, relu
from tinyseg.ops import dropout as drop
from tinyseg.ops.norm import BATCH, INSTANCE, fixed_norm


def engine_field() -> Any:
    """A field for the ops to call. It is no hyper-parameter: layers that differ in it alone are equal."""
    return field(default=FAST, compare=False, repr=False, kw_only=True)


@dataclass(frozen=True)
class Conv2d:
    """A dilated convolution with its weight and bias; see `ops.conv2d`.

    Parameters: `weight` (C_out, C_in, kernel, kernel) from a normal distribution, `bias` (C_out,) zero.

    Raises:
        ValueError: in a call, the weight has another shape: it is another layer's.
    """

    in_channels: int
    out_channels: int
    kernel: int = 3
    dilation: int = 1
    weight_std: float | None = None  # None: He et al. 2015 (arXiv 1502.01852), sqrt(2 / fan_in)
    engine: Engine = engine_field()

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state)."""
        fan_in = self.in_channels * self.kernel**2
        std = (2 / fan_in) ** 0.5 if self.weight_std is None else self.weight_std
        weight = rng.normal(0.0, std, self._shape).astype(np.float32)
        return {"weight": weight, "bias": np.zeros(self.out_channels, np.float32)}, {}

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """(N, C_in, H, W) to ((N, C_out, H, W), state)."""
        weight, bias = params["weight"], params["bias"]
        if (shape := np.shape(getval(weight))) != self._shape:
            raise ValueError(f"conv2d: weight: expected {self._shape}, got {shape}; is it another network's?")
        return self.engine.conv2d(x, weight, bias, dilation=self.dilation), state

    @property
    def _shape(self):
        return self.out_channels, self.in_channels, self.kernel, self.kernel


@dataclass(frozen=True)
class BatchNorm:
    """Batch norm with running statistics, so that a prediction never depends on the rest of its batch.

    Parameters: `gamma` ones and `beta` zeros, (C,). State: running `mean` and biased `variance`, (C,).
    Training normalises by the batch at hand and updates them; evaluation normalises by them:

        running = momentum * running + (1 - momentum) * batch's
    """

    channels: int
    eps: float = 1e-5
    momentum: float = 0.9  # of the old value; more would lag further behind weights that change
    running: bool = True  # False: the batch at hand in evaluation too, as LungNet's code has it
    engine: Engine = engine_field()
    axes = BATCH

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state)."""
        params = {"gamma": np.ones(self.channels, np.float32), "beta": np.zeros(self.channels, np.float32)}
        state = {"mean": np.zeros(self.channels, np.float32), "variance": np.ones(self.channels, np.float32)}
        return params, state if self.running else {}

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """(N, C, H, W) to ((N, C, H, W), state); the state is a new one when training."""
        gamma, beta = params["gamma"], params["beta"]
        if self.running and not train:
            return fixed_norm(x, gamma, beta, state["mean"], state["variance"], eps=self.eps), state
        y, mean, variance = self.engine.normalize(x, gamma, beta, axes=self.axes, eps=self.eps)
        return y, self.updated(state, mean, variance)

    def updated(self, state, mean, variance):
        """The running statistics after a batch with these statistics, (C,)."""
        if not self.running:
            return {}
        batch = {"mean": mean, "variance": variance}
        return {k: self.momentum * state[k] + (1 - self.momentum) * v for k, v in batch.items()}


@dataclass(frozen=True)
class InstanceNorm:
    """Instance norm, alike in training and evaluation. Parameters: `gamma` ones and `beta` zeros, (C,)."""

    channels: int
    eps: float = 1e-5
    engine: Engine = engine_field()
    axes = INSTANCE
    running = False

    def init(self, rng: np.random.Generator):
        """Fresh float32 (params, state)."""
        return {"gamma": np.ones(self.channels, np.float32), "beta": np.zeros(self.channels, np.float32)}, {}

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """(N, C, H, W) to ((N, C, H, W), state)."""
        y, _, _ = self.engine.normalize(x, params["gamma"], params["beta"], axes=self.axes, eps=self.eps)
        return y, state

    def updated(self, state, mean, variance):
        """There are no running statistics."""
        return state


@dataclass(frozen=True)
class Dropout:
    """Dropout, of training only; see `ops.dropout`."""

    rate: float  # the share dropped

    def init(self, rng: np.random.Generator):
        """No (params, state)."""
        return {}, {}

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """Any shape to (the same shape, state)."""
        return (drop(x, self.rate, rng) if train and self.rate else x), state


@dataclass(frozen=True)
class Block:
    """The paper's layer, relu(y + norm(y)) with y = conv(x); with `residual`, relu(x + y + norm(y)).

    `conv` and `norm` are any layers; with `norm=None` it is relu(y), or relu(x + y).

    Source: Anthimopoulos et al. 2018. The residual connection around the layer is the article's; that it
    joins before the relu, as in He et al. 2015 (arXiv 1512.03385), is our choice.
    """

    conv: Any
    norm: Any = None
    residual: bool = False
    engine: Engine = engine_field()

    @property
    def _parts(self):
        return {"conv": self.conv} | ({} if self.norm is None else {"norm": self.norm})

    def init(self, rng: np.random.Generator):
        """Fresh (params, state), keyed `conv.*` and `norm.*`."""
        return init_all(self._parts, rng)

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """(N, C_in, H, W) to ((N, C_out, H, W), state)."""
        run = Calls(self._parts, params, state, train=train, rng=rng)
        y = run("conv", x)
        if self.residual and getval(x).shape[1] not in (1, getval(y).shape[1]):
            raise ValueError(
                f"residual: expected x (N, 1 or {y.shape[1]}, H, W) to join {y.shape}, got {x.shape}"
            )
        if self._has_twin(train):
            return self._twin(run, x if self.residual else None, y)
        if self.norm is not None:
            y = add(y, run("norm", y))  # y + norm(y)
        if self.residual:
            y = add(x, y)
        return relu(y), run.state

    # The one exception to "a layer reads like its formula": norm, add and relu have a common fast twin.

    def _has_twin(self, train):
        if type(self.norm) not in (BatchNorm, InstanceNorm) or self.norm.engine != self.engine:
            return False
        return self.engine.norm_add_relu is not None and (train or not self.norm.running)

    def _twin(self, run, x, y):
        norm, params, state = self.norm, run.params["norm"], run.old_state.get("norm", {})
        gamma, beta = params["gamma"], params["beta"]
        y, mean, variance = self.engine.norm_add_relu(y, gamma, beta, x, axes=norm.axes, eps=norm.eps)
        return y, run.state | prefixed(norm.updated(state, mean, variance), "norm")


@dataclass(frozen=True, init=False)
class Sequential:
    """Layers one after another, `Sequential(first, second, ...)`; their keys begin with `0.`, `1.`, ..."""

    layers: tuple

    def __init__(self, *layers):
        object.__setattr__(self, "layers", layers)  # the one moment at which a frozen dataclass may change

    def init(self, rng: np.random.Generator):
        """Fresh (params, state)."""
        return init_all(self._named, rng)

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """What the last layer makes of what the others made of x, and the state."""
        run = Calls(self._named, params, state, train=train, rng=rng)
        for name in self._named:
            x = run(name, x)
        return x, run.state

    @property
    def _named(self):
        return {str(i): layer for i, layer in enumerate(self.layers)}


class Calls:
    """Call named layers, each with its own arrays, and collect the state that they return.

        run = Calls({"conv": conv, "norm": norm}, params, state, train=train, rng=rng)
        y = run("norm", run("conv", x))
        return y, run.state

    Raises:
        ValueError: a layer's own error with the layer's name before it, or an array that is missing.
        OverflowError: a norm's, with the layer's name before it.
    """

    def __init__(self, layers: Mapping, params, state, *, train: bool, rng):
        self.layers, self.train, self.rng = layers, train, rng
        self.params, self.old_state = by_layer(params), by_layer(state)
        self.state = dict(state)  # of a layer that is not called it stays as it is

    def __call__(self, name: str, x):
        """The result of the layer of this name."""
        params, state = self.params.get(name, {}), self.old_state.get(name, {})
        try:
            y, new_state = call(self.layers[name], params, state, x, train=self.train, rng=self.rng)
        except KeyError as missing:
            raise ValueError(f"{name}: there is no array for {missing}") from None
        except (ValueError, OverflowError) as error:
            raise type(error)(f"{name}: {error}") from None
        self.state |= prefixed(new_state, name)
        return y


def call(layer, *args, **options):
    """(y, state) of a layer called with (params, state, x, *, train, rng).

    Raises:
        ValueError: it does not take these arguments, or it returns no pair.
    """
    returned = called("a layer takes (params, state, x, *, train, rng)", layer, *args, **options)
    if not (isinstance(returned, tuple) and len(returned) == 2):
        raise ValueError(f"a layer returns (y, state), this one a {type(returned).__name__}")
    return returned


def called(takes: str, function, *args, **options):
    """function(*args, **options), or a ValueError that says what it should take."""
    try:
        return function(*args, **options)
    except TypeError as error:
        if "argument" not in str(error) or getattr(error.__traceback__, "tb_next", None):  # from inside
            raise
        raise ValueError(f"{takes}: {error}") from None


def using(layer, engine: Engine):
    """The same layer or network with another engine everywhere inside, such as `ops.DEFINITIONS`.

    "Inside" are a layer's attributes, and what stands in tuples, lists and dicts there. A layer that is made
    anew in each call has to be given its engine where it is made.
    """
    if isinstance(layer, Engine):
        return engine
    if type(layer) in (tuple, list):
        return type(layer)(using(part, engine) for part in layer)
    if isinstance(layer, Mapping):
        return {name: using(part, engine) for name, part in layer.items()}
    if not hasattr(layer, "init") or isinstance(layer, type):
        return layer
    layer = copy(layer)
    for name, value in list(vars(layer).items()):
        if isinstance(getattr(type(layer), name, None), cached_property):
            del vars(layer)[name]  # it was made with the other engine
        else:
            object.__setattr__(layer, name, using(value, engine))
    return layer


def init_all(layers: Mapping, rng: np.random.Generator):
    """Initialise named layers in their order: one dict of all parameters, one of all state."""
    params: dict = {}
    state: dict = {}
    for name, layer in layers.items():
        its_params, its_state = layer.init(rng)
        params |= prefixed(its_params, name)
        state |= prefixed(its_state, name)
    return params, state


def prefixed(arrays: Mapping, name: str) -> dict:
    """The same arrays with `name.` before every key."""
    return {f"{name}.{key}": value for key, value in arrays.items()}


def by_layer(arrays) -> dict[str, dict]:
    """One dict for each name that keys begin with, its keys without it: `prefixed` undone."""
    layers: dict[str, dict] = {}
    for key in arrays:
        name, _, rest = key.partition(".")
        layers.setdefault(name, {})[rest] = arrays[key]
    return layers
