"""A function at one point: its vector of all arrays, its gradients taken in many ways, and its rounding."""

import itertools

import autograd.numpy as np
import numpy
import pytest
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.tracer import getval

from tinyseg.gradcheck import GradientError
from tinyseg.gradcheck.point import Point, _cotangent, _scale
from tinyseg.gradcheck.watch import ULP, Watched

X = numpy.array([[0.5, -1.5, 2.5], [3.5, 4.5, -5.5]])
Y = numpy.array([8.0, -16.0, 32.0])


def at(function, *options, **arrays):
    """The point of a function of these arrays by name."""
    with numpy.errstate(all="ignore"):
        return Point(Watched(lambda values: function(*values.values()), "f", arrays), 0, *options)


def op(function, *vjps):
    made = primitive(function)
    defvjp(made, *vjps)
    return made


# One vector for all arrays.


def test_a_vector_holds_all_entries_of_all_arrays_and_gives_them_back_as_they_lay_in_memory():
    point = at(lambda x, none, y: x * y, x=numpy.asfortranarray(X), none=numpy.zeros((0, 2)), y=Y)
    assert point.parts == {"x": slice(0, 6), "y": slice(6, 9)}
    assert point.x.tolist() == [0.5, -1.5, 2.5, 3.5, 4.5, -5.5, 8, -16, 32]
    shaped = point.shaped(10 * point.x)
    assert (shaped["x"] == 10 * X).all() and (shaped["y"] == 10 * Y).all() and shaped["none"].size == 0
    assert shaped["x"].flags.f_contiguous


def test_an_entry_has_the_name_of_its_array_and_an_index_there():
    point = at(lambda x, y, z: x * y * z, x=X, y=Y, z=numpy.array(2.5))
    places = ("x", "(0, 0)"), ("x", "(1, 2)"), ("y", "(0,)"), ("y", "(2,)"), ("z", "()")
    assert tuple(map(point.place, (0, 5, 6, 8, 9))) == places


def test_without_an_entry_there_is_nothing_to_check():
    with pytest.raises(ValueError, match="f: there is nothing to check"):
        at(lambda x: x, x=numpy.zeros((3, 0)))


def test_a_zero_is_scaled_as_the_others_in_its_array_are():
    assert _scale(numpy.array([0, -0.5, 0, 8, 0, 20])).tolist() == [8, 0.5, 8, 8, 8, 20]
    assert _scale(numpy.array([0, 0, 0.5, -1, 0.75])).tolist() == [0.75, 0.75, 0.5, 1, 0.75]
    assert _scale(numpy.zeros(2)).tolist() == [1, 1]


def test_a_place_near_by_is_off_by_up_to_a_length_relative_to_each_entry():
    many = numpy.repeat([3.0, -0.2, 0.0], 300)
    point = at(lambda x: 2 * x, x=many)
    off = (point.near(0.25) - many) / numpy.where(many, abs(many), 1.6)
    assert point.scale[-1] == 1.6 and -0.25 <= off.min() < -0.245 and 0.245 < off.max() <= 0.25


# Along a line.


def test_a_line_moves_only_the_entries_that_it_should():
    seen = []
    point = at(lambda x: seen.append(x) or 2.0 * x, x=numpy.array([1.0, 2.0, 4.0]))
    values, step = point.line(point.x, numpy.array([0, 0.5, -3]))(0.25)
    assert values.tolist() == [2, 4.25, 6.5] and step == 0.25
    assert point.x.tolist() == [1, 2, 4]


def test_a_step_is_what_rounding_left_of_it():
    point = at(lambda x: 2.0 * x, x=numpy.array([1.0]))
    assert point.line(point.x, numpy.array([0.5]))(3.3 * ULP)[1] == 4 * ULP  # from 1 it goes by 2 ULP


def test_a_line_has_no_values_where_the_function_has_none_or_one_of_another_shape():
    def tripled(x):
        if x[0] > 1.5:
            raise ZeroDivisionError
        return 3 * x[:2] if x[0] > 1.25 else 3 * x

    line = (point := at(tripled, x=numpy.array([1.0, 2.0, 4.0]))).line(point.x, numpy.array([1.0, 0, 0]))
    assert line(0.25)[0].tolist() == [3.75, 6, 12]
    assert all(numpy.isnan(line(t)[0]).tolist() == [True] * 3 for t in (0.4, 0.6))


@pytest.mark.parametrize(("radius", "length"), [(2e-3, 1e-3), (1e-4, 1e-5), (1e-6, 1e-7), (1e-9, 0)])
def test_values_near_by_are_as_far_as_there_are_any(radius, length):
    many = numpy.full(400, 3.0)

    def tripled(x, lost):
        if numpy.max(abs(getval(x) - many)) > 3 * radius:
            return lost
        return 3 * x

    for lost in (numpy.append(many[1:], numpy.nan), many[1:]):
        off = at(lambda x, lost=lost: tripled(x, lost), x=many).nearby() / 9 - 1
        assert (0.9 * length < numpy.max(abs(off)) <= length * 1.000001) if length else numpy.isnan(off).all()


def test_entries_with_one_index_along_some_axis_move_to_one_side_alike():
    ones, drawn, farthest = numpy.full((4, 5, 6), 2.0), set(), 0.0
    z, w = numpy.full((1, 50), 2.0), numpy.full(50, 2.0)
    point = at(lambda x, y, z, w: np.sum(x) * y + np.sum(z) + np.sum(w), x=ones, y=2.0, z=z, w=w)
    for _ in range(30):
        off = point.near_alike(0.25) / 2 - 1
        x, z, w = off[:120].reshape(4, 5, 6), off[121:171], off[171:]
        assert numpy.max(abs(off)) <= 0.25 and {*numpy.sign(w)} == {-1, 1}
        farthest = max(farthest, numpy.max(abs(off)))
        axes = [a for a in range(3) for other in [tuple({0, 1, 2} - {a})]
                if (numpy.ptp(numpy.sign(x), axis=other) == 0).all()]  # fmt: skip
        assert axes
        drawn.update(axes)
        assert len({*abs(x).ravel()}) == 120  # they do not move by the same
        (side,) = {*numpy.sign(z)} if numpy.ptp(numpy.sign(z)) == 0 else (0,)
        drawn.add(("z", side))
    assert drawn == {0, 1, 2, ("z", 0), ("z", 1), ("z", -1)} and farthest > 0.24


def test_forward_mode_needs_a_jvp_only_for_what_moves():
    scaled = primitive(lambda x, y: x * y)
    defvjp(scaled, lambda ans, x, y: lambda g: g * y, lambda ans, x, y: lambda g: g * x)
    defjvp(scaled, lambda g, ans, x, y: g * y)
    point = at(lambda x, y: scaled(x, y), x=Y, y=Y / 4)
    change = point.change(numpy.array([0, 3.0, 0.5, 0, 0, 0]))
    numpy.testing.assert_allclose(change, point.cotangent * [0, 3 * -4, 0.5 * 8])


def test_a_part_of_the_gradient_comes_through_some_outputs():
    point = at(lambda x: np.append(x, 3 * x), x=Y)
    part = point.gradient_of(numpy.array([True, False, False, False, True, False]))
    assert part.tolist() == [point.cotangent[0], 3 * point.cotangent[4], 0]


# The cotangent.


def test_outputs_that_change_by_decades_less_get_a_larger_cotangent():
    changes = [1, 2, 0.5, 1, 1, 0.05, 30, 2e-4, 1e6, 1e-40, 1e40, 0, numpy.inf]
    decades = [0, 0, 0, 0, 0, 1, -1, 3, -6, 30, -30, 0, 0]
    values, drawn = numpy.full(13, 7.0), numpy.random.default_rng(3).normal(size=13)
    values[9] = 0
    v = _cotangent(values, [values + changes, values - changes], numpy.random.default_rng(3))
    numpy.testing.assert_allclose(v, drawn * 10.0 ** numpy.array(decades))
    assert (_cotangent(values, [values, values], numpy.random.default_rng(3)) == drawn).all()


def test_the_typical_slope_is_the_largest_of_a_step_or_that_of_the_cotangent():
    large, small = (at(lambda x: 3.0 * x, x=numpy.array([x])) for x in (1000, 1e-3))
    assert large.typical == pytest.approx(3000 * abs(large.cotangent[0]))
    assert small.typical == abs(small.cotangent[0])


# What is not the same each time.


def test_a_function_that_is_not_to_be_trusted_is_refused():
    count, buffer = itertools.count(), numpy.zeros(3)

    def doubled(x):
        return numpy.multiply(x, 2, out=buffer)

    with pytest.raises(ValueError, match="^f: the function gives another value each time"):
        at(lambda x: x + next(count), x=Y)
    with pytest.raises(GradientError, match=r"^f: the function gives nan at index \(1,\) of its result"):
        at(lambda x: np.sqrt(x), x=Y)
    with pytest.raises(GradientError, match="^f: a later call changes an earlier result"):
        at(doubled, x=Y)


def test_a_function_that_writes_past_the_read_only_flag_is_refused():
    def compiled(x, y):
        y.setflags(write=True)  # NumPy allows it to who owns the array
        y[1] = abs(y[1])
        return x * y

    with pytest.raises(GradientError, match="f: it writes into y, past NumPy's read-only flag"):
        at(compiled, x=Y, y=Y)


def remembering():
    last = numpy.zeros(3)

    def square(x):
        last[:] = x
        return x**2

    return op(square, lambda ans, x: lambda g: 2 * g * last)


def counting(x):
    count = itertools.count()
    return lambda g: 2 * g * x * (1 if next(count) == 0 else 2)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (remembering(), "after another call of the function: something is kept between calls"),
        (
            op(lambda x: x**2, lambda ans, x: counting(x)),
            "twice from one tape: its vjp keeps something between calls",
        ),
        (op(lambda x: x, lambda ans, x: abs), "-1024 times as large: it is not proportional to that"),
    ],
    ids=["after another call", "twice", "another cotangent"],
)
def test_gradients_are_the_same_each_time(function, words):
    with pytest.raises(GradientError, match=rf"f: the gradient of x at index \(\d,\) is .* if .* {words}"):
        at(function, x=Y)


def product(wrong):
    """A product whose gradients are twice too large if just these are asked for."""

    def gradients(argnums, ans, args, kwargs):
        factor = 2 if argnums == wrong else 1
        return lambda g: [factor * g * ans / args[i] for i in argnums]

    made = primitive(lambda *args: numpy.prod(args, axis=0))
    defvjp_argnums(made, gradients)
    return made


@pytest.mark.parametrize(
    ("names", "wrong", "words"),
    [
        ("xyz", (1, 2), "gradient of y .* without that of x"),
        ("xyz", (2,), "gradient of z .* alone"),
        ("xy", (1,), "gradient of y .* alone"),
        ("xy", (0,), "gradient of x .* alone"),
    ],
)
def test_gradients_are_the_same_together_and_apart(names, wrong, words):
    with pytest.raises(GradientError, match=words):
        at(product(wrong), **dict.fromkeys(names, Y))


def test_a_point_that_is_not_thorough_takes_no_gradient_alone():
    assert at(product((1,)), False, x=Y, y=Y).parts.keys() == {"x", "y"}
    with pytest.raises(GradientError, match="without that of x"):
        at(product((1, 2)), False, x=Y, y=Y, z=Y)


def with_gradient(gradient, typical):
    point = at(lambda y, x: y * x, y=Y, x=numpy.ones(3))
    point.gradient[3:], point.typical, point.scale[3:] = gradient, typical, 4.0
    return point


def test_what_is_the_same_may_differ_by_a_ten_millionth_of_itself_and_a_bit_of_the_typical_slope():
    point = with_gradient([2.0, -2.0, 7.0], typical=500.0)  # 1e-7 (2 + 1e-3 * 500 / 4) = 2.125e-7
    point.same({"x": [2 + 2.12e-7, -2 + 2.12e-7, 7 - 2.12e-7]}, "so")
    for i, place in ((0, 0), (1, 1)):
        other = numpy.array([2.0, -2.0, 7.0])
        other[i] -= 2.13e-7
        with pytest.raises(GradientError, match=rf"gradient of x at index \({place},\) is .* taken so"):
            point.same({"x": other}, "so")


def test_what_is_not_finite_is_the_same_only_as_what_is_not_finite_either():
    point = with_gradient([numpy.inf, numpy.nan, 7.0], typical=500.0)
    point.same({"x": [-numpy.inf, numpy.inf, 7.0]}, "so")
    for other in ([-numpy.inf, 3.0, 7.0], [-numpy.inf, numpy.nan, numpy.nan]):
        with pytest.raises(GradientError, match="gradient of x"):
            point.same({"x": other}, "so")


def test_zeros_are_the_same_where_no_slope_is_typical():
    with_gradient(numpy.zeros(3), typical=0.0).same({"x": numpy.zeros(3)}, "so")


# Rounding.


def test_the_gradients_noise_is_a_few_units_in_the_last_place():
    point = at(lambda x: x**3, x=Y)
    assert (point.noise < 100 * ULP * abs(point.gradient)).all() and (point.noise > 0).all()


def test_outputs_that_move_are_off_by_the_last_unit_of_each_number_on_the_way():
    point = at(lambda x: x + 100, x=Y)
    v = point.cotangent[[0, 2]]
    terms = [*v * Y[[0, 2]], *v * (Y[[0, 2]] + 100)]  # of x, and of the sum
    off = point.off_by(numpy.array([True, False, True]))
    assert off == pytest.approx(ULP * numpy.linalg.norm(terms), rel=1e-12, abs=0)


def test_a_number_on_the_way_that_does_not_move_is_rounded_the_same():
    point = at(lambda x: x * 4.0, x=Y)
    v = point.cotangent
    there = point.x + [0, 1, 0]
    assert point.off_by(True, there) == pytest.approx(ULP * abs(v[1] * 4 * Y[1]) * 2**0.5, rel=1e-12, abs=0)


def test_the_values_scatter_by_what_three_units_in_the_last_place_of_x_do():
    point = at(lambda x: 1.0 * x, x=numpy.ones(8))
    most = 3 * ULP * numpy.linalg.norm(point.cotangent)
    assert point.roughness(numpy.full(8, 0.5)) == pytest.approx(most, rel=1e-12, abs=0)


def test_the_values_scatter_by_what_moves_alone_and_each_entry_to_a_side_of_its_own():
    point = at(lambda x: x[:4] - x[4:], x=numpy.ones(8))
    assert point.roughness(numpy.ones(8)) > 0
    assert at(lambda x: 2.0 * x[1:], x=numpy.ones(2)).roughness(numpy.array([5.0, 0])) == 0


# Which numbers the function computes with.


def single(x):
    return x.astype(numpy.float32).astype(numpy.float64)


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: single(x) / 3, "inside (`astype` returns float32): only first digits are checked"),
        (
            op(single, lambda ans, x: lambda g: g),
            "inside (`single` returns what float32 can hold): only first digits are checked",
        ),
    ],
    ids=["inside", "values"],
)
def test_float32_is_noted_and_its_digits_are_those_that_count(function, words):
    point = at(function, x=numpy.linspace(8.1, 9, 20))
    assert isinstance(point.eps, float) and point.eps == 2**-23
    assert len(point.notes) == 1 and words in point.notes[0]


def test_float32_in_a_kernel_that_returns_float64_is_noted_whatever_comes_after():
    kernel = op(lambda x: single(x) if numpy.max(abs(x - Y)) < 1 else x, lambda ans, x: lambda g: g)
    assert "`<lambda>` returns" in at(lambda x: np.tanh(kernel(x) / 9), x=Y + 0.1).notes[0]
    assert at(lambda x: np.maximum(x, 0) + 0.1, x=single(numpy.linspace(8.1, 9, 20))).notes == []  # an image


def test_float64_is_not_noted():
    point = at(lambda x: x / 3, x=Y)
    assert point.eps == 2**-52 and point.notes == []


def test_float16_is_too_coarse():
    for factors in (numpy.ones(3), numpy.array([1, 1, 1e-4])):  # which has a large cotangent
        with pytest.raises(ValueError, match="goes through float16 inside .* too coarse for a slope"):
            at(lambda x, factors=factors: (x * factors).astype(numpy.float16).astype(float), x=Y + 0.1)
