"""Is a gradient right? Compare autograd's with what small steps measure.

    v . f(x + h e) - v . f(x - h e)
    -------------------------------  =  e . gradient  +  O(h^2)
                  2 h

f is any function or layer, v a random cotangent (a sum would hide much: that of a batch norm's output
never changes), e one entry of an array or, where there are many, a random direction through all of them.
A direction costs as much as an entry and misses no wrong gradient, save with probability zero. All in
float64: in float32 the difference would be noise.

What differs counts relative to the gradient's own size, so that a function with small values must have a
right gradient too. Only below what rounding can do to the difference is nothing asked.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass

import numpy as np
from autograd import make_vjp

STEP = 1e-6  # times each array's size: the formula's own error falls as h^2, that of rounding grows as 1/h
ROUNDING = 16 * np.finfo(np.float64).eps  # of a function's value, relative to it: some operations deep


class GradientError(AssertionError):
    """At least one gradient is wrong; the message is the table of all that were checked."""


@dataclass(frozen=True)
class Row:
    """One array's check: the worst place, both derivatives there, and their difference."""

    name: str
    shape: tuple[int, ...]
    checked: str  # "12 entries" or "8 directions"
    worst: str  # an index, or which direction
    autograd: float
    numerical: float
    error: float  # |autograd - numerical| relative to the largest of all those checked in this array
    passed: bool


@dataclass(frozen=True)
class Report:
    """The rows of a check; `str` lays them out as a table."""

    rows: tuple[Row, ...]

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def __str__(self):
        table = [("name", "shape", "checked", "worst at", "autograd", "numerical", "error", "")]
        for row in self.rows:
            values = (f"{row.autograd:.6e}", f"{row.numerical:.6e}", f"{row.error:.1e}")
            verdict = "" if row.passed else "WRONG"
            table.append((row.name, str(row.shape), row.checked, row.worst, *values, verdict))
        widths = [max(map(len, column)) for column in zip(*table)]
        return "\n".join("  ".join(map(str.ljust, row, widths)).rstrip() for row in table)


def check_gradients(
    function, arrays: dict, *, tolerance: float = 1e-6, entries: int = 64, seed: int = 0
) -> Report:
    """Compare autograd's gradient of `function(**arrays)` with central differences, array by array.

    Args:
        function: takes the arrays by name, returns an array (or scalar), and does the same each time.
        arrays: name to float array, each of which is checked; computed in float64.
        tolerance: largest error allowed, relative to the largest derivative checked in that array.
        entries: arrays of up to so many entries are checked entry by entry, larger ones along 8 random
            directions.
        seed: of the cotangent and the directions.

    Returns:
        A `Report`; printed, it is a table with the worst place in each array.

    Raises:
        GradientError: a gradient is wrong, or is NaN; the message is that table.
        ValueError: the function does not keep float64, or gives another value each time.
    """
    rng = np.random.default_rng(seed)
    arrays = {name: np.array(array, np.float64) for name, array in arrays.items()}
    output = np.asarray(function(**arrays))
    if output.dtype != np.float64:
        raise ValueError(f"check_gradients: the function turns float64 into {output.dtype}; it must keep it")
    if not np.array_equal(output, function(**arrays), equal_nan=True):
        raise ValueError("check_gradients: the function gives another value each time; seed its rng")
    cotangent = rng.normal(size=output.shape)
    noise = ROUNDING * np.linalg.norm(cotangent * output)  # of v . f(x + h e) - v . f(x - h e)

    rows = []
    for name, array in arrays.items():
        if not array.size:
            continue

        def by_this(x, name=name):
            return function(**{**arrays, name: x})

        gradient = _gradient(by_this, array, cotangent)
        if gradient.shape != array.shape:
            raise GradientError(f"{name}: expected a gradient of shape {array.shape}, got {gradient.shape}")
        step = STEP * (np.sqrt(np.mean(array**2)) or 1.0)
        places, directions = _directions(array.shape, entries, rng)
        measured = [
            np.sum(cotangent * (by_this(array + step * e) - by_this(array - step * e))) / (2 * step)
            for e in directions
        ]
        found = [np.sum(gradient * e) for e in directions]
        allowed = noise / step, tolerance
        rows.append(_row(name, array.shape, places, np.array(found), np.array(measured), *allowed))
    report = Report(tuple(rows))
    if not report.passed:
        raise GradientError(f"autograd and central differences disagree:\n{report}")
    return report


def check_layer(layer, x, *, train: bool = True, seed: int = 0, **options) -> Report:
    """`check_gradients` of a layer or network: by its image `x` and by each of its parameters.

    Args:
        layer: has `init(rng) -> (params, state)` and `layer(params, state, x, train=...) -> (y, state)`,
            and takes `rng=` if it draws random numbers.
        x: what to call it with, (N, C, H, W).
        train: call it in training or in evaluation.
        seed: of the parameters, of what the layer draws (the same each time), and of the check.
        options: `tolerance` and `entries`, as for `check_gradients`.

    Returns and raises what `check_gradients` does.
    """
    params, state = layer.init(np.random.default_rng(seed))
    # Initial zeros and ones are special points (no bias, beta = 0): move off them.
    rng = np.random.default_rng(seed)
    params = {name: array + 0.1 * rng.normal(size=array.shape) for name, array in params.items()}
    state = {name: np.array(array, np.float64) for name, array in state.items()}

    takes_rng = "rng" in inspect.signature(layer).parameters

    def function(x, **params):
        drawn = {"rng": np.random.default_rng(seed)} if takes_rng else {}
        return layer(params, state, x, train=train, **drawn)[0]

    return check_gradients(function, {"x": x, **params}, seed=seed, **options)


def _gradient(function, array, cotangent):
    """autograd's gradient of cotangent . function at array."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input")  # then it is 0, and is checked
        vjp, _ = make_vjp(function)(array)
        return np.asarray(vjp(cotangent))


def _directions(shape, entries, rng):
    """What to call each direction, and the directions: all unit vectors of a small array, else 8 random."""
    size = int(np.prod(shape))
    if size <= entries:
        places = [str(tuple(map(int, np.unravel_index(i, shape)))) for i in range(size)]
        return places, np.eye(size).reshape(size, *shape)  # (size, size) -> (size, *shape)
    return [f"direction {i}" for i in range(8)], rng.normal(size=(8, *shape))


def _row(name, shape, places, found, measured, noise, tolerance):
    difference = np.abs(found - measured)
    difference[np.isnan(difference)] = np.inf
    worst = int(difference.argmax())
    scale = np.nanmax(np.abs([found, measured]), initial=0.0)
    passed = bool(difference[worst] <= tolerance * scale + noise)
    kind = "directions" if places[0].startswith("direction") else "entries" if places[1:] else "entry"
    error = float(difference[worst] / (scale or 1.0))
    values = float(found[worst]), float(measured[worst])
    return Row(name, shape, f"{len(places)} {kind}", places[worst], *values, error, passed)
