"""A slope is off by no more than its uncertainty; a corner is told from a curve, a stair and rounding."""

import autograd.numpy as anp
import numpy as np
import pytest

from tinyseg.gradcheck import check_gradients
from tinyseg.gradcheck import slope as ladder
from tinyseg.gradcheck.slope import RUNGS, difference, glance, measure

ULP = 2.0**-52


def measured(f, v=3.0, lengths=RUNGS, largest=1.0, rounding=lambda moving: 0.0):
    """The slope of sum(v f(t)) at 0."""
    v = np.broadcast_to(v, np.shape(f(0.0)))
    return measure(lambda t: (f(t), t), f(0.0), v, lengths, ULP, largest, rounding)


def within(slope, expected, largest):
    """Whether a slope is off by no more than it says, which is no more than that."""
    return abs(slope.value - expected) <= slope.uncertainty <= largest


# One step.

AT_ZERO, V = np.array([9.0, 7.0, 0.0]), np.array([2.0, -3.0, -4.0])


def line(t):
    return np.array([(3 + t) ** 2, 5 * t + 7, abs(t)]), t


def test_one_step_sees_slope_and_corner():
    slope = glance(line, AT_ZERO, V, 0.25)
    assert slope.value == 2 * 6 - 3 * 5  # and the slope of |t| on both sides is 0
    assert slope.corner == 2 * 2 * 0.25 + 4 * 2  # the parabola's is proportional to the step


@pytest.mark.parametrize(
    ("f", "moved"),
    [
        (lambda t: [max(t, 0.0), 5.0], True),
        (lambda t: [5.0, min(t, 0.0)], True),
        (lambda t: [5.0, 6.0], False),
    ],
)
def test_one_step_sees_whether_any_value_moved(f, moved):
    slope = glance(lambda t: (np.array(f(t)), t), np.array(f(0.0)), V[:2], 0.25)
    assert slope.moved is moved


def test_a_rung_counts_the_steps_that_rounding_left():
    slope, step, bend, corner, right, left = ladder._rung(lambda t: line(2 * t), AT_ZERO, V, 0.125)
    assert (slope, step, corner) == (2 * 6 - 3 * 5, 0.25, 2 * 2 * 0.25 + 4 * 2)
    assert bend == pytest.approx(np.hypot(2 * 2 * 0.25**2, 4 * 2 * 0.25))
    assert right.tolist() == [3.25**2 - 9, 5 * 0.25, 0.25] and left.tolist() == [9 - 2.75**2, 5 * 0.25, -0.25]


def test_a_difference_of_equal_infinities_is_0():
    a, b = np.array([[np.inf, -np.inf, 7.0, np.inf], [np.inf, -np.inf, 5.0, 5.0]])
    with np.errstate(invalid="ignore"):
        assert difference(a, b).tolist() == [0, 0, 2, np.inf]


# A ladder of steps.


def smooth(t):
    """Two rows of three, of which one never moves and two are 0."""
    return np.array([[np.exp(t), np.sin(3 * t), 50.0], [2.5 - t**3 + 7 * t, 4 * t, np.cos(1 + t)]])


def test_the_slope_of_a_smooth_function_is_known_to_many_digits():
    v = np.array([[2.0, -3.0, 5.0], [0.5, -0.7, 1.5]])
    slope = measured(smooth, v)
    assert within(slope, 2 - 3 * 3 + 0.5 * 7 - 0.7 * 4 - 1.5 * np.sin(1), 1e-6)
    assert slope.corner == 0 and slope.moved is True


def test_steps_that_leave_the_domain_are_left_out():
    with np.errstate(invalid="ignore"):
        assert within(measured(lambda t: np.sqrt([0.05 + t, 1.0])), 1.5 / np.sqrt(0.05), 1e-6)


def test_where_no_step_finds_a_number_nothing_is_known():
    slope = measured(lambda t: np.array([np.nan if t else 1.0]))
    assert np.isnan(slope.value) and np.isnan(slope.uncertainty)
    assert (slope.corner, slope.moved, slope.stair) == (0, True, 0)


def test_by_one_step_alone_nothing_is_certain():
    assert measured(smooth, lengths=[0.1]).uncertainty == np.inf


def test_a_function_that_never_moves_has_slope_0():
    slope = measured(lambda t: np.array([5.0, 6.0]))
    assert (slope.value, slope.uncertainty, slope.moved, slope.stair) == (0, 0, False, 0)


@pytest.mark.parametrize(
    ("f", "step", "largest"),
    [
        pytest.param(lambda t: (768 + t) - 768, 512 * ULP, 768.0, id="large numbers inside"),
        pytest.param(lambda t: 768 + t, 512 * ULP, 1.0, id="a large result"),
        pytest.param(lambda t: (40 + t) - 40, 32 * ULP, 2.0, id="16 times as large as we know"),
    ],
)
def test_a_staircase_of_rounding_makes_the_slope_uncertain(f, step, largest):
    lengths = step * np.array([200.4, 100.2, 50.1])  # 200, 100 and 50 steps: by all three, the slope is short
    assert within(measured(lambda t: np.array([f(t), 5.0]), lengths=lengths, largest=largest), 3.0, 0.5)


def test_steps_that_are_too_large_for_rounding_are_those_of_a_step_function():
    slope = measured(lambda t: np.array([np.round(t / 0.003) * 0.003, 5.0]))
    assert within(slope, 0, 1e-9)


def test_what_has_not_moved_yet_may_have_moved_by_less_than_the_last_digit():
    # Of a slope as small as this, the two short steps see nothing.
    slope = measured(lambda t: np.array([[1 + 1e-10 * t, 5.0]]), lengths=[1e-2, 1e-9, 1e-10])
    assert within(slope, 3e-10, 1e-5)


def test_what_fine_steps_do_not_see_makes_longer_ones_no_less_certain():
    slope = measured(lambda t: np.array([1 + 2.0**-30 * t]), lengths=[2.0**-6, 2.0**-10])
    assert (slope.value, slope.uncertainty) == (3 * 2.0**-30, 0)


def test_rounding_on_the_way_is_allowed_for():
    # A staircase too coarse for rounding, unless one knows how far off it is.
    def f(t):
        return np.array([np.round(t / 1e-5) * 1e-5])

    slope = measured(f, lengths=[10.4e-5, 5.2e-5, 2.6e-5], rounding=lambda moving: 3e-5)
    assert within(slope, 3.0, 10.0)


def test_only_outputs_that_move_are_asked_for_their_rounding():
    asked = []
    measured(smooth, rounding=lambda moving: asked.append(moving.tolist()) or 0.0)
    assert asked == [[[True, True, False], [True, True, True]]]


def test_the_smallest_step_of_a_staircase_is_relative_to_the_value():
    def stair(t, value, step):
        return value + step * np.round(t / step)

    def f(t):
        return np.array([stair(t, 7.0, 0.5), stair(t, 40.0, 0.25), 9.0, t])  # the last is 0, and has no size

    slope = measured(f, lengths=[8.0, 4.0, 2.0, 1.0, 0.5, 0.25, 0.125])
    assert slope.stair == 0.25 / 40


def test_an_entry_far_smaller_than_what_it_is_added_to_has_a_slope():
    (row,) = check_gradients(lambda x: anp.sin(1 + x), {"x": np.array([1e-17])}).rows
    assert row.verdict == "right" and row.numerical == pytest.approx(row.autograd)


# Corners, through the whole ladder.


def test_a_corner_is_the_difference_of_the_slopes_to_both_sides():
    v = np.array([2.0, -3.0, 5.0])
    slope = measured(lambda t: np.array([max(t, 0.0), max(-4 * t, 0.0), np.sin(t)]), v)
    assert slope.corner == pytest.approx(2 + 3 * 4, rel=1e-4)


def test_a_corner_beside_0_is_none_at_0():
    slope = measured(lambda t: np.array([abs(t - 1e-6), 4.0]))
    assert slope.corner == 0
    assert within(slope, -3.0, 1e-3)


def test_rounding_in_many_outputs_is_no_corner():
    def scattered(t):
        return np.full((4, 25), 5.0) + 1e-6 * (t != 0)

    slope = measured(scattered, v=1.0, rounding=lambda moving: 1e-5)  # the root of 100 squares of 1e-6
    assert slope.corner == 0


def test_a_corner_of_many_outputs_stands_out_from_rounding():
    lengths = [1e-1, 1e-2, 1e-3]
    slope = measured(lambda t: np.full((4, 25), abs(t)), 0.5, lengths, rounding=lambda moving: 5e-4)
    assert slope.corner == pytest.approx(100 * 0.5 * 2)


def test_what_moves_to_one_side_alone_has_moved():
    # Of numbers as large as 1e6 these steps leave little.
    slope = measured(lambda t: np.array([max(t, 0.0), min(2 * t, 0.0)]), 1.0, [1e-8, 1e-9, 1e-10], 1e6)
    assert slope.corner == pytest.approx(3)


# The best rung: it is off by what it differs from the one before it, and by its noise.

STEPS = np.array([1.0, 0.1, 0.01, 1e-3, 1e-4])
EVEN = [0.25, 0.25, 0.25, 0.25, 0.25]


@pytest.mark.parametrize(
    ("slopes", "noise", "few", "best"),
    [
        pytest.param([9, 5, 4, 3.5, 3.75], [*EVEN[:4], 4], 0.01, (3.5, 0.75), id="the least of both"),
        pytest.param([5, 4, 3.75, 0, 0], EVEN, 0.005, (3.75, 0.5), id="finer ones are blind"),
        pytest.param([5, 4, 3.75, 0, 0], EVEN, 1e-5, (0, 0.25), id="finer ones know better"),
        pytest.param([6, 4, 4, 0, 1], EVEN, 0, (1, 1.25), id="contradicted by all finer ones"),
        pytest.param([6, 4, 4, 3, 4], [*EVEN[:4], 2], 0, (3, 1.25), id="contradicted by one finer one"),
        pytest.param([9, 5, 5, 5.25, 5], [0, 0, 0, 0.5, 0], 0, (5, 0), id="who agrees does not contradict"),
        pytest.param([9, 5, 5, 5.5, 5], [0, 0, 0, 0.25, 0], 1e-4, (5, 0.5), id="who agrees is not blind"),
        # 0.5625 from the second, whose 0.5 and its own noise allow for that
        pytest.param([5, 4.5, 4.125, 3.9375], [0, 0, 0, 0.125], 1e-3, (3.9375, 0.3125), id="within both"),
    ],
)
def test_the_best_rung_is_off_by_the_least_and_no_finer_one_contradicts_it(slopes, noise, few, best):
    assert ladder._best(np.array(slopes, float), STEPS, np.array(noise, float), few) == best


# What no curve does.


def roughness(curves):
    """Of bends that are so many squares of the step, on steps of 1, 1/10, 1/100 and so on."""
    steps = 10.0 ** -np.arange(len(curves))
    return ladder._roughness(np.array(curves) * steps**2, steps).tolist()


def close(expected):
    return pytest.approx(expected, rel=1e-9, abs=0)


def test_a_curve_is_as_rough_as_it_bends_on_finer_rungs():
    assert roughness([1, 1, 1, 1, 1]) == close([1e-2, 1e-4, 1e-6, 1e-8, 1e-8])
    assert roughness([9, 1, 1, 1, 1]) == close([1e-2, 1e-4, 1e-6, 1e-8, 1e-8])  # a wave, at first
    assert roughness([np.inf, 1, 1, 1, 1]) == close([1e-2, 1e-4, 1e-6, 1e-8, 1e-8])  # off the domain
    assert roughness([1, 2.9, 2.9, 8, 8]) == close([2.9e-2, 2.9e-4, 8e-6, 8e-8, 8e-8])  # a wave, to the end


def test_rounding_is_as_rough_as_its_largest_bend_on_finer_rungs_and_its_own_where_it_grows():
    steps = 10.0 ** -np.arange(4)
    assert ladder._roughness(np.array([5e-3, 2e-6, 7e-6, 3e-6]), steps).tolist() == [7e-6, 7e-6, 7e-6, 3e-6]


def test_a_rung_that_has_met_kinks_is_as_rough_as_it_bends():
    many = roughness([1, 4, 16, 64])  # each rung sees more of them than the one before
    assert many == close([4e-2, 4e-2, 16e-4, 64e-6])
    one = roughness([100, 1, 2, 4, 1, 1])  # more than the least before, and gone on the next rung
    assert one == close([1e-2, 2e-4, 4e-6, 4e-6, 1e-10, 1e-10])


# Corners, rung by rung.


@pytest.mark.parametrize(
    ("corners", "noise", "corner"),
    [
        pytest.param([50, 50, 50, 50], 1, 50, id="on all rungs"),
        pytest.param([50, 50, 50], 1, 50, id="on three rungs"),
        pytest.param([50, 50, 2, 2], 1, 0, id="on two rungs, which is too few"),
        pytest.param([1000, 100, 10, 1], 0.1, 0, id="a curve"),
        pytest.param([1000, 400, 160, 64], 1, 0, id="a curve, by steps that are close"),
        pytest.param([1000, 100, 60, 40], 1, 0, id="a curve, and nothing clear"),
        pytest.param([200, 50, 50, 50], 1, 50, id="a curve, then a corner"),
        pytest.param([10, 50, 50, 50], 1, 50, id="longer steps see two that cancel"),
        pytest.param([40, 100, 60], 1, 0, id="growing first"),
        pytest.param([50, 10, 50, 50], 1, 0, id="not on all of the last three"),
        pytest.param([50, 50, 50, 0.1], 0.1, 0, id="missed by the finest"),
        pytest.param([50, 50, 50, 1, 80], [1, 1, 1, 1, 900], 0, id="missed by one, hidden on the other"),
        pytest.param([50, 50, 50, 20], [1, 1, 1, 300], 50, id="hidden on the finest"),
        pytest.param([50, 50, 50, 30], [1, 1, 1, 12], 50, id="nearly hidden"),
        pytest.param([50, 44, 40, 10], [1, 1, 1, 3.5], 40, id="fading"),
        pytest.param([50, 50, 0, 0], 0, 0, id="what does not bend is not seen"),
        pytest.param([50, 50, 50, 1, 50], 1, 50, id="missed in between"),
    ],
)
def test_a_corner_stays_the_same_on_all_rungs_that_reach_it(corners, noise, corner):
    noise = np.broadcast_to(noise, len(corners))
    assert ladder._corner(np.array(corners, float), noise) == corner
