"""The slope of a function along a line, from its values alone, and how far off that can be.

Let line(t) = f(x + t e), and v a cotangent. A central difference measures the slope of v . line at 0:

    v . (line(h) - line(-h))
    ------------------------  =  slope  +  O(h^2)  +  O(noise / h)
              2 h

The second term is the curve's: it falls with the step h. The third is rounding's: it grows when h falls. No
single h suits every function, so `measure` climbs down a ladder of steps. Of each rung it knows two things:

    curve   the difference to the next longer step, which is larger than what the curve puts in here
    noise   what the values do that no smooth function would: line(h) + line(-h) - 2 line(0) on finer rungs,
            and the steps of a staircase: rounding makes one of a function if numbers inside are larger than
            its result

The best rung has the smallest sum of both, and no finer rung may contradict it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

RUNGS = 10.0 ** -np.arange(1, 12)  # steps relative to x
ABSOLUTE = 10.0 ** -np.arange(1, 9)  # and to 1, where x is small and what it is added to is not
TINY = 10.0 ** -np.arange(12, 16)
SAFETY = 4.0  # noise is known from a few samples only
STAIR = 16.0  # steps of a staircase up to so many units in the last place of 1 are taken for rounding


@dataclass(frozen=True)
class Slope:
    """A slope, what it may be off by, and how the function bends at 0."""

    value: float
    uncertainty: float
    corner: float = 0.0  # the sum over outputs of |slope to the right - slope to the left|, times |v|
    moved: bool = True  # False: no step changed any value
    stair: float = 0.0  # the smallest change seen, relative to the value: large for a staircase


def glance(line: Callable, at_zero, v, h: float) -> Slope:
    """The slope by one step h, without an uncertainty, and the corner that this step sees."""
    (above, up), (below, down) = line(h), line(-h)
    corner = np.sum(np.abs(v * (difference(above, at_zero) - difference(at_zero, below)))) / h
    value = np.sum(v * difference(above, below)) / (up - down)
    moved = np.any((above != at_zero) | (below != at_zero))
    return Slope(value, np.nan, corner, moved=bool(moved))


def measure(line: Callable, at_zero, v, lengths, eps: float, largest: float, rounding: Callable) -> Slope:
    """The slope by a ladder of steps.

    Args:
        line: line(t) returns the function's values and the t that rounding made of it.
        at_zero: its values for t = 0.
        v: the cotangent, of their shape.
        lengths: of the steps, from long to short.
        eps: the unit in the last place of 1 in the numbers that the function computes with.
        largest: of these numbers, as far as it is known.
        rounding: rounding(moving) returns how far off v . line is for rounding on the way, if only those
            outputs count that move along the line.
    """
    longer = [rung for h in lengths if (rung := _rung(line, at_zero, v, h)) is not None]
    if not longer:
        return Slope(np.nan, np.nan)
    # Steps of a few units in the last place show rounding, and no slope.
    tiny = [rung for h in TINY if (rung := _rung(line, at_zero, v, h)) is not None]
    slopes, steps, bends, corners, right, left = (np.array(part) for part in zip(*longer, *tiny))
    changes = np.abs(np.concatenate([right, left]))  # (2 * rungs, ...)
    smallest = np.min(changes, axis=0, where=changes != 0, initial=np.inf)  # change of each output
    moving = np.isfinite(smallest)
    # Numbers inside are as large as `largest` at least: their rounding is the least that we may see.
    grain = np.where(moving, v * eps * np.maximum(largest, np.abs(at_zero)), 0.0)
    stairs = np.linalg.norm(np.where(np.abs(v) * smallest <= STAIR * np.abs(grain), v * smallest, 0.0))
    still = (right == 0) & (left == 0)  # what will change, but has not yet, has changed by less than a grain
    hidden = np.sqrt(np.sum(np.where(still, grain, 0.0) ** 2, axis=tuple(range(1, still.ndim))))
    rounded = np.maximum(np.maximum(hidden, stairs), rounding(moving))
    noise = SAFETY * np.maximum(rounded, _roughness(bends, steps)) / steps
    long = slice(len(longer))
    corner = _corner(corners[long], (SAFETY * rounded / steps)[long] * v.size**0.5)
    few = SAFETY * np.linalg.norm(grain)
    value, uncertainty = _best(slopes[long], steps[long], noise[long], few)
    sized = moving & (at_zero != 0)
    stair = np.min(smallest[sized] / np.abs(at_zero[sized])) if sized.any() else 0.0
    return Slope(value, uncertainty, corner, bool(np.any(changes)), stair)


def _rung(line, at_zero, v, h: float):
    """(slope, step, bend, corner, change to the right, change to the left) by one step, or None."""
    (above, up), (below, down) = line(h), line(-h)
    slope, step = np.sum(v * difference(above, below)) / (up - down), (up - down) / 2
    if not np.isfinite(slope):
        return None
    right, left = difference(above, at_zero), difference(at_zero, below)
    bend = v * (right - left)
    return slope, step, np.linalg.norm(bend), np.sum(np.abs(bend)) / step, right, left


def _best(slopes, steps, noise, few) -> tuple[float, float]:
    """The slope of the best rung and its uncertainty; `few` grains of rounding can make a rung blind."""
    curve = np.abs(np.diff(slopes, prepend=np.inf))  # of the longest step nothing is known
    uncertainty = curve + noise
    # Where finer steps agree on another slope, and a few grains explain that, they are too fine to see.
    for k in range(len(slopes)):
        differ = np.abs(slopes[:k] - slopes[k])
        if np.any((differ > uncertainty[:k] + noise[k]) & (differ * steps[k] <= few)):
            noise[k] += few / steps[k]
            uncertainty[k] = curve[k] + noise[k]
    contradicted = [
        np.any(np.abs(slopes[k] - slopes[k + 1 :]) > uncertainty[k] + noise[k + 1 :])
        for k in range(len(slopes))
    ]
    best = np.argmin(np.where(contradicted, np.inf, uncertainty))
    return slopes[best], uncertainty[best]


def _roughness(bends, steps):
    """What the values on each rung do that no curve would.

    On finer rungs a curve bends next to nothing: what bends there is rounding. A curve's bend is proportional
    to the square of the step. Where it falls far slower than on the rung before, the step met kinks that the
    longer ones saw as a curve. Where it falls faster, after it fell slower, the rung had met a kink or a
    stair that the finer ones miss.
    """
    below = np.maximum.accumulate(np.append(bends[1:], bends[-1])[::-1])[::-1]
    curves = bends / steps**2
    slower = curves > 3 * np.append(np.inf, curves[:-1])
    grown = curves > 3 * np.append(np.inf, np.minimum.accumulate(curves)[:-1])
    falls = np.append(curves[1:], np.inf) < curves / 3
    return np.maximum(below, np.where(slower | grown & falls, bends, 0.0))


def _corner(corners, noise) -> float:
    """The difference of the one-sided slopes at 0.

    A curve's falls with the step. A corner's stays the same on all rungs that reach it.
    """
    seen = np.flatnonzero(corners > 3 * noise)  # finer rungs see rounding alone
    if len(seen) < 3:
        return 0.0
    last = corners[seen]
    finer = slice(seen[-1] + 1, None)
    missed = np.any(corners[finer] + 3 * noise[finer] < 0.5 * last[-1])
    at_zero = not missed and np.min(last[-3:]) > 0.5 * np.max(last[-3:])
    return last[-1] if at_zero else 0.0


def difference(a, b):
    """a - b, and 0 where both are the same infinity."""
    return np.where(a == b, 0.0, a - b)
