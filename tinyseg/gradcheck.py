"""Is a gradient right? Compare autograd's with what small steps measure.

    v . (f(x + h e) - f(x - h e))
    -----------------------------  =  e . gradient  +  O(h^2)
                 2 h

f is any function or layer, v a random cotangent (a sum would hide much: that of a batch norm's output
never changes), e one entry of an array or, where there are many, a random direction through all of them.
A direction costs as much as an entry and misses no wrong gradient, save with probability zero. All in
float64: in float32 the difference would be noise.

One step h does for most. Where the two sides disagree, the measurement may be to blame: h too long for a
curve, across the kink of a relu, or so short that only rounding is left. So it is taken again with steps
of many lengths, and the one counts that its neighbour confirms best. What differs then counts relative to
the gradient's own size: a function with small values must have a right gradient too.
"""

from __future__ import annotations

import inspect
import warnings
from dataclasses import dataclass

import numpy as np
from autograd import make_vjp

STEP = 1e-6  # relative to x: the formula's own error falls as h^2, that of rounding grows as 1/h
STEPS = 10.0 ** -np.arange(1, 10)  # where that one is not good enough, relative to x and to 1
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
        arrays: name to float array (or scalar), each of which is checked; computed in float64. What is
            not to be differentiated, such as labels, belongs into the function.
        tolerance: largest error allowed, relative to the largest derivative checked in that array.
        entries: arrays of up to so many entries are checked entry by entry, larger ones along 8 random
            directions.
        seed: of the cotangent and the directions.

    Returns:
        A `Report`; printed, it is a table with the worst place in each array.

    Raises:
        GradientError: a gradient is wrong or not finite; the message is that table.
        ValueError: an array is not of floats, or the function returns something else than one float64
            array, or gives another value each time.
    """
    if not isinstance(arrays, dict):
        raise ValueError(f"check_gradients: expected a dict of arrays by name, got a {type(arrays).__name__}")
    rng, function = np.random.default_rng(seed), _by_position(function)
    arrays = {name: _floats(name, array) for name, array in arrays.items()}
    with np.errstate(all="ignore"):  # a step may leave the function's domain; that is judged below
        output = function(**arrays)
        if isinstance(output, tuple | list | dict) or np.asarray(output).dtype != np.float64:
            kind = getattr(output, "dtype", type(output).__name__)
            raise ValueError(f"check_gradients: the function must return one float64 array, not {kind}")
        if not np.array_equal(output, function(**arrays), equal_nan=True):
            raise ValueError("check_gradients: the function gives another value each time; seed its rng")
        cotangent = rng.normal(size=np.shape(output))
        rows = []
        for name, array in arrays.items():
            if array.size:

                def by_this(x, name=name):
                    return function(**{**arrays, name: x})

                rows.append(_check(by_this, name, array, cotangent, tolerance, entries, rng))
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
    rng = np.random.default_rng(seed)
    params, state = layer.init(rng)
    if "x" in params:
        raise ValueError("check_layer: a parameter cannot be called 'x', which is the image")
    # Initial zeros and ones are special points, at which a wrong gradient can hide: move off them.
    params = {name: array + 0.1 * rng.normal(size=np.shape(array)) for name, array in params.items()}
    state = {name: np.array(array, np.float64) for name, array in state.items()}
    named = inspect.signature(layer).parameters.values()
    takes_rng = any(p.name == "rng" or p.kind is p.VAR_KEYWORD for p in named)

    def function(x, **params):
        drawn = {"rng": np.random.default_rng(seed)} if takes_rng else {}
        returned = layer(params, state, x, train=train, **drawn)
        if not (isinstance(returned, tuple) and len(returned) == 2):
            raise ValueError(f"check_layer: a layer returns (y, state), this one a {type(returned).__name__}")
        return returned[0]

    return check_gradients(function, {"x": x, **params}, seed=seed, **options)


def _by_position(function):
    """The function with its named arrays passed by position: autograd follows no primitive's keywords."""
    signature = inspect.signature(getattr(function, "fun", function))  # `fun` is what a primitive wraps

    def call(**arrays):
        bound = signature.bind(**arrays)
        return function(*bound.args, **bound.kwargs)

    return call


def _floats(name, array):
    if np.asarray(array).dtype.kind != "f":
        raise ValueError(f"check_gradients: {name} should hold floats, not {np.asarray(array).dtype}")
    return np.array(array, np.float64)


def _check(function, name, array, cotangent, tolerance, entries, rng) -> Row:
    """The row of one array."""
    gradient = _gradient(function, array, cotangent)
    if gradient.shape != array.shape:
        raise GradientError(f"{name}: expected a gradient of shape {array.shape}, got {gradient.shape}")
    by_entry = array.size <= entries
    if by_entry:
        directions = np.eye(array.size).reshape(-1, *array.shape)  # (size, size) -> (size, *shape)
        kind = "entries" if array.size > 1 else "entry"
    else:
        directions, kind = rng.normal(size=(8, *array.shape)), "directions"
    lengths = [np.max(np.abs(array[e != 0])) or 1.0 for e in directions]
    found = np.array([np.sum(gradient * e) for e in directions])
    measured = np.array(
        [_quotient(function, array, e, cotangent, STEP * s)[0] for e, s in zip(directions, lengths)]
    )
    scale = np.max(np.abs([found, measured]))  # NaN where one of them is, and then nothing is near enough
    allowed = np.full(len(directions), tolerance * scale)
    for i in np.flatnonzero(~(np.abs(found - measured) <= allowed)):
        # Measured with more care, a right gradient may differ by what remains uncertain, and no more.
        measured[i], allowed[i] = _measure(function, array, directions[i], cotangent, lengths[i])
    scale = np.max(np.abs([found, measured]), where=np.isfinite([found, measured]), initial=0.0)
    error = np.abs(found - measured)
    error[~np.isfinite(error)] = np.inf
    allowed = np.maximum(allowed, tolerance * scale)
    worst = int(np.argmax(error - allowed))
    index = str(tuple(map(int, np.unravel_index(worst, array.shape)))) if by_entry else f"direction {worst}"
    return Row(
        name,
        array.shape,
        f"{len(directions)} {kind}",
        index,
        float(found[worst]),
        float(measured[worst]),
        float(error[worst] / (scale or 1.0)),
        bool(np.all(error <= allowed) and np.all(np.isfinite(error))),
    )


def _gradient(function, array, cotangent):
    """autograd's gradient of cotangent . function at array."""
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Output seems independent of input")  # then it is 0, and is checked
        vjp, _ = make_vjp(function)(array)
        return np.asarray(vjp(cotangent))


def _quotient(function, x, direction, cotangent, h):
    """The difference quotient for one step h, and what rounding may have done to it."""
    x_above, x_below = x + h * direction, x - h * direction
    above, below = function(x_above), function(x_below)
    step = np.sum((x_above - x_below) * direction) / np.sum(direction**2)  # 2 h, as x's own rounding left it
    return np.sum(cotangent * (above - below)) / step, ROUNDING * np.linalg.norm(cotangent * above) / h


def _measure(function, x, direction, cotangent, length):
    """The difference quotient that its neighbour in a ladder of steps confirms best, and its uncertainty."""
    best = np.nan, 0.0
    for unit in {length, 1.0}:
        rungs = [_quotient(function, x, direction, cotangent, h * unit) for h in STEPS]
        for (coarse, _), (fine, rounding) in zip(rungs, rungs[1:]):
            uncertainty = abs(coarse - fine) + rounding
            if np.isfinite(uncertainty) and (np.isnan(best[0]) or uncertainty < best[1]):
                best = fine, uncertainty
    return best
