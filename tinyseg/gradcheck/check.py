"""Is a gradient right? `check_gradients` and `check_layer` compare autograd's with what small steps measure.

What is checked is what training uses: the gradients of all arrays in one way back. Then each is taken alone,
a second time, and for the cotangent times -1024, and must be the same. slope.py measures a slope, watch.py
calls the function and keeps an eye on it, point.py knows the function at one point, compare.py compares along
directions from there, layer.py makes functions of a layer in each of its modes.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace

import numpy as np
from autograd import make_vjp
from autograd import numpy as anp
from autograd.tracer import isbox

from tinyseg.gradcheck.compare import Comparison, How
from tinyseg.gradcheck.layer import Layer, images
from tinyseg.gradcheck.point import Point, index
from tinyseg.gradcheck.report import GradientError, Report, Row, merged
from tinyseg.gradcheck.watch import Watched, by_name, flatten, kind, rebuilt


def check_gradients(
    function: Callable,
    arrays: Mapping,
    *,
    order: int = 1,
    modes: tuple[str, ...] = ("reverse",),
    tolerance: float = 1e-6,
    entries: int = 64,
    seed: int = 0,
) -> Report:
    """Compare autograd's gradients of `function(**arrays)` with central differences, array by array.

    Args:
        function: takes the arrays by name, returns an array (or scalar), and does the same each time.
        arrays: name to float array (or scalar), or to dicts and lists of them. Computed in float64. What is
            not to be differentiated, such as labels, belongs into the function.
        order: 2 checks the second derivatives too, as the gradients of the gradients.
        modes: with "forward", forward mode is checked too.
        tolerance: the largest error allowed, relative to the derivative itself; along a direction, to the
            root of the sum of its parts' squares. What rounding can do is allowed on top.
        entries: arrays of up to so many entries are checked entry by entry, larger ones along directions. Of
            more than 8 arrays, fewer entries each. (Of a layer, in its first run: training, the batch given.)
        seed: of the cotangent and the directions.

    Returns:
        A `Report`; printed, it is a table with the worst place in each array and a verdict, which is right,
        kink, vacuous or WRONG.

    Raises:
        GradientError: a gradient is wrong or not finite, or the function writes into what it is given, keeps
            something between calls, or cannot be followed by autograd; the message says what and where.
        ValueError: an array is not of finite floats, or the function takes other arguments, gives another
            value each time, or returns something else than one float64 array.
    """
    if not isinstance(arrays, Mapping):
        raise ValueError(f"check_gradients: expected a dict of arrays by name, got a {type(arrays).__name__}")
    if not callable(function):
        raise ValueError(f"check_gradients: expected a function, got a {type(function).__name__}")
    leaves = {name: _finite("check_gradients", name, array) for name, array in flatten(arrays).items()}
    call = by_name(function, arrays)
    watched = Watched(lambda values: call(rebuilt(arrays, values)), "check_gradients", leaves)
    how = How("check_gradients", modes, tolerance, entries, seed)
    return _report(_rows(watched, how, order), how)


def check_layer(
    layer,
    x,
    *inputs,
    train: bool | None = None,
    order: int = 1,
    modes: tuple[str, ...] = ("reverse",),
    tolerance: float = 1e-6,
    entries: int = 64,
    seed: int = 0,
) -> Report:
    """`check_gradients` of a layer or network: by its inputs and by each of its parameters.

    It is called in training and in evaluation, with the batch given and with another one: a single image of
    several, or two of a single one. Training starts from the state that `init` made; all other runs get one
    that training has moved. The first run checks each array by itself. The others check all arrays together,
    for one row, "all arrays".

    Args:
        layer: has `init(rng) -> (params, state)` and `layer(params, state, x, train=...) -> (y, state)`,
            and takes `rng=` if it draws random numbers.
        x, inputs: what to call it with, (N, C, H, W) each. Integer arrays are left as they are.
        train: only training, or only evaluation.
        order, modes, tolerance, entries: as for `check_gradients`.
        seed: of the parameters, of what the layer draws (the same each time), and of the check.

    Returns and raises what `check_gradients` does.
    """
    how = How("check_layer", modes, tolerance, entries, seed)
    if not isinstance(train, bool | np.bool_ | None):
        raise ValueError(f"check_layer: expected train to be None, True or False, got {train!r}")
    user = Layer(layer, [x, *inputs], seed)
    rows: list[Row] = []
    for inputs, training, state in user.runs(train):
        run = f"{'train' if training else 'evaluate'}, {images(inputs)}"
        watched = user.function(inputs, training, state)
        for name, array in watched.arrays.items():
            _finite("check_layer", name, array)
        if inputs is not user.inputs and (refused := _refusal(watched)):
            how.notes.append(f"note: not checked: {run}, since the layer refuses it: {refused}")
            continue
        rows += _rows(watched, how, order, run, thorough=not rows)
        if not all(row.passed for row in rows):
            break  # the other runs would say it once more
    return _report(merged(rows), how)


def _refusal(watched: Watched) -> str:
    """Why a layer does not take inputs that are ours, not the user's."""
    try:
        values = watched()
    except GradientError:
        raise
    except Exception as error:
        return str(error) or type(error).__name__
    return "its result is not a number" if np.isnan(values).any() else ""


def _rows(watched: Watched, how: How, order: int, run: str = "", thorough: bool = True) -> list[Row]:
    """The rows of one function, and those of its gradients for order 2."""
    if order is True or order not in (1, 2):
        raise ValueError(f"{how.name}: expected order 1 or 2, got {order!r}")
    with np.errstate(all="ignore"):  # a step may leave the function's domain; that is judged
        rows = Comparison(Point(watched, how.seed, thorough), how, run, thorough).rows()
        if order == 2:
            point = Point(_gradients(watched, how.seed), how.seed, thorough)
            # The copy has the same list of notes.
            second = Comparison(point, replace(how, modes=("reverse",)), run, thorough)
            rows += [row.renamed(f"{row.name}, second") for row in second.rows()]
    return rows


def _gradients(watched: Watched, seed: int) -> Watched:
    """The gradients of all arrays, as one function whose gradients are the second derivatives."""
    cotangent = np.random.default_rng(seed + 1).normal(size=np.shape(watched()))

    def function(values):
        vjp, _ = make_vjp(lambda arrays: watched.function(dict(zip(values, arrays))))(tuple(values.values()))
        return anp.concatenate([anp.ravel(g) for g in vjp(cotangent)])

    return Watched(function, f"{watched.name}, second derivatives", watched.arrays)


def _report(rows: list[Row], how: How) -> Report:
    report = Report(tuple(rows), tuple(dict.fromkeys(how.notes)))
    if not report.passed:
        raise GradientError(f"autograd and central differences disagree:\n{report}")
    return report


def _finite(who: str, name: str, array):
    if isbox(array):
        raise ValueError(f"{who}: {name} should hold floats, not an autograd box")
    if np.asarray(array).dtype.kind != "f":
        hint = "; a list counts as several arrays" if name.rpartition(".")[2].isdigit() else ""
        raise ValueError(
            f"{who}: {name} should hold floats, not {kind(array)}{hint}; what is not to be differentiated "
            "belongs into the function"
        )
    finite = np.isfinite(array)
    if not finite.all():
        at = index(np.argmin(finite), np.shape(array))
        raise ValueError(f"{who}: {name} should be finite to have a slope; at index {at} it is not")
    return array
