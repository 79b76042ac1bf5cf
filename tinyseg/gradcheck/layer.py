"""A layer or network as functions of its inputs and parameters, one for each way in which it is called."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from contextlib import suppress
from itertools import product

import numpy as np
from autograd.tracer import isbox

from tinyseg.gradcheck.report import GradientError
from tinyseg.gradcheck.watch import Watched, flatten, frozen, kind, rebuilt
from tinyseg.layers import call, called


class Layer:
    """Somebody's layer, with parameters off their special points and a state that training has moved.

    Raises:
        ValueError: it is no layer.
    """

    def __init__(self, layer, inputs, seed: int):
        if isinstance(layer, type):
            raise ValueError(f"check_layer: expected a layer, got the class {layer.__name__}: call it first")
        if not (callable(layer) and callable(getattr(layer, "init", None))):
            raise ValueError(
                f"check_layer: expected a layer, with init(rng) and __call__(params, state, x, ...), got a "
                f"{type(layer).__name__}; of a function, use check_gradients"
            )
        self.layer, self.seed = layer, seed
        self.names = [f"x{i}" if i else "x" for i in range(len(inputs))]
        self.inputs = [_float64(np.asarray(x)) for x in inputs]
        for name, x, given in zip(self.names, self.inputs, inputs):
            if x.dtype.kind not in "fiub":
                got = f"one of {x.dtype}" if kind(given) == f"{x.dtype}" else f"a {kind(given)}"
                raise ValueError(f"check_layer: expected {name} as an array of numbers, got {got}")
        made = called("check_layer: init takes (rng)", layer.init, np.random.default_rng(seed))
        if not (isinstance(made, tuple) and len(made) == 2):
            raise ValueError(
                f"check_layer: expected init to return (params, state), got a {type(made).__name__}; "
                "a layer without a state returns (params, {})"
            )
        self.params, self.state = _arrays("parameters", made[0]), _arrays("state", made[1])
        named = inspect.signature(layer).parameters.values()
        self.takes = {
            o for o in ("rng", "train") if any(p.name == o or p.kind is p.VAR_KEYWORD for p in named)
        }
        leaves = flatten(self.params)
        for name in set(self.names) & set(leaves):
            raise ValueError(f"check_layer: a parameter cannot be called {name!r}, as an input is")
        given = dict(zip(self.names, self.inputs))
        self.leaves = self.moved(_floats(leaves), lambda moved: self.call(given | moved, self.state, True))
        self.trained = self.trained_state(given)

    def batches(self) -> list:
        """The inputs, and others with one image for several or two for one."""
        lengths = {len(x) if x.ndim else 0 for x in self.inputs}
        if len(lengths) > 1 or 0 in lengths:
            return [self.inputs]
        if lengths != {1}:
            return [self.inputs, [x[:1] for x in self.inputs]]
        others = self.other_inputs(np.random.default_rng(self.seed), 0.2)
        return [self.inputs, [np.concatenate([x, y]) for x, y in zip(self.inputs, others)]]

    def runs(self, train: bool | None) -> list:
        """(inputs, training, state) of each call to check.

        Training starts from the state that `init` made. All others meet one that training has moved.
        """
        batches, modes = self.batches(), (True, False) if train is None else (train,)
        runs = [(batch, training, self.trained) for training, batch in product(modes, batches)]
        if True in modes:
            runs[: 0 if flatten(self.state) else 1] = [(batches[0], True, self.state)]
        return runs

    def other_inputs(self, rng, share: float) -> list:
        """Inputs like those given: their floats times 1 - share to 1 + share, at random."""
        return [
            x * rng.uniform(1 - share, 1 + share, x.shape) if x.dtype.kind == "f" else x for x in self.inputs
        ]

    def function(self, inputs, train: bool, state) -> Watched:
        """The layer's output by its inputs and parameters."""
        state = rebuilt(state, {name: frozen(array) for name, array in _floats(flatten(state)).items()})
        given = dict(zip(self.names, inputs))

        def function(values):
            y, new_state = self.call(given | values, state, train)
            for key, array in flatten(new_state).items():
                if _holds_a_box(array):
                    raise GradientError(
                        f"check_layer: the state {key!r} comes back as an autograd box, which holds the "
                        "whole tape alive; make it from autograd.tracer.getval(x)"
                    )
            return y

        return Watched(function, "check_layer", _floats(given) | self.leaves)

    def call(self, values: Mapping, state, train: bool):
        """(y, state), if the layer keeps to its contract."""
        options = {"train": train, "rng": np.random.default_rng(self.seed)}
        params = rebuilt(self.params, values)
        inputs = [values[name] for name in self.names]
        before = flatten(params), flatten(state)
        try:
            returned = call(self.layer, params, state, *inputs, **{key: options[key] for key in self.takes})
        except KeyError as missing:
            if not any(repr(key) == str(missing) and key not in state for key in self.state):
                raise
            raise ValueError(
                f"check_layer: the state that the layer returns in training is without {missing}; return "
                f"all of it, {{**state, {missing}: ...}}"
            ) from None
        for what, kept, now in zip(("parameters", "state"), before, (flatten(params), flatten(state))):
            if list(kept) != list(now) or any(kept[name] is not now[name] for name in kept):
                raise GradientError(
                    f"check_layer: the layer writes into the dict of its {what}, which is its caller's; "
                    "return a new one, {**state, 'mean': mean}"
                )
        _arrays("state that the layer returns", returned[1])
        return returned

    def moved(self, leaves: dict, call) -> dict:
        """Off the zeros and ones of a start, where a wrong gradient can hide.

        What is positive stays positive, and nothing moves further than where the layer's values are finite.
        """
        for length in (0.1, 1e-2, 1e-3):
            rng = np.random.default_rng(self.seed)
            moved = {}
            for name, array in leaves.items():
                relative = array * (1 + length * rng.uniform(-1, 1, array.shape))
                moved[name] = np.where(array == 0, length * rng.normal(size=array.shape), relative)
            with np.errstate(all="ignore"), suppress(ArithmeticError, ValueError):
                if np.isfinite(np.asarray(call(moved)[0], float)).all():
                    return moved
        return leaves

    def trained_state(self, given):
        """The state after three steps of training; what those leave as it was is moved at random."""
        state, before, values = self.after_training(given), flatten(self.state), given | self.leaves
        left = {n: a for n, a in _floats(flatten(state)).items() if np.array_equal(a, before.get(n))}
        return rebuilt(state, self.moved(left, lambda moved: self.call(values, rebuilt(state, moved), False)))

    def after_training(self, given):
        for share in (0.5, 0.05, 5e-3) if flatten(self.state) else ():  # as far as the state stays finite
            rng, state = np.random.default_rng(self.seed), self.state
            for _ in range(3):
                others = dict(zip(self.names, self.other_inputs(rng, share)))
                with np.errstate(all="ignore"), suppress(Exception):  # it may refuse these
                    _, state = self.call(others | self.leaves, state, True)
            if all(np.isfinite(array).all() for array in _floats(flatten(state)).values()):
                return state
        return self.state


def images(inputs) -> str:
    """How many there are, in words."""
    count = len(inputs[0]) if inputs[0].ndim else 1
    return f"{count} image{'s' if count > 1 else ''}"


def _arrays(what: str, value):
    if not isinstance(value, Mapping | list | tuple):
        raise ValueError(
            f"check_layer: expected the {what} as a dict or list of arrays, got {type(value).__name__}; "
            "of none, an empty dict"
        )
    return value


def _holds_a_box(value) -> bool:
    return isbox(value) or any(map(isbox, np.ravel(value)))


def _float64(array):
    return array.astype(np.float64) if array.dtype.kind == "f" else array


def _floats(leaves: Mapping) -> dict:
    """Those that are arrays of floats, in float64. Integers and the like are left alone."""
    arrays = {name: np.asarray(array) for name, array in leaves.items()}
    return {name: array.astype(np.float64) for name, array in arrays.items() if array.dtype.kind == "f"}
