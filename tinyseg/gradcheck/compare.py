"""Compare autograd's slopes at a point with those of the function's values.

A small array is checked entry by entry. A large one is checked along random directions, each through entries
whose influence is of one size, so that no large one hides a small one. One wrong entry among n changes the
slope along its direction by 1/sqrt(n) or more of what the others change it: it is found if it is wrong by
more than 2e-3 sqrt(n) of itself, and where all have one size, by 2e-6 sqrt(n). The faults of several entries
cancel by chance once in a million; two directions make that once in 1e12 (of more than 8 arrays, one
direction each has to do). A direction that is wrong is halved until one entry is left, the one to blame.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Iterable
from dataclasses import dataclass, field, replace
from numbers import Integral, Real

import numpy as np

from tinyseg.gradcheck.point import Point
from tinyseg.gradcheck.report import KINK, RANK, RIGHT, VACUOUS, WRONG, GradientError, Row
from tinyseg.gradcheck.slope import ABSOLUTE, RUNGS, SAFETY, Slope, glance, measure

STEPS = 1e-5, 1e-6, 3e-4  # of a first look, relative to x: the second for curves, the third for rounding
FEW = 8  # arrays: of more, fewer entries and directions each
DIRECTIONS = 2  # through entries of one size
DECADES, SIZES = 3, 5  # entries of one size: their influence lies within so many decades; how many sizes
NEAR, MOST_NEAR = 1e-5, 128  # how far to move off a kink, relative to x, and how often, to both sides
PLACES, PROOFS = 8, 3  # off a kink: of so many places, at how many the gradient must be right
SAME = 1e-9  # of the slope: two ways to it may round differently, and no more
CORNER = 1e-2  # of the slope: if its two sides differ by more, there is a corner
DIGITS = 1e-3  # of the slope: what is off by more has few digits
LADDERS = 3  # climbed in vain before a gradient is called wrong
ENOUGH = 3  # wrong places, and the others in an array are not looked at
UNDERFLOW = 1e-290  # squares and exponentials on the way may have become 0


@dataclass
class How:
    """How to check, and what has been noted on the way."""

    name: str
    modes: tuple[str, ...]
    tolerance: float
    entries: int
    seed: int
    notes: list[str] = field(default_factory=list)
    started: float = field(default_factory=lambda: time.monotonic())
    last_said: float = 0.0

    def __post_init__(self):
        if isinstance(self.modes, Iterable):
            self.modes = (self.modes,) if isinstance(self.modes, str) else tuple(self.modes)
        known = isinstance(self.modes, tuple) and all(mode in ("reverse", "forward") for mode in self.modes)

        def above(option, kind, least):
            number = getattr(self, option)
            return isinstance(number, kind) and not isinstance(number, bool) and least < number < np.inf

        for option, expected, fits in (
            ("modes", "'reverse', 'forward' or both", self.modes and known),
            ("tolerance", "a finite number above 0", above("tolerance", Real, 0)),
            ("entries", "a whole number above 0", above("entries", Integral, 0)),
            ("seed", "a whole number", above("seed", Integral, -1)),
        ):
            if not fits:
                got = getattr(self, option)
                raise ValueError(f"{self.name}: expected {option} to be {expected}, got {got!r}")

    def progress(self, text: str) -> None:
        """A line on stderr every few seconds."""
        now = time.monotonic() - self.started
        if now - self.last_said >= 5:
            self.last_said = now
            print(f"{self.name}: {text}, {now:.0f} s", file=sys.stderr)


@dataclass
class Direction:
    """Where to go from x: to one entry, or through many at once."""

    name: str  # an index, or "direction 3"
    e: np.ndarray  # along the point's x, scaled by its entries; 0 elsewhere

    def along(self, gradient) -> np.ndarray:
        """What each entry contributes to the slope."""
        inside = self.e != 0
        return gradient[inside] * self.e[inside]


@dataclass
class Judgement:
    """What was found along one direction."""

    verdict: str
    direction: Direction
    found: float  # the slope by autograd
    slope: Slope  # by the values

    @property
    def error(self) -> float:
        """Relative to the larger of the two."""
        larger = max(abs(self.found), abs(self.slope.value), 1e-300)
        error = abs(self.found - self.slope.value) / larger
        return error if np.isfinite(error) else np.inf


class Comparison:
    """The check of one function.

    Args:
        point: where.
        how: how.
        run: with what the function was called, for its rows.
        thorough: check each array by itself; otherwise all together.
    """

    def __init__(self, point: Point, how: How, run: str, thorough: bool):
        self.point, self.how, self.run, self.thorough = point, how, run, thorough
        self.rng = point.rng

    def rows(self) -> list[Row]:
        """A row for each array and mode."""
        point, rows = self.point, []
        shapes = {name: point.watched.arrays[name].shape for name in point.parts}
        groups = [(name, shapes[name], part) for name, part in point.parts.items()]
        if not self.thorough and len(groups) > 1:
            groups = [("all arrays", point.x.shape, slice(0, point.x.size))]
        for i, (name, shape, part) in enumerate(groups):
            self.how.progress(f"{i} of {len(groups)} arrays{', ' + self.run if self.run else ''}")
            directions, checked = self.directions(part)
            slopes = [self.look(d, self.found(self.how.modes[0], d)) for d in directions]
            for mode in self.how.modes:
                judged = self.judged(mode, directions, slopes)
                rows.append(self.row(mode, name, shape, checked, judged))
        if "forward" in self.how.modes:
            self.forward_together()
        if not np.array_equal(point.values, point.watched()):
            raise ValueError(
                f"{point.watched.name}: the function has come to give another value; seed its rng"
            )
        self.how.notes += point.notes
        if point.watched.narrow_back:
            self.how.notes.append(f"note: the way back goes through float32: {point.watched.narrow_back}")
        return rows

    def judged(self, mode: str, directions, slopes) -> list[Judgement]:
        """All of them, but if some are wrong already, no more of them."""
        judged: list[Judgement] = []
        for direction, slope in zip(directions, slopes):
            judged.append(self.judge(mode, direction, self.found(mode, direction), slope))
            if [j.verdict for j in judged].count(WRONG) == ENOUGH:
                break
        if KINK in [j.verdict for j in judged]:
            # Entries that are equal may share one slope, as in max pooling. If all move alike, it shows.
            inside = np.any([d.e != 0 for d in directions], axis=0)
            alike = Direction(
                "all entries, moved together", np.where(inside, np.median(self.point.scale[inside]), 0.0)
            )
            found = self.found(mode, alike)
            judged.append(self.judge(mode, alike, found, self.look(alike, found)))
        return judged

    def row(self, mode: str, name: str, shape, checked: str, judged: list[Judgement]) -> Row:
        worst = max(judged, key=lambda j: (RANK[j.verdict], j.error))
        off = abs(worst.found - worst.slope.value)
        if worst.verdict == RIGHT and off > DIGITS * self.size(worst.direction, worst.found):
            self.how.notes.append(
                f"note: {name} at {worst.direction.name}: rounding hides all but the slope's first digits"
            )
        if worst.verdict == WRONG:
            worst = self.blamed(mode, worst)
            places = np.flatnonzero(worst.direction.e)
            if len(places) == 1:  # one entry is to blame, and so its array
                name = self.point.place(places[0])[0]
                shape = self.point.watched.arrays[name].shape
        label = name if mode == "reverse" else f"{name}, {mode}"
        note = sentence(label, worst) if worst.verdict == WRONG else ""
        return Row(label, shape, self.run, checked, worst.direction.name, float(worst.found),
                   float(worst.slope.value), float(worst.error), worst.verdict, note)  # fmt: skip

    def directions(self, part: slice) -> tuple[list[Direction], str]:
        """Where to go in a part of x: to each entry, or through all of one size of influence at once."""
        point, size = self.point, part.stop - part.start
        most = min(self.how.entries, FEW * self.how.entries // len(point.parts)) if self.thorough else 1
        if size <= max(most, 1):
            kind = "entries" if size > 1 else "entry"
            return [self.entry(i) for i in range(part.start, part.stop)], f"{size} {kind}"
        influence = np.abs(point.gradient * point.scale)[part]
        if not np.isfinite(influence).all():
            return [self.entry(part.start + np.argmin(np.isfinite(influence)))], "1 entry"
        decades = np.log10(np.max(influence) / np.where(influence > 0, influence, 1.0))
        # What autograd calls 0 goes by itself, lest a missing influence hide beside the others.
        sizes = np.where(influence > 0, np.clip(decades // DECADES, 0, SIZES - 1), -1)
        directions: list[Direction] = []
        times = DIRECTIONS if len(point.parts) <= FEW else 1
        for one in np.unique(sizes):
            inside = sizes == one
            for _ in range(times if inside.sum() > 1 else 1):
                e = np.zeros(point.x.shape)
                length = self.rng.uniform(0.5, 1, size) * self.rng.choice([-1, 1], size)
                e[part] = np.where(inside, point.scale[part] * length, 0.0)
                directions.append(Direction(f"direction {len(directions)}", e))
        return directions, f"{len(directions)} directions"

    def entry(self, i: int) -> Direction:
        e = np.zeros(self.point.x.shape)
        e[i] = self.point.scale[i]
        return Direction(self.point.place(i)[1], e)

    # Along one direction.

    def found(self, mode: str, direction: Direction) -> float:
        """The slope along a direction as autograd has it."""
        if mode == "forward":
            return np.sum(self.point.change(direction.e))
        return np.sum(direction.along(self.point.gradient))

    def size(self, direction: Direction, found: float) -> float:
        """What an error counts relative to: the slope, but along a direction its parts, which may cancel."""
        parts = np.linalg.norm(direction.along(self.point.gradient))
        return np.maximum(abs(found), parts) if np.isfinite(parts) else abs(found)

    def look(self, direction: Direction, found: float) -> Slope:
        """The slope by one step where that agrees, else by many."""
        point, size = self.point, self.size(direction, found)
        line = point.line(point.x, direction.e)
        if not size and not any(glance(line, point.values, point.cotangent, h).moved for h in RUNGS[::2]):
            return Slope(0.0, 0.0, moved=False)
        for h in STEPS if size else ():  # what autograd calls 0 has no size that a step could agree with
            h *= self.rng.uniform(1, 2)
            slope = glance(line, point.values, point.cotangent, h)
            error, allowed = abs(found - slope.value), self.how.tolerance * size
            if allowed < error < 1e-4 * size:
                allowed += min(SAFETY * point.roughness(direction.e) / h, 1e-4 * size)
            if error <= allowed and slope.corner <= DIGITS * size:
                return replace(slope, uncertainty=allowed)
        return self.climb(direction)

    def climb(self, direction: Direction, longest: float = np.inf, x=None, values=None) -> Slope:
        """The slope by a ladder of steps, no longer than that, from the point's x or from another."""
        point, inside = self.point, direction.e != 0
        x, values = (point.x, point.values) if x is None else (x, values)
        unit = np.median(np.abs(direction.e[inside]))
        upper = ABSOLUTE / unit  # where x is small, what it is added to may not be
        lengths = np.concatenate([upper[upper > 3 * RUNGS[0]], RUNGS])
        lengths = lengths[lengths <= longest] * self.rng.uniform(1, 2)
        largest = max(1.0, np.max(np.abs(x[inside])), point.watched.largest_float32)
        line = point.line(x, direction.e)
        end = x + lengths[0] * direction.e

        def rounding(moving):
            return point.off_by(moving, end)

        return measure(line, values, point.cotangent, lengths, point.eps, largest, rounding)

    def judge(self, mode: str, direction: Direction, found: float, slope: Slope) -> Judgement:
        """Compare; where they disagree, look whether this is a kink, and measure again."""
        point, size = self.point, self.size(direction, found)
        noise = np.maximum(8 * np.linalg.norm(direction.along(point.noise)), UNDERFLOW)
        if noise > SAME * point.typical:
            noise = UNDERFLOW  # this is no rounding: a kink lies within it
        for attempt in range(LADDERS):
            if attempt:  # by chance, a ladder can see less rounding than there is
                slope = self.climb(direction)
            judgement = Judgement(WRONG, direction, found, slope)
            if not (np.isfinite(found) and np.isfinite(slope.value)):
                return judgement
            error, allowed = abs(found - slope.value), noise + slope.uncertainty
            if not slope.moved and abs(found) <= noise + self.unseen():
                return replace(judgement, verdict=VACUOUS)
            if error > self.how.tolerance * size + allowed:
                error = min(error, abs(self.seen(mode, direction, found) - slope.value))
            if slope.corner > CORNER * size or error > self.how.tolerance * size + allowed:
                if attempt == 0 and self.between(mode, direction):
                    return replace(judgement, verdict=KINK)
                allowed = noise + min(slope.uncertainty, DIGITS * size)  # a corner excuses no more than that
            if error <= self.how.tolerance * size + allowed:
                nothing = max(abs(found), abs(slope.value)) <= allowed
                return replace(judgement, verdict=VACUOUS if nothing else RIGHT)
        return judgement

    def unseen(self) -> float:
        """How large a slope can be, and the longest step moves no value: it is lost in rounding."""
        point = self.point
        return 16 * point.eps * np.linalg.norm(point.cotangent) + SAFETY * point.off_by(True) / RUNGS[0]

    def seen(self, mode: str, direction: Direction, found: float) -> float:
        """The slope by autograd of the outputs that a long step moves, if rounding hides what the others add.

        It may hide it in autograd's sums as well: a sure softmax takes 1 from 1.
        """
        point = self.point
        line = point.line(point.x, direction.e)
        moves = (line(RUNGS[0])[0] != point.values) | (line(-RUNGS[0])[0] != point.values)
        if mode == "forward":
            part = np.sum(point.change(direction.e)[moves])
        else:
            part = np.sum(direction.along(point.gradient_of(moves)))
        hidden = np.linalg.norm((point.cotangent * point.values)[~moves]) * point.eps / RUNGS[0]
        return part if abs(found - part) <= SAFETY * hidden else found

    # At a kink.

    def between(self, mode: str, direction: Direction) -> bool:
        """Whether this is a kink and the gradient a right one: it lies between those of places near by.

        Where a function has no derivative, every mixture of the derivatives around counts as one (Clarke
        1983, theorem 2.5.1), entry by entry and along the direction. Those around must be right themselves.
        """
        point = self.point
        if mode == "forward":  # it has no entries to look at: it must be reverse mode's
            found, back = self.found(mode, direction), self.found("reverse", direction)
            if abs(found - back) > SAME * self.size(direction, back):
                return False
        own = self.parts(direction, point.gradient)
        low, high = np.full(own.shape, np.inf), np.full(own.shape, -np.inf)
        proofs: list[bool | None] = []
        for i in range(MOST_NEAR):
            away = point.near_alike(NEAR) if i % 2 else point.near(NEAR)
            for there in (away, 2 * point.x - away):  # to both sides
                gradient = point.gradient_at(there)
                if len(proofs) < PLACES:
                    proofs.append(self.right_at(there, direction, gradient))
                g = self.parts(direction, gradient)
                if not np.isfinite(g).all() or proofs[-1] is False:
                    return False
                low, high = np.minimum(low, g), np.maximum(high, g)
            largest = np.maximum(np.abs(low), np.abs(high))
            differ = np.any((high - low > 1e-2 * largest)[:-1])  # the sum may be next to nothing
            if len(proofs) == PLACES and proofs.count(True) < PROOFS:
                return False  # no slope can be seen there
            if i == MOST_NEAR // 2 and not differ:
                return False  # no kink: all around have one gradient
            slack = 1e-3 * (largest + 1e-3 * np.max(largest))
            within = np.all((low - slack <= own) & (own <= high + slack))
            if differ and within and proofs.count(True) >= PROOFS:
                return True
        return False

    def parts(self, direction: Direction, gradient):
        """What each entry contributes to the slope along a direction, and last their sum."""
        parts = direction.along(gradient)
        return np.append(parts, np.sum(parts))

    def right_at(self, x, direction: Direction, gradient) -> bool | None:
        """Whether the gradient is right at another x, by steps that do not lead back; or None.

        Among many kinks, a step may meet one: then shorter ones are tried. If those meet one too, this
        place tells nothing.
        """
        parts, values = direction.along(gradient), self.point.at(x)
        size = np.linalg.norm(parts)
        for longest in (NEAR / 30, NEAR / 1000):
            slope = self.climb(direction, longest, x, values)
            allowed = self.how.tolerance * size + np.minimum(slope.uncertainty, DIGITS * size)
            if abs(np.sum(parts) - slope.value) <= allowed:
                return True
        return None if slope.uncertainty > DIGITS * size else False

    # When something is wrong.

    def blamed(self, mode: str, wrong: Judgement) -> Judgement:
        """Halve a wrong direction until one entry is left that is wrong by itself."""
        while (places := np.flatnonzero(wrong.direction.e)).size > 1:
            halves = []
            for part in np.array_split(places, 2):
                e = np.zeros(wrong.direction.e.shape)
                e[part] = wrong.direction.e[part]
                at = self.point.place(part[0])[1]
                half = Direction(f"{part.size} entries from {at} on, moved together", e)
                found, slope = self.found(mode, half), self.climb(half)
                allowed = self.how.tolerance * self.size(half, found) + slope.uncertainty
                excess = abs(found - slope.value) / max(allowed, 1e-300)
                halves.append((excess, Judgement(WRONG, half, found, slope)))
            excess, judgement = max(halves, key=lambda half: half[0])
            if not excess > 1:
                return wrong  # no part is wrong by more than rounding
            wrong = judgement
        return replace(wrong, direction=replace(wrong.direction, name=self.point.place(places[0])[1]))

    def forward_together(self) -> None:
        """Forward mode is linear: proportional to the tangent, and of all arrays the sum of each array's."""
        point = self.point
        e = point.scale * self.rng.uniform(-1, 1, point.x.shape)
        together, alone = point.change(e), []
        for part in point.parts.values():
            one = np.zeros(e.shape)
            one[part] = e[part]
            alone.append(point.change(one))
        size = np.sum(np.abs(alone), axis=0)
        allowed = SAME * (size + 1e-3 * np.max(size, initial=0))
        if np.any(np.abs(together + point.change(-1024 * e) / 1024) > allowed):
            raise GradientError(
                f"{point.watched.name}: in forward mode, the change is not proportional to the tangent"
            )
        if np.any(np.abs(together - np.sum(alone, axis=0)) > allowed):
            raise GradientError(
                f"{point.watched.name}: in forward mode, the change by all arrays at once is not the sum of "
                "the changes by each"
            )


def sentence(label: str, wrong: Judgement) -> str:
    """What is wrong, in one sentence."""
    name, found, slope = wrong.direction.name, wrong.found, wrong.slope
    where = f"index {name}" if name.startswith("(") else name
    said = f"{label} at {where}: expected a slope of {slope.value:.6e}, got {found:.6e} from autograd"
    if not np.isfinite(found):
        return f"{said}: a gradient has to be finite."
    if not np.isfinite(slope.value):
        return f"{said}: near this place the function is not finite."
    if slope.corner > CORNER * max(abs(found), abs(slope.value)):
        return (
            f"{said}: the function has a corner here, and this is none of the slopes around it. If it comes "
            "from autograd's own operations, move the arrays off the corner, as x + 0.1."
        )
    if found == 0 and not slope.stair > 1e-9:
        return (
            f"{said}: autograd sees no influence. Does numpy in place of autograd.numpy, getval or a copy "
            "hide a part of the function from it?"
        )
    if slope.value == 0:
        return (
            f"{said}: in small steps the values do not change. So it is with a step function, with a median "
            "of equal numbers, or with numbers inside that are much larger than the result."
        )
    if slope.stair > 1e-9:
        return (
            f"{said}: the values change in steps of {slope.stair:.0e}. Does it go through float32 inside, or "
            "through numbers much larger than its result?"
        )
    return f"{said}: {found / slope.value:.6g} times as large."
