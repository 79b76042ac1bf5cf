"""The comparison, method by method: where to go, how to measure there, what to judge, and whom to blame."""

import itertools
from dataclasses import replace

import autograd.numpy as np
import numpy
import pytest
from autograd.tracer import getval
from numpy.testing import assert_array_equal

from tinyseg.gradcheck import compare
from tinyseg.gradcheck.compare import Comparison, Direction, How, Judgement, sentence
from tinyseg.gradcheck.point import Point
from tinyseg.gradcheck.report import KINK, RIGHT, VACUOUS, WRONG, GradientError
from tinyseg.gradcheck.slope import RUNGS, Slope
from tinyseg.gradcheck.watch import Watched

OPTIONS = {"modes": ("reverse",), "tolerance": 1e-6, "entries": 64, "seed": 0}


def comparison(function=lambda **arrays: sum(map(np.sum, arrays.values())), run="", thorough=True, **options):
    """Of a function of the arrays among the options."""
    how = How("check", **{name: options.pop(name, value) for name, value in OPTIONS.items()})
    arrays = {name: numpy.array(array, float) for name, array in options.items()}
    return Comparison(Point(Watched(lambda a: function(**a), "check", arrays), 0), how, run, thorough)


def with_gradient(*gradient, scale=1.0, **options):
    """Of one array x of ones, of which autograd seems to have said this; without noise."""
    c = comparison(x=numpy.ones(len(gradient)), **options)
    c.point.gradient, c.point.scale = numpy.array(gradient), numpy.ones(len(gradient)) * scale
    c.point.noise, c.point.cotangent = numpy.zeros(len(gradient)), numpy.array(4.0)
    c.point.typical = 1000.0
    return c


def through(*e, name="direction 0"):
    return Direction(name, numpy.array(e, float))


def places(directions):
    return [list(numpy.flatnonzero(d.e)) for d in directions]


# How.


@pytest.mark.parametrize(
    ("option", "value"),
    [("modes", ()), ("modes", ("backward",)), ("tolerance", 0), ("tolerance", "1e-3"), ("tolerance", -1)]
    + [("entries", 0), ("entries", 2.5), ("entries", "all"), ("seed", -1), ("seed", 1.5), ("seed", "a")]
    + [
        ("modes", None),
        ("modes", 1),
        ("modes", ("reverse", "backward")),
        ("modes", [["reverse"]]),
        ("tolerance", numpy.inf),
        ("tolerance", True),
    ]
    + [("entries", True), ("seed", True), ("seed", None)],
)
def test_an_option_that_does_not_fit_is_named(option, value):
    with pytest.raises(ValueError, match=f"check: expected {option} to be .*, got "):
        How("check", **OPTIONS | {option: value})


@pytest.mark.parametrize(
    ("given", "modes"),
    [("forward", ("forward",)), (["reverse"], ("reverse",))] + [(("reverse", "forward"),) * 2],
)
def test_modes_become_a_tuple(given, modes):
    assert How("check", given, 1, numpy.int64(1), numpy.int64(0)).modes == modes


def test_progress_is_said_every_five_seconds(monkeypatch, capsys):
    clock = itertools.chain([100, 104, 105, 109, 110])
    monkeypatch.setattr(compare.time, "monotonic", lambda: next(clock))
    how = How("check", **OPTIONS)
    for text in "abcd":
        how.progress(text)
    assert capsys.readouterr().err == "check: b, 5 s\ncheck: d, 10 s\n"


# Where to go.


def test_a_small_array_is_checked_entry_by_entry():
    c = comparison(x=[[3, -5], [7, 0.5]], y=[2], z=[4, 6], entries=4)
    directions, checked = c.directions(c.point.parts["x"])
    assert [d.name for d in directions] == ["(0, 0)", "(0, 1)", "(1, 0)", "(1, 1)"] and checked == "4 entries"
    assert_array_equal([d.e for d in directions], numpy.diag([3, 5, 7, 0.5, 2, 4, 6])[:4])
    assert [c.directions(c.point.parts[name])[1] for name in "yz"] == ["1 entry", "2 entries"]
    c.how.entries = 3
    assert c.directions(c.point.parts["x"])[1] == "2 directions"
    c.thorough = False
    assert [c.directions(c.point.parts[name])[1] for name in "yz"] == ["1 entry", "2 directions"]


@pytest.mark.parametrize(
    ("arrays", "entries", "checked"),
    [(8, 3, "3 entries"), (8, 2, "2 directions"), (9, 3, "1 directions"), (9, 2, "1 directions")],
)
def test_of_more_than_eight_arrays_fewer_entries_and_directions_are_checked(arrays, entries, checked):
    c = comparison(entries=entries, **{f"a{i}": numpy.ones(3) for i in range(arrays)})
    assert c.directions(c.point.parts["a7"])[1] == checked


def test_a_gradient_that_is_not_finite_is_looked_at_where_it_is_not():
    c = with_gradient(1.0, 2.0, numpy.nan, 4.0, numpy.inf, entries=1)
    (direction,), checked = c.directions(slice(1, 5))
    assert direction.name == "(2,)" and places([direction]) == [[2]] and checked == "1 entry"


def test_entries_of_one_size_of_influence_go_together_and_zeros_by_themselves():
    scale = numpy.array([1e4, 1, 1, 1e-1, 1, 1, 1])
    c = with_gradient(1e-6, 1e-2, 0, 1e-9, 1e-6, 0, 99.0, scale=scale, entries=1)
    directions, checked = c.directions(slice(0, 6))
    assert places(directions) == [[2, 5], [2, 5], [0, 1], [0, 1], [4], [3]] and checked == "6 directions"
    assert [d.name for d in directions] == [f"direction {i}" for i in range(6)]


def test_there_are_so_many_sizes_and_the_last_one_has_all_that_is_smaller():
    gradient = 10.0 ** (-compare.DECADES * (numpy.arange(20) + 0.5))
    gradient[0] = 1
    last = list(range(compare.SIZES - 1, 20))
    found = places(with_gradient(*gradient, entries=1).directions(slice(0, 20))[0])
    assert found == [[i] for i in range(compare.SIZES - 1)] + [last, last]


def test_a_direction_goes_half_the_scale_to_all_of_it_along_each_entry():
    c = with_gradient(*numpy.ones(200), scale=0.03)
    one, two = (d.e[3:] / 0.03 for d in c.directions(slice(3, 200))[0])
    assert 0.5 <= min(abs(one)) < 0.55 and 0.95 < max(abs(one)) <= 1
    assert min(one) < 0 < max(one) and (one != two).all()


# Along one direction.


def test_a_slope_is_the_sum_of_what_the_entries_contribute():
    c, d = with_gradient(3.0, 4.0, 5.0), through(1, 2, 0)
    assert_array_equal(d.along(c.point.gradient), [3, 8])
    c.point.change = lambda e: 7 * e
    assert (c.found("reverse", d), c.found("forward", d)) == (11, 21)


def test_an_error_counts_relative_to_the_slope_or_to_its_parts():
    d = through(3, 4)
    assert with_gradient(1.0, -1.0).size(d, -1) == 5 and with_gradient(1.0, -1.0).size(d, -6) == 6
    with numpy.errstate(over="ignore"):
        assert with_gradient(1e200, 1e200).size(d, -7e200) == 7e200


def looked(function, x, off=0.0, roughness=None, seed=0):
    """What `look` returns, its steps, and the size of the slope, which autograd has off by so much of it."""
    calls = []

    def recorded(x):
        calls.append(getval(x))
        return function(x)

    c = comparison(recorded, x=[x])
    c.point.cotangent, c.point.gradient = numpy.array([1.0]), c.point.gradient / c.point.cotangent
    c.point.roughness = lambda e: roughness * size
    c.rng, d = numpy.random.default_rng(seed), c.entry(0)
    found = c.found("reverse", d) * (1 + off)
    size = c.size(d, found)
    calls.clear()
    slope = c.look(d, found)
    return slope, [float(abs(call - x)[0]) / d.e[0] for call in calls], size


def test_one_step_to_each_side_is_enough_where_it_agrees():
    drawn = []
    for seed in range(20):
        slope, steps, size = looked(lambda x: x**3, 2.0, seed=seed)
        assert len(steps) == 2 and size == pytest.approx(24)
        assert slope.value == pytest.approx(24) and slope.uncertainty == pytest.approx(24e-6)
        drawn.append(steps[0] / compare.STEPS[0])
    assert 1 < min(drawn) < 1.3 and 1.7 < max(drawn) < 1.9999


def test_what_rounding_can_do_is_allowed_on_top_up_to_a_limit():
    slope, (h, _), size = looked(lambda x: 500 * x, 2.0, off=4.5e-5, roughness=2.5e-10)
    assert slope.uncertainty == pytest.approx((1e-6 + 4 * 2.5e-10 / h) * size, rel=1e-3)
    slope, (h, _), size = looked(lambda x: 500 * x, 2.0, off=4.5e-5, roughness=1.0)
    assert slope.uncertainty == pytest.approx((1e-6 + 1e-4) * size)


@pytest.mark.parametrize(
    ("function", "x", "off"),
    [(lambda x: x**3, 2.0, 0.1), (lambda x: 1e-3 * np.maximum(x, 0), 0.0, 0.0)],
    ids=["it disagrees", "a corner"],
)
def test_where_single_steps_do_not_tell_a_ladder_does(function, x, off):
    _, steps, _ = looked(function, x, off)
    assert len(steps) > 2 * len(RUNGS)


def test_what_autograd_calls_zero_is_measured_unless_no_step_moves_it():
    slope, steps, _ = looked(lambda x: 0 * x + 3, 2.0)
    assert slope == Slope(0.0, 0.0, moved=False) and len(steps) < 2 * len(RUNGS)
    assert looked(lambda x: np.maximum(x - 1.05, 0), 1.0)[0].moved


def test_the_ladder_starts_where_the_entries_are_small_and_ends_where_it_is_told_to(monkeypatch):
    monkeypatch.setattr(compare, "measure", lambda *given: given)
    c, drawn = comparison(x=[2, -7, 300], y=[1e-3, 1e-3, 5e-4]), []
    c.point.line = lambda x, e: (x, e)
    for _ in range(20):
        (x, _), values, cotangent, lengths, eps, largest, _ = c.climb(through(0, 0, 0, 1e-3, -1e-3, 1))
        powers = 10.0 ** numpy.arange(2, -12, -1)
        drawn.append(lengths[0] / powers[0])
        assert lengths == pytest.approx(powers * drawn[-1])
    assert 1 < min(drawn) < 1.2 and 1.8 < max(drawn) < 1.9999 and largest == 1
    assert x is c.point.x and values is c.point.values and eps == c.point.eps
    there = numpy.array([3.0, -8, 300, 0, 0, 0])
    (x, _), values, _, lengths, _, largest, _ = c.climb(through(1, 1, 0, 0, 0, 0), 3e-5, there, "values")
    assert x is there and values == "values" and largest == 8
    assert lengths / lengths[0] == pytest.approx(10.0 ** -numpy.arange(7))
    c.point.watched.largest_float32 = 50.0
    assert c.climb(through(1, 1, 0, 0, 0, 0))[5] == 50


# What to judge.


def judged(found, slope, kink=False, noise=0.0, later=None, size=100.0, off=0.0, seen=None):
    """The verdict along an entry of this size of slope, and how many ladders were climbed."""
    c, climbed = with_gradient(size), []
    c.point.noise[:] = noise
    c.point.off_by = lambda moving: off if moving else 0.0
    c.between = lambda mode, direction: kink() if callable(kink) else kink
    c.seen = lambda mode, direction, found: found if seen is None else seen
    c.climb = lambda direction: climbed.append(direction) or later or slope
    return c.judge("reverse", through(1), found, slope).verdict, len(climbed)


EPS = 4 * numpy.finfo(float).eps  # of a cotangent of length 4


@pytest.mark.parametrize(
    ("verdict", "found", "slope"),
    [
        (RIGHT, 100.0, Slope(100.00005, 0.0)),
        (WRONG, 100.0, Slope(100.0002, 0.0)),
        (RIGHT, 100.0, Slope(100.3, 0.5)),
        (RIGHT, 0.5, Slope(1.0, 0.6)),
        (VACUOUS, 0.5, Slope(-0.05, 0.6)),
        (RIGHT, 100.0, Slope(100.05, 0.09, corner=10)),  # the corner excuses a thousandth
        (WRONG, 100.0, Slope(150, 120.0, corner=10)),
        (RIGHT, 100.0, Slope(150, 120.0)),
    ],
)
def test_the_verdict_follows_from_both_slopes_and_what_they_may_be_off_by(verdict, found, slope):
    assert judged(found, slope) == (verdict, 2 if verdict == WRONG else 0)


@pytest.mark.parametrize(
    ("found", "value"), [(numpy.inf, 100.0), (numpy.nan, 100.0), (100.0, numpy.nan), (100.0, numpy.inf)]
)
def test_what_is_not_finite_is_wrong_at_once(found, value):
    assert judged(found, Slope(value, 0.0), later=Slope(100.0, 0.0)) == (WRONG, 0)


def test_what_rounding_can_do_is_no_slope_unless_it_is_too_large_for_rounding():
    still = Slope(0.0, 0.0, moved=False)
    assert judged(15 * EPS, still, size=0)[0] == VACUOUS
    assert judged(20 * EPS, still, size=0)[0] == judged(15 * EPS, Slope(1.0, 0.0), size=0)[0] == WRONG
    assert judged(0.0, Slope(0.05, 0.06), size=0)[0] == VACUOUS
    assert judged(24 * EPS, still, noise=1.25 * EPS, size=0)[0] == VACUOUS
    assert judged(55 * EPS, still, off=EPS, size=0)[0] == VACUOUS  # 4 EPS by a step of 1/10, and 16 EPS
    assert judged(57 * EPS, still, off=EPS, size=0)[0] == WRONG
    assert judged(1e-7, Slope(0.0, 0.0), noise=2e-8, size=0)[0] == VACUOUS
    assert judged(1e-7, Slope(0.0, 0.0), noise=1e-5, size=0)[0] == WRONG


@pytest.mark.parametrize(
    ("verdict", "kink", "slope"),
    [
        (KINK, True, Slope(100.0, 0.0, corner=10)),
        (KINK, True, Slope(150.0, 0.0)),
        (KINK, True, Slope(0.0, 0.0, moved=False)),  # the middle one of three that are equal, say
        (WRONG, False, Slope(150.0, 0.0)),
        (RIGHT, True, Slope(100.00005, 0.0, corner=0.5)),
        (RIGHT, True, Slope(100.3, 0.5)),
        (RIGHT, False, Slope(100.0, 0.0, corner=10)),
    ],
)
def test_a_kink_shows_as_a_corner_or_an_error_and_the_gradient_is_between(verdict, kink, slope):
    assert judged(100.0, slope, kink)[0] == verdict


def test_what_rounding_hides_does_not_count():
    assert judged(100.0, Slope(70.0, 0.0), seen=70.0) == (RIGHT, 0)
    assert judged(100.0, Slope(70.0, 0.0), seen=80.0)[0] == WRONG
    assert judged(100.0, Slope(100.0, 0.0), seen=50.0)[0] == RIGHT


@pytest.mark.parametrize("mode", ["reverse", "forward"])
@pytest.mark.parametrize(("values", "slope"), [([100.0, 0, 0, 0], -3 * 5), ([0.0, 0, 0, 0], -3 * 5 + 1e-16)])
def test_outputs_that_a_long_step_does_not_move_add_nothing_that_is_seen(mode, values, slope):
    c = comparison(
        lambda x: np.concatenate([1e-17 * x, -3e-17 * x, 0 * x + 7, 0 * x]) + numpy.array(values), x=[5]
    )
    c.point.cotangent = numpy.array([2.0, 1e17, 11, 1])
    assert c.seen(mode, c.entry(0), -15 + 1e-16) == pytest.approx(slope, rel=1e-15)


def test_no_more_is_hidden_than_rounding_can_hide():
    c = comparison(lambda x: 0 * x + numpy.array([3.0, 4]), x=[5])  # its outputs are off by 5 eps / 0.1
    c.point.cotangent = numpy.array([1.0, -1])
    c.point.gradient_of = lambda moves: numpy.array([0.0])
    for units, hidden in ((199, True), (-199, True), (201, False)):
        found = units * EPS / 4
        assert c.seen("reverse", c.entry(0), found) == (0 if hidden else found)


@pytest.mark.parametrize("sign", [1, -1])
def test_an_output_that_moves_to_one_side_is_seen(sign):
    c = comparison(lambda x: 6e-16 * np.maximum(sign * (x - 5), 0) + 1, x=[5])
    c.point.gradient_of = lambda moves: numpy.array([1e-30]) * moves
    assert c.seen("reverse", c.entry(0), 5e-30) == 5e-30


def test_another_ladder_may_show_that_it_is_right_but_no_kink():
    assert judged(100.0, Slope(150.0, 0.0), later=Slope(100.0, 0.0)) == (RIGHT, 1)
    kinks = iter([False, True])
    assert judged(100.0, Slope(150.0, 0.0), kink=lambda: next(kinks))[0] == WRONG


def all_judged(verdict, count):
    """What `judged` makes of so many directions, if each is judged so."""
    c = with_gradient(1.0, 2.0, 4.0, 8.0, scale=numpy.array([3.0, 4, 7, 99]))
    c.judge = lambda mode, direction, found, slope: Judgement(verdict, direction, found, slope)
    c.look = lambda direction, found: Slope(found, 0.5)
    directions = [through(1, -1, 0, 0), *[through(0, 0, 2, 0)] * (count - 1)]
    return c.judged("reverse", directions, [Slope(i, 0.0) for i in range(count)])


def test_no_more_than_so_many_wrong_ones_are_judged():
    assert [j.slope.value for j in all_judged(WRONG, 9)] == list(range(compare.ENOUGH))


def test_at_a_kink_all_entries_are_moved_alike_too():
    *_, alike = all_judged(KINK, 2)
    assert (
        alike.direction.name == "all entries, moved together"
        and alike.found == 28
        and alike.slope == Slope(28, 0.5)
    )
    assert_array_equal(alike.direction.e, [4, 4, 4, 0])
    assert len(all_judged(RIGHT, 2)) == 2


# At a kink.


def between(own, one, other, proofs=(True,) * 8, mode="reverse", forward=0.0, later=None):
    """Whether own is between, and how many gradients that took: those of one and the other side in turn."""
    c, seen, proved = with_gradient(*own, numpy.nan), [], []
    c.point.x, proofs = c.point.x * 30, iter(proofs)

    def gradient_at(x):
        seen.append(x)
        if len(seen) % 2:
            return numpy.array([*one, numpy.nan])
        assert sum(seen[-2:]) == pytest.approx(60)  # to both sides
        return numpy.array([*(later if later and len(seen) > 20 else other), numpy.nan])

    c.point.gradient_at = gradient_at
    c.right_at = lambda *given: proved.append(given) or next(proofs)
    c.found = lambda mode, direction: own[0] + (forward if mode == "forward" else 0)
    answer = c.between(mode, through(*[1] * len(own), 0))
    assert len(proved) <= compare.PLACES
    return answer, len(seen)


@pytest.mark.parametrize(
    ("answer", "own", "one", "other"),
    [(True, [x], [0], [1]) for x in (0, 0.5, 1, -5e-4, 1.0005)]
    + [(False, [x], [0], [1]) for x in (-0.2, 1.2, -0.005, 1.005)]
    + [(True, [100.05], [0], [100]), (False, [100.5], [0], [100])]
    + [(True, [5, 0.5], [5, 0], [5, 1]), (True, [0.5, 5], [0, 5], [1, 5]), (False, [0.5, 7], [0, 5], [1, 5])]
    + [(True, [50, 5e-5], [0, 0], [100, 0]), (False, [50, 5e-4], [0, 0], [100, 0])]
    + [
        (False, [1, 0], [1, 0], [1, 0]),
        (False, [100.2], [100], [100.5]),
        (False, [1, 0.5], [numpy.inf, 0], [1, 1]),
    ],
)
def test_at_a_kink_each_entry_lies_between_those_near_by_that_differ(answer, own, one, other):
    assert between(own, one, other)[0] == answer


def test_at_a_kink_the_sum_along_the_direction_lies_between_those_near_by_too():
    assert not between([1, 1], [1, 0], [0, 1])[0]  # as if each of two equal maxima had all of the gradient
    assert between([0.5, 0.5], [1, 0], [0, 1])[0]
    assert not between([100, -100], [100, -100], [100.1, -99.5])[0]  # only the sum differs by much


def test_as_many_places_are_asked_as_it_takes():
    assert between([2], [0], [1], later=[3]) == (True, 22)
    assert between([2], [0], [1]) == (False, 2 * compare.MOST_NEAR)
    assert between([1], [1], [1]) == (False, compare.MOST_NEAR + 2)  # half of them, if all say the same


def test_every_other_place_is_one_where_entries_move_alike():
    c, asked = with_gradient(5.0), []
    c.point.near = lambda length: asked.append(("each", length)) or c.point.x
    c.point.near_alike = lambda length: asked.append(("alike", length)) or c.point.x
    c.point.gradient_at, c.right_at = lambda x: numpy.array([4.0]), lambda *given: True
    c.between("reverse", through(1))
    assert asked[:6] == [("each", compare.NEAR), ("alike", compare.NEAR)] * 3


def test_some_gradients_near_by_are_proved_and_none_is_wrong():
    proved, unknown = [True] * compare.PROOFS, [None] * (compare.PLACES - compare.PROOFS)
    assert between([0], [0], [1], unknown + proved) == (True, compare.PLACES)
    assert between([0], [0], [1], [None, *unknown, *proved[1:]]) == (False, compare.PLACES)
    assert between([0], [0], [1], [True, False]) == (False, 2)


def test_forward_mode_at_a_kink_is_held_to_reverse_mode():
    assert between([1000], [0], [2000], mode="forward", forward=1e-7)[0]
    assert between([1000], [0], [2000], mode="forward", forward=1e-5) == (False, 0)
    assert between([1000], [0], [2000], mode="reverse", forward=1e-5)[0]
    assert between([0], [0], [1], mode="forward")[0]


@pytest.mark.parametrize(
    ("answer", "gradient", "slopes"),
    [
        (True, [6, 4], [Slope(140.00005, 0.0)]),
        (True, [6, 4], [Slope(140.05, 0.06)]),
        (True, [6, 4], [Slope(150.0, 9.0), Slope(140.0, 0.0)]),
        (None, [6, 4], [Slope(141.0, 5.0)] * 2),
        (False, [6, 4], [Slope(141.0, 0.05)] * 2),
        (True, [0, 0], [Slope(0.0, 0.0)]),
        (False, [0, 0], [Slope(5.0, 0.0)] * 2),
    ],
)
def test_near_a_kink_short_ladders_tell_whether_the_gradient_is_right_or_nothing(answer, gradient, slopes):
    c, given, there = with_gradient(1.0, 1.0), [], numpy.array([1.5, 2])
    c.climb = lambda *args: given.append(args) or slopes[len(given) - 1]
    assert c.right_at(there, through(10, 20), numpy.array(gradient)) is answer
    assert all(x is there and values == 3.5 for _, _, x, values in given)
    lengths = [compare.NEAR / 30, compare.NEAR / 1000][: len(slopes)]
    assert [longest for _, longest, *_ in given] == pytest.approx(lengths, rel=0.1)


# Whom to blame.


def blamed(claimed, true, uncertainty=0.0, e=None):
    c = with_gradient(*claimed)
    off = numpy.broadcast_to(uncertainty, len(claimed))
    c.climb = lambda d: Slope(numpy.sum(d.e * true), numpy.max(off[d.e != 0]))
    wrong = Judgement(WRONG, through(*(e or [1] * len(claimed))), 0.0, Slope(1.0, 0.0))
    return wrong, c.blamed("reverse", wrong)


def test_a_wrong_direction_is_halved_down_to_the_entry_to_blame():
    _, one = blamed([5, 7, 2, 4, 6], [5, 7, 2, 3, 6], e=[0.5, -1, 1, -0.5, 1])
    assert one.direction.name == "(3,)" and places([one.direction]) == [[3]]
    assert (one.found, one.slope, one.verdict) == (-2, Slope(-1.5, 0.0), WRONG)


def test_the_half_is_blamed_that_is_off_by_most_of_what_is_allowed():
    _, one = blamed([5, 7, 2, 4], [5, 6, 2, 3.5], uncertainty=[0, 10, 0, 0])
    assert one.direction.name == "(3,)"
    assert blamed([1e3, 1e-2], [1e3 + 1e-4, 1e-2 + 1e-6])[1].direction.name == "(1,)"
    assert blamed([0, 0], [0, 1.5], uncertainty=1)[1].direction.name == "(1,)"


def test_the_entries_that_are_wrong_together_are_told_by_their_first_one():
    assert blamed([5, 5, 5, 6], [5, 5, 4.5, 5.5], uncertainty=0.6)[1].direction.name == (
        "2 entries from (2,) on, moved together"
    )


@pytest.mark.parametrize("uncertainty", [0, 2])
def test_a_direction_is_blamed_whole_if_no_half_is_wrong_by_itself(uncertainty):
    wrong, same = blamed([5, 7], [5, 7 + uncertainty / 2], uncertainty)
    assert same is wrong


def test_an_error_is_relative_to_the_larger_slope():
    assert Judgement(WRONG, through(1), -3.0, Slope(5.0, 0.0)).error == 1.6
    assert Judgement(WRONG, through(1), -5.0, Slope(3.0, 0.0)).error == 1.6
    assert Judgement(WRONG, through(1), 0.0, Slope(0.0, 0.0)).error == 0
    assert Judgement(WRONG, through(1), 1.0, Slope(numpy.nan, 0.0)).error == numpy.inf


def row(*judged, blamed=None, mode="reverse"):
    """The row of these judgements, and the notes."""
    c = comparison(x=[1, 1], y=[[1, 1, 1]], run="train")
    c.point.gradient = numpy.array([100.0, 0, 0, 0, 0])
    all_of_them = [Judgement(word, d, numpy.float64(found), Slope(v, 0)) for word, d, found, v in judged]
    c.blamed = lambda mode, worst: replace(worst, direction=blamed)
    return c.row(mode, "all", (5,), "3 entries", all_of_them), c.how.notes


X, Y = through(1, 0, 0, 0, 0, name="(0,)"), through(0, 0, 0, 1, 0, name="(0, 1)")


def test_a_row_shows_the_worst_verdict_and_of_these_the_largest_error():
    found, notes = row((RIGHT, X, 4, 4), (RIGHT, Y, 4, 5), (RIGHT, X, 4, 4.1), (VACUOUS, X, 0, 1))
    assert (found.name, found.shape, found.run, found.checked) == ("all", (5,), "train", "3 entries")
    assert (found.worst, found.autograd, found.numerical, found.error) == ("(0, 1)", 4, 5, 0.2)
    assert (found.verdict, found.note) == (RIGHT, "")
    assert {type(found.autograd), type(found.numerical), type(found.error)} == {float}
    assert row((RIGHT, X, 4, 5), (KINK, X, 4, 4))[0].verdict == KINK


def test_few_digits_of_what_is_right_are_noted():
    few = ["note: all at (0,): rounding hides all but the slope's first digits"]
    assert row((RIGHT, X, 100, 100.5))[1] == few
    assert row((RIGHT, X, 100, 100.05))[1] == row((KINK, X, 100, 150))[1] == []


def test_a_wrong_row_names_the_array_and_the_entry_to_blame():
    found, _ = row((WRONG, X, 6, 4), blamed=Y)
    assert (found.name, found.shape, found.worst) == ("y", (1, 3), "(0, 1)")
    assert found.note.startswith("y at index (0, 1): ") and found.note.endswith(" 1.5 times as large.")
    found, _ = row((WRONG, X, 6, 4), blamed=through(0, 1, 0, 1, 0), mode="forward")
    assert (found.name, found.shape, found.worst) == ("all, forward", (5,), "direction 0")
    assert found.note.startswith("all, forward at direction 0: ")


@pytest.mark.parametrize(
    ("words", "found", "slope"),
    [
        ("a gradient has to be finite", numpy.inf, Slope(1.0, 0.0)),
        ("near this place the function is not finite", 1.0, Slope(numpy.nan, numpy.nan)),
        ("the function has a corner here", 100.0, Slope(50.0, 0.0, corner=2)),
        (": 2 times as large", 100.0, Slope(50.0, 0.0, corner=0.7)),
        (": autograd sees no influence", 0.0, Slope(4.0, 0.0)),
        (": 1.5 times as large", 6.0, Slope(4.0, 0.0)),
        (": 5 times as large", 5.0, Slope(1.0, 0.0)),
        (": in small steps the values do not change", 5.0, Slope(0.0, 0.0)),
        (": the values change in steps of 1e-07", 5.0, Slope(4.0, 0.0, stair=1e-7)),
        (": the values change in steps of 1e-07", 0.0, Slope(4.0, 0.0, stair=1e-7)),
    ],
)
def test_each_way_of_being_wrong_has_its_sentence(words, found, slope):
    assert words in sentence("x", Judgement(WRONG, X, found, slope))


# All of it.


def test_there_is_a_row_for_each_array_or_one_for_all():
    def rows(**options):
        return [(row.name, row.shape) for row in comparison(**options).rows()]

    assert rows(x=[[1, 2]], y=[3]) == [("x", (1, 2)), ("y", (1,))]
    assert rows(x=[[1, 2]], y=[3], thorough=False) == [("all arrays", (3,))]
    assert rows(x=[1, 2], thorough=False) == [("x", (2,))]


def test_what_was_noted_is_handed_on():
    c, said = comparison(x=[1], y=[2], run="train"), []
    c.how.progress, c.point.notes = said.append, ["note: a"]
    c.rows()
    assert c.how.notes == ["note: a"] and said == ["0 of 2 arrays, train", "1 of 2 arrays, train"]
    c.point.watched.narrow_back = "b"
    c.rows()
    assert c.how.notes[1:] == ["note: a", "note: the way back goes through float32: b"]


def test_all_arrays_together_have_their_first_entry_too():
    c = comparison(x=[1, 1], y=[1], thorough=False)
    c.point.gradient[0] *= 3
    assert [(r.name, r.verdict, r.worst) for r in c.rows()] == [("x", WRONG, "(0,)")]


def test_a_function_that_comes_to_give_another_value_is_refused():
    offset = [0.0]
    c = comparison(lambda x: x + offset[0], x=[1, 2])
    offset[0] = 1.0
    with numpy.errstate(all="ignore"), pytest.raises(ValueError, match="has come to give another value"):
        c.rows()


# Forward mode.


def test_forward_mode_has_rows_of_its_own_and_is_tried_with_all_arrays_at_once():
    c = comparison(lambda x, y: np.append(x * y, x), modes=("reverse", "forward"), x=[1, 2, 3], y=[4, 5, 6])
    assert [row.name for row in c.rows()] == ["x", "x, forward", "y", "y, forward"]
    for modes, times in ((("reverse",), 0), (("forward",), 1), (("reverse", "forward"), 1)):
        together = []
        c.how.modes, c.forward_together = modes, lambda together=together: together.append(1)
        c.rows()
        assert len(together) == times
    comparison(lambda x: x[:0], modes=("forward",), x=[1, 2]).forward_together()


def linear(e):
    return numpy.array([1e6 * e[0], e[0] + 3 * e[1] - e[2]])


def all_at_once(change):
    c = comparison(x=[1], y=[1, 1])
    c.point.change = change
    c.forward_together()


@pytest.mark.parametrize("off", [lambda e: 1e-4, lambda e: 1e-4 * abs(e[1])])
def test_in_forward_mode_the_change_is_proportional_to_the_tangent(off):
    with pytest.raises(GradientError, match="not proportional to the tangent"):
        all_at_once(lambda e: linear(e) + [0, off(e)])


@pytest.mark.parametrize(("factor", "off"), [(1, 1e-4), (1e-15, 1)])
def test_in_forward_mode_the_changes_by_each_array_add_up(factor, off):
    with pytest.raises(GradientError, match="not the sum of the changes by each"):
        all_at_once(lambda e: factor * (linear(e) + [0, off * e[1] * (e[0] == 0)]))


def test_in_forward_mode_what_is_0_or_off_by_rounding_of_the_largest_output_passes():
    all_at_once(lambda e: 0 * linear(e))
    all_at_once(lambda e: linear(e) + [0, 1e-8])
