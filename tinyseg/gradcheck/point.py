"""One function at one point: its values, what autograd says of them, and how far rounding moves both.

All arrays are one long vector x here. A slope can so be measured along one entry, one array, or all arrays.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from tinyseg.gradcheck.report import GradientError
from tinyseg.gradcheck.slope import difference
from tinyseg.gradcheck.watch import ULP, Watched

COARSE = float(np.finfo(np.float32).eps)
AGREE = 1e-7  # one gradient, taken twice, may round differently; some are solved for, step by step


class Point:
    """A function at its arrays: values, a cotangent, the gradient, and how far rounding moves it.

    Raises:
        GradientError, ValueError: the function cannot be trusted; see `check_gradients`.
    """

    def __init__(self, watched: Watched, seed: int, thorough: bool = True):
        self.watched, self.rng = watched, np.random.default_rng(seed)
        self.notes: list[str] = []
        arrays = {name: array for name, array in watched.arrays.items() if array.size}
        if not arrays:
            raise ValueError(f"{watched.name}: there is nothing to check: no array of floats with an entry")
        ends = np.cumsum([array.size for array in arrays.values()])
        self.parts = {n: slice(end - a.size, end) for (n, a), end in zip(arrays.items(), ends)}
        self.x = self.flat(arrays)
        self.scale = self.flat({name: _scale(array) for name, array in arrays.items()})
        self.values = np.array(watched())
        self.trust_values()
        self.cotangent = _cotangent(self.values, [self.nearby() for _ in range(4)], self.rng)
        self.gradient = self.gradient_at(self.x)
        steps = np.abs(self.gradient * self.scale)
        self.typical = np.fmax.reduce([np.linalg.norm(self.cotangent), *steps])  # of the slopes here
        self.eps = ULP
        self.look_at_precision()
        self.same_gradients(thorough)
        self.noise = self.rounding()

    # One vector for all arrays.

    def flat(self, arrays: Mapping):
        return np.concatenate([np.ravel(arrays[name]) for name in self.parts])

    def shaped(self, x) -> dict:
        """The arrays that a vector stands for, each laid out in memory as it came: sums round by that."""
        arrays = {name: np.empty_like(array) for name, array in self.watched.arrays.items()}
        for name, part in self.parts.items():
            arrays[name][...] = x[part].reshape(arrays[name].shape)
        return arrays

    def place(self, i: int) -> tuple[str, str]:
        """The name of the array that holds the vector's entry i, and the index there."""
        name = next(name for name, part in self.parts.items() if i < part.stop)
        return name, index(i - self.parts[name].start, self.watched.arrays[name].shape)

    # What the function is there.

    def at(self, x):
        """The values at a vector, a copy."""
        return np.array(self.watched(self.shaped(x)))

    def gradient_at(self, x, shake=None):
        """The gradient of all arrays there, as training takes it; with `shake`, rounding is larger."""
        return self.flat(self.watched.gradients(self.parts, self.shaped(x), shake)(self.cotangent))

    def gradient_of(self, chosen):
        """The part of the gradient that comes through these outputs."""
        return self.flat(self.watched.gradients(self.parts)(np.where(chosen, self.cotangent, 0.0)))

    def change(self, e):
        """Forward mode: how the values change along e, times the cotangent."""
        return self.cotangent * self.watched.change({n: t for n, t in self.shaped(e).items() if np.any(t)})

    def line(self, x, e):
        """The values along e, from x, as `measure` wants them."""
        inside = np.flatnonzero(e)
        start, along = x[inside], e[inside]

        def line(t: float):
            there = x.copy()
            there[inside] += t * along
            step = np.mean((there[inside] - start) / along)  # t as rounding left it
            values = np.asarray(self.watched.stepped(self.shaped(there)))
            return (values if values.shape == self.values.shape else np.full(self.values.shape, np.nan)), step

        return line

    def near(self, length: float):
        """A vector off x, each entry at random by up to this length relative to itself."""
        return self.x + length * self.scale * self.rng.uniform(-1, 1, self.x.shape)

    def near_alike(self, length: float):
        """The same, but what has one index along some axis moves to one side, as blank channels may."""
        moves = {}
        for name in self.parts:
            shape = self.watched.arrays[name].shape
            axis = self.rng.integers(max(len(shape), 1))
            sides = self.rng.uniform(-1, 1, [n if i == axis else 1 for i, n in enumerate(shape)])
            moves[name] = sides * self.rng.uniform(0.5, 1, shape)
        return self.x + length * self.scale * self.flat(moves)

    def nearby(self):
        """The values at some place near x; NaN if the function has none there."""
        for length in (1e-3, 1e-5, 1e-7):
            values = self.watched.stepped(self.shaped(self.near(length)))
            if np.shape(values) == self.values.shape and not np.isnan(values).any():
                return np.array(values)
        return np.full(self.values.shape, np.nan)

    # Does the function do the same each time?

    def trust_values(self) -> None:
        """Later calls of the function neither repeat its values differently nor overwrite them."""
        name, values, returned = self.watched.name, self.values, self.watched()
        written = self.flat(self.watched.arrays) != self.x
        if written.any():
            raise GradientError(
                f"{name}: it writes into {self.place(int(np.argmax(written)))[0]}, past NumPy's read-only "
                "flag, as compiled code can; whoever gave it still needs it. Give that code a copy"
            )
        if not np.array_equal(values, returned, equal_nan=True):
            raise ValueError(f"{name}: the function gives another value each time; seed its rng")
        if np.isnan(values).any():
            at = index(np.argmax(np.isnan(values)), values.shape)
            raise GradientError(f"{name}: the function gives nan at index {at} of its result")
        self.nearby()
        if not np.array_equal(values, returned):
            raise GradientError(
                f"{name}: a later call changes an earlier result: the function keeps one array for all of "
                "them; return a new one each time"
            )

    def same_gradients(self, thorough: bool) -> None:
        """Hold the gradients, taken together, to those taken otherwise."""
        names, v = list(self.parts), self.cotangent
        back = self.watched.gradients(names)
        self.nearby()  # a tape must not notice what comes after it
        self.same(back(v), "after another call of the function: something is kept between calls")
        self.same(back(v), "twice from one tape: its vjp keeps something between calls")
        longer = {name: g / -1024 for name, g in back(-1024 * v).items()}  # a power of 2 rounds nothing
        self.same(longer, "for a cotangent -1024 times as large: it is not proportional to that")
        if len(names) > 2:  # as in training, which wants none of the first array, the images
            self.same(self.watched.gradients(names[1:])(v), f"without that of {names[0]}")
        for name in names if len(names) > 1 and thorough else ():
            self.same(self.watched.gradients([name])(v), "alone")

    def same(self, other: dict, how: str) -> None:
        for name, g in other.items():
            part, g = self.parts[name], np.ravel(g)
            first = self.gradient[part]
            allowed = AGREE * (np.abs(first) + 1e-3 * self.typical / self.scale[part])
            bad = ~(np.abs(first - g) <= allowed) & (np.isfinite(first) | np.isfinite(g))
            if bad.any():
                i = np.argmax(bad)
                raise GradientError(
                    f"{self.watched.name}: the gradient of {name} at index {self.place(part.start + i)[1]} "
                    f"is {first[i]:.9e}, but {g[i]:.9e} if it is taken {how}"
                )

    # How far rounding goes.

    def rounding(self):
        """How far the gradient moves if all that flows back is off by a few units in the last place."""
        noise = np.zeros(self.x.shape)
        for _ in range(3):
            other = self.gradient_at(self.near(4 * ULP), self.rng)
            noise = np.fmax(noise, np.abs(other - self.gradient))
        return noise

    def off_by(self, moving, elsewhere=None) -> float:
        """How far off these outputs are, times the cotangent, if all on the way to `elsewhere` is rounded."""
        v = np.where(moving, self.cotangent, 0.0)
        arrays = None if elsewhere is None else self.shaped(elsewhere)
        return self.eps * self.watched.rounding(self.parts, v, arrays)

    def roughness(self, e) -> float:
        """How far the values scatter if what e moves moves by a few units in the last place."""
        largest, inside = 0.0, e != 0
        for k in (1, 2, 3):
            moved = np.where(inside, self.x * (1 + k * ULP * self.rng.choice([-1, 1], self.x.shape)), self.x)
            change = difference(self.watched.stepped(self.shaped(moved)), self.values)
            largest = np.fmax(largest, np.linalg.norm(self.cotangent * change))
        return largest

    def look_at_precision(self) -> None:
        """Which numbers does the function compute with? float64's, or are there coarser ones?"""
        near = self.shaped(self.near(8 * ULP))  # whose digits fill float64; those of x itself need not
        narrow = self.watched.narrow or self.watched.hidden_float32(self.parts, near)
        if "float16" in narrow:
            raise ValueError(
                f"{self.watched.name}: the function goes through float16 inside ({narrow}), too coarse for a "
                "slope: check it in float64, by astype(x.dtype) in place of astype(numpy.float16)"
            )
        if narrow:
            self.eps = COARSE
            self.notes.append(
                f"note: the function goes through float32 inside ({narrow}): only first digits are checked"
            )


def _scale(array):
    """How long a step is in each entry: as large as the entry; where that is 0, as the others."""
    size = np.abs(array)
    there = size[size > 0]
    return np.where(size > 0, size, np.median(there) if there.size else 1.0)


def _cotangent(values, nearby, rng):
    """Random, but scaled up for outputs that change by decades less than the others, lest those hide them."""
    v = rng.normal(size=values.shape)
    change = np.sqrt(np.mean([difference(values, other) ** 2 for other in nearby], axis=0))
    there = np.isfinite(change) & (change > 0)
    if there.any():
        middle = np.median(change[there])
        decades = np.log10(middle / np.where(there, change, middle))
        v = v * 10.0 ** np.clip(np.trunc(decades), -30, 30)
    return v


def index(i, shape) -> str:
    """The i-th entry's index in an array of this shape."""
    return str(tuple(map(int, np.unravel_index(i, shape))))
