"""What watch.py promises: values, derivatives, how they round, and refusals that name the reason."""

import math
from collections import OrderedDict, defaultdict, namedtuple
from types import MappingProxyType, SimpleNamespace

import autograd.numpy as np
import numpy
import pytest
from autograd import grad
from autograd.core import SparseObject, vspace
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.scipy import special

from tinyseg import ops
from tinyseg.gradcheck import GradientError
from tinyseg.gradcheck.watch import (
    ULP,
    Watched,
    _line,
    _said,
    by_name,
    flatten,
    frozen,
    is_narrow,
    is_own,
    kind,
    rebuilt,
)

NESTED = {"conv": {"w": 1, "b": [2, (3, 4)]}, "t": (5,)}
X, V, SIGNS = numpy.array([2.0, 5.0]), numpy.array([2.0, 3.0]), numpy.array([3.0, -1.0])
KEPT = numpy.zeros(2)
Pair = namedtuple("Pair", "w b")
scaled = primitive(lambda x, scale: x * scale)


class Attributes(dict):
    """Its items are its attributes."""

    def __init__(self, **items):
        super().__init__(items)
        self.__dict__ = self


class Items(dict):
    """Its attributes are looked up among its items."""

    __getattr__ = dict.__getitem__


def watched(function, **arrays):
    return Watched(lambda values: function(*values.values()), "f", arrays)


def an_op(function, vjp):
    """An op of one array; vjp(g) is its way back."""
    op = primitive(function)
    defvjp(op, lambda ans, x: vjp)
    return op


def double(array):
    array *= 2
    return array


def root(*moves):
    return pytest.approx(math.sqrt(sum(move**2 for move in moves)), rel=1e-14)


# Containers.


def test_leaves_are_named_by_the_way_to_them():
    assert flatten(NESTED) == {"conv.w": 1, "conv.b.0": 2, "conv.b.1.0": 3, "conv.b.1.1": 4, "t.0": 5}
    assert flatten([6, (7,)]) == {"0": 6, "1.0": 7}
    with pytest.raises(ValueError, match=r"two arrays are called a\.b"):
        flatten({"a.b": 1, "a": {"b": 2}})


def test_containers_keep_their_types_with_other_leaves_and_other_places_their_leaves():
    tens = {name: 10 * leaf for name, leaf in flatten(NESTED).items()}
    assert rebuilt(NESTED, tens) == {"conv": {"w": 10, "b": [20, (30, 40)]}, "t": (50,)}
    assert rebuilt([6, (7, 8)], {"0": 60, "1.0": 70}) == [60, (70, 8)]


@pytest.mark.parametrize(
    "value",
    [Pair(1, 2), Attributes(w=1, b=2), Items(w=1, b=2), OrderedDict(w=1, b=2), defaultdict(list, w=1, b=2)],
    ids=lambda value: type(value).__name__,
)
def test_a_container_of_ones_own_stays_one(value):
    new = rebuilt(value, {name: 10 * leaf for name, leaf in flatten(value).items()})
    assert type(new) is type(value) and list(flatten(new).values()) == [10, 20]
    assert list(flatten(value).values()) == [1, 2]
    if not isinstance(value, OrderedDict | defaultdict):
        assert (new.w, new.b) == (10, 20) and (value.w, value.b) == (1, 2)
    if isinstance(value, defaultdict):
        assert new["more"] == []


def test_a_mapping_that_is_no_dict_becomes_one():
    assert rebuilt(MappingProxyType({"w": 1, "b": 2}), {"w": 10}) == {"w": 10, "b": 2}


def test_a_frozen_array_is_a_copy_in_float64_that_nobody_can_write_to():
    array = numpy.array([1, 2], numpy.float32)
    copy = frozen(array)
    array[0] = 3
    assert copy.tolist() == [1, 2] and copy.dtype == numpy.float64 and not copy.flags.writeable


# Values.


def test_values_are_those_at_the_arrays_given_or_at_its_own():
    f = watched(lambda x, y: x - y, x=X, y=V)
    assert f().tolist() == [0, 2]
    assert f({"x": V, "y": 2 * X}).tolist() == [-2, -7]


def test_a_function_may_change_its_dict_but_no_array():
    f = Watched(lambda values: 3 * values.pop("x"), "f", {"x": X})
    assert f().tolist() == f().tolist() == [6, 15]
    for arrays in (None, {"x": X}):
        with pytest.raises(GradientError, match=r"f: it writes into an array .* line \d+, `array \*= 2`"):
            watched(double, x=X)(arrays)


@pytest.mark.parametrize("value", [(X,), [X], {"x": X}, None])
def test_what_is_not_one_array_is_refused(value):
    with pytest.raises(ValueError, match=f"f: .* must return one float64 array, not {type(value).__name__}"):
        watched(lambda x: value, x=X)()


@pytest.mark.parametrize(
    ("dtype", "hint"),
    [
        ("float32", "; the check computes in float64, since float32 would be noise"),
        ("float16", "; the check computes in float64, since float16 would be noise"),
        ("complex128", "; take np.real or np.abs of it"),
        ("int64", ""),
        ("bool", ""),
        ("<U32", ""),
    ],
)
def test_an_array_of_another_dtype_is_refused(dtype, hint):
    with pytest.raises(
        ValueError, match=f"f: the function must return one float64 array, not {dtype}{hint}$"
    ):
        watched(lambda x: x.astype(dtype), x=X)()


def test_an_array_of_objects_is_refused():
    f = watched(lambda x: numpy.where(x > 3, x, 0), x=X)  # of autograd's boxes it makes objects
    assert f().tolist() == [0, 5]
    with pytest.raises(GradientError, match="f: it returns an array of objects"):
        f.gradients("x")


@pytest.mark.parametrize("said", ["float32 and float64", "float32", "float64", "neither"])
def test_only_an_error_about_both_dtypes_gets_a_hint_about_them(said):
    def refuse(x):
        raise ValueError(said)

    hint = "^f: float32 and float64. The check computes in float64" if "and" in said else f"^{said}$"
    with pytest.raises(ValueError, match=hint):
        watched(refuse, x=X)()


def test_a_step_out_of_the_domain_gives_nan():
    f = watched(lambda x: numpy.array(math.log(1 / float(x))), x=2.0)
    assert f.stepped({"x": 1.0}) == 0
    assert math.isnan(f.stepped({"x": -1.0})) and math.isnan(f.stepped({"x": 0.0}))


def test_a_step_does_not_hide_a_fault_of_the_function():
    with pytest.raises(GradientError, match="writes into an array"):
        watched(double, x=X).stepped({"x": X})


# Derivatives.


def test_gradients_are_those_of_the_arrays_named():
    f = watched(
        lambda a, b, c, d: np.einsum("i,i,i->i", a, b, c) + a[1], a=X, b=[7, 11], c=[3, 1], d=[[0, 0, 0]]
    )
    found = f.gradients("cdba")(V)
    assert list(found) == ["c", "d", "b", "a"]
    assert [g.tolist() for g in found.values()] == [[28, 165], [[0, 0, 0]], [12, 15], [42, 38]]


def test_gradients_elsewhere_leave_the_arrays_alone():
    f = watched(lambda a, b: a * b, a=X, b=[7, 11])
    assert f.gradients("b", {"a": [10, 20], "b": V})(V)["b"].tolist() == [20, 60]
    assert f.gradients("b")(V)["b"].tolist() == [4, 15]
    assert not any(array.flags.writeable for array in f.arrays.values())


def test_a_gradient_that_autograd_keeps_sparse_has_gradients_too():
    f = watched(grad(lambda x: x[1] ** 3), x=X)  # [0, 3 x1^2]
    assert f.gradients("x")(V)["x"].tolist() == [0, 3 * 6 * 5]


def test_a_function_of_none_of_its_arrays_has_derivatives_of_zero():
    f = watched(lambda x: numpy.ones((1, 4)), x=X)
    assert f.gradients("x")(numpy.ones((1, 4)))["x"].tolist() == [0, 0]
    assert f.rounding("x", numpy.ones((1, 4))) == 0
    assert f.change({"x": V}).tolist() == [[0, 0, 0, 0]]


def test_the_change_in_forward_mode_follows_the_tangents():
    f = watched(lambda a, b: a * b, a=X, b=[7.0, 11.0])
    assert f.change({"b": V, "a": SIGNS}).tolist() == [2 * 2 + 3 * 7, 5 * 3 - 11]
    assert f.change({"b": V}).tolist() == [4, 15]


@pytest.mark.parametrize(
    ("jvp", "words"),
    [
        (lambda g, ans, x: g[:1], r": expected a tangent of shape \(2,\), got \(1,\)"),
        (lambda g, ans, x: numpy.sum(g), r": expected a tangent of shape \(2,\), got \(\)"),
        (lambda g, ans, x: None, r": expected a tangent of shape \(2,\), got None"),
        (lambda g, ans, x: (g, g), r": expected a tangent of shape \(2,\), got a tuple"),
        (lambda ans, x: lambda g: g, r" fails: TypeError: .*; it is called as jvp\(g, ans, \*args\)$"),
    ],
    ids=["shape", "number", "None", "tuple", "signature"],
)
def test_a_jvp_that_is_wrong_is_refused_by_its_name(jvp, words):
    op = primitive(lambda x: 3 * x)
    defjvp(op, jvp)
    with pytest.raises(GradientError, match=f"^f: the jvp of `<lambda>`{words}"):
        watched(lambda x: np.sum(op(x)), x=X).change({"x": V})


def test_the_tangent_of_a_pair_on_the_way_is_one_too():
    pair = primitive(lambda x: (3 * x, -x))
    defjvp(pair, lambda g, ans, x: (3 * g, -g))
    assert watched(lambda x: pair(x)[0] + pair(x)[1], x=X).change({"x": V}).tolist() == [4, 6]


# Rounding: each result, and x too, moves the end by its cotangent times itself.


def test_rounding_is_the_root_of_the_sum_of_the_squares_of_all_moves():
    f = watched(lambda x: x * SIGNS + 10, x=X)  # [6, -5], then [16, 5]
    assert f.rounding("x", V) == root(2 * 16, 3 * 5, 2 * 6, 3 * 5, 6 * 2, 3 * 5)


def test_a_number_on_the_way_is_rounded_too():
    f = watched(lambda x: np.sum(x) * SIGNS, x=X)  # 7, then [21, -7]
    assert f.rounding("x", V) == root(2 * 21, 3 * 7, 3 * 7, 3 * 2, 3 * 5)


def test_what_is_infinite_does_not_count_as_rounding():
    assert watched(lambda x: 3 * x, x=[2, math.inf]).rounding("x", V) == root(2 * 6, 6 * 2)


def test_a_pair_on_the_way_counts_by_its_parts():
    pair = an_op(lambda x: (3 * x, -x), lambda g: 3 * g[0] - g[1])
    f = watched(lambda x: pair(x)[0] + pair(x)[1], x=X)  # [6, 15] + [-2, -5] = [4, 10]
    assert f.gradients("x")(V)["x"].tolist() == [4, 6]
    assert f.rounding("x", V) == root(2 * 4, 3 * 10, 2 * 6, 3 * 15, 2 * 2, 3 * 5, 4 * 2, 6 * 5)


def test_what_is_the_same_elsewhere_does_not_count_as_rounding():
    f = watched(lambda x: x * SIGNS + 10, x=X)
    assert f.rounding("x", V, {"x": [2, 6]}) == root(3 * 5, 3 * 5, 3 * 5)
    h = watched(lambda x: 3.0 * x, x=X)
    assert h.rounding("x", V, {"x": [2]}) == h.rounding("x", V) > 0  # of another shape
    g = watched(lambda x: np.sqrt(x) if x[0] > 0 else math.sqrt(-1), x=[4.0, 9])
    assert g.rounding("x", V, {"x": [-1, 9]}) == g.rounding("x", V) > 0  # it has no values there


@pytest.mark.parametrize(("share", "units"), [(0, -4), (0.25, -2), (1, 4)])
def test_what_flows_back_is_shaken_by_up_to_four_units_in_the_last_place(share, units):
    draws = SimpleNamespace(uniform=lambda low, high, shape: numpy.full(shape, low + share * (high - low)))
    found = watched(lambda x: 2.0 * x, x=X).gradients("x", shake=draws)([4.0, 1.0])
    assert found["x"].tolist() == [8 + 8 * units * ULP, 2 + 2 * units * ULP]


def test_narrow_numbers_inside_are_noted():
    f = watched(lambda x: (-x.astype("f") * numpy.float32(math.inf)).astype(float), x=[0.25, -0.75])
    f.gradients("x")(V)
    assert (f.narrow, f.narrow_back) == ("`astype` returns float32", "the vjp of `negative` returns float32")
    assert f.largest_float32 == 0.75 and type(f.largest_float32) is float


def test_where_all_numbers_are_float64_nothing_is_noted():
    f = watched(lambda x: 3 * x, x=X)
    f.gradients("x")(V)
    assert (f.narrow, f.narrow_back, f.largest_float32) == ("", "", 0)


LONG = [1 + 2**-23, 3 - 2**-22, 5 + 2**-21]  # the last bit that float32 has is set


@pytest.mark.parametrize(
    ("values", "narrow"),
    [
        (LONG, True),
        ([*LONG, 0, 0, 0, 0, numpy.nan, numpy.inf], True),
        ([*LONG, 7, 8], True),
        ([*LONG, 7, 8, 9], False),
        ([LONG[0], 7, 8], False),
        ([*LONG, 0.1], False),
        ([1e300, 2e300, 3e300], False),
        (numpy.arange(9.0), False),
        (numpy.random.default_rng(0).normal(size=99), False),
        ([0, 0], False),
    ],
)
def test_values_that_fill_the_digits_of_float32_look_like_it(values, narrow):
    assert is_narrow(numpy.array(values, float)) == narrow
    assert not is_narrow(numpy.array(values, complex))


def test_an_op_whose_values_look_like_float32_is_found():
    kernel = an_op(lambda x: x.astype("f").astype(float), lambda g: g)
    total = an_op(lambda x: float(numpy.float32(x.sum())), lambda g: g * numpy.ones(3))
    f = watched(lambda x: 0.1 * kernel(x) * total(x), x=LONG)
    near = {"x": [value + 4 * ULP for value in LONG]}
    assert f.hidden_float32("x", near) == "`<lambda>` returns what float32 can hold"
    g = watched(lambda x: 0.1 * np.maximum(x, 0), x=LONG)
    assert g.hidden_float32("x", near) == ""
    g.gradients("x")(numpy.ones(3))  # of values that float32 can hold, and nobody looks


@pytest.mark.parametrize("op", [an_op(lambda x: 1.0 * x, lambda g: g), ops.relu], ids=["own", "tinyseg's"])
def test_the_exact_differences_of_nearly_equal_numbers_are_no_float32(op):
    x = 0.3 + 5e-10 * numpy.random.default_rng(0).normal(size=8)
    assert is_narrow(x - x.mean())
    assert watched(lambda x: op(x - np.mean(x)), x=x).hidden_float32("x", {"x": x}) == ""


@pytest.mark.parametrize(
    ("op", "own"),
    [(np.subtract, False), (np.concatenate, False), (np.linalg.inv, False), (np.array_from_args, False)]
    + [(special.expit, False), (primitive(numpy.frompyfunc(abs, 1, 1)), False)]
    + [(ops.relu, True), (scaled, True), (primitive("".join), True)],
)
def test_an_op_is_the_users_own_if_neither_numpy_nor_autograd_made_it(op, own):
    assert is_own(op) == own


def test_a_primitive_without_a_derivative_is_told_in_whole_sentences():
    with pytest.raises(GradientError, match=r"multi-dimensional arrays\. Write it, by defvjp"):
        watched(lambda x: np.sort(x, axis=0), x=numpy.ones((2, 2))).gradients("x")


# What the function and its ops may not do.


@pytest.mark.parametrize(
    ("vjp", "words"),
    [
        (lambda g: None, r"the vjp of `triple`: expected a gradient of shape \(2,\), got None"),
        (lambda g: g[:1], r"the vjp of `triple`: expected a gradient of shape \(2,\), got \(1,\)"),
        (lambda g: 0, r"the vjp of `triple`: expected a gradient of shape \(2,\), got \(\)"),
        (lambda g: (g, g), r"the vjp of `triple`: expected a gradient of shape \(2,\), got a tuple"),
        (lambda g: [g, g], r"the vjp of `triple`: expected a gradient of shape \(2,\), got a list"),
        (lambda g: "g", r"the vjp of `triple`: expected a gradient of shape \(2,\), got a str"),
        (double, r"the vjp of `triple` writes into what it was given, at line \d+, `array \*= 2`"),
        (lambda g: double(KEPT), "the vjp of `triple` writes into what it was given"),
        (lambda g: [][1], "the vjp of `triple` fails: IndexError: list index out of range"),
        (lambda g: 1j * g, "the way back fails: .*complex"),
    ],
    ids=[
        "None",
        "shape",
        "number",
        "tuple",
        "list",
        "string",
        "writes",
        "writes a result",
        "fails",
        "complex",
    ],
)
def test_a_vjp_that_is_wrong_is_refused_and_leaves_no_array_frozen(vjp, words):
    def triple(x):
        return numpy.multiply(3, x, out=KEPT)

    op = an_op(triple, vjp)
    backward = watched(lambda x: 5.0 * op(x), x=X).gradients("x")
    assert KEPT.flags.writeable
    with pytest.raises(GradientError, match=f"f: {words}"):
        backward(V)
    assert KEPT.flags.writeable


@pytest.mark.parametrize(("returned", "got"), [(numpy.ones(1), r"\(1,\)"), (None, "None")])
def test_the_gradient_of_a_number_on_the_way_is_a_number(returned, got):
    op = an_op(lambda s: 2 * s, lambda g: returned)
    with pytest.raises(GradientError, match=rf"the vjp of `<lambda>`: expected .* shape \(\), got {got}"):
        watched(lambda x: op(np.sum(x)), x=X).gradients("x")(1.0)


@pytest.mark.parametrize("number", [3, 3.0, numpy.float32(3), numpy.array(3)], ids=lambda n: type(n).__name__)
def test_a_number_of_any_type_can_be_a_gradient(number):
    op = an_op(lambda s: 3 * s, lambda g: number)
    assert watched(lambda x: op(np.sum(x)), x=X).gradients("x")(1.0)["x"].tolist() == [3, 3]


def test_the_gradient_of_a_pair_is_not_none():
    pair, first = an_op(lambda x: (3 * x, -x), lambda g: 3 * g[0]), an_op(lambda p: p[0], lambda g: None)
    with pytest.raises(GradientError, match="the vjp of `<lambda>`: expected a gradient .* got None"):
        watched(lambda x: first(pair(x)), x=X).gradients("x")(V)


def test_a_vjp_may_return_autograds_sparse_object():
    def second(g):
        return SparseObject(vspace(X), lambda into: into + [0, g])

    assert watched(an_op(lambda x: x[1], second), x=X).gradients("x")(7.0)["x"].tolist() == [0, 7]


@pytest.mark.parametrize(
    ("names", "returned", "expected"),
    [("xy", lambda g: (g,), "2 gradients, got 1"), ("x", lambda g: (g, g), "1 gradient, got 2")],
)
def test_a_vjp_of_several_arrays_returns_a_gradient_for_each(names, returned, expected):
    op = primitive(lambda x, y: x * y)
    defvjp_argnums(op, lambda argnums, ans, args, kwargs: returned)
    with pytest.raises(GradientError, match=f"^f: the vjp of `<lambda>`: expected {expected}$"):
        watched(op, x=X, y=V).gradients(names)(V)


def test_a_vjp_that_fails_as_the_tape_is_written_is_named():
    op = primitive(lambda x: 3 * x)
    defvjp(op, lambda g, ans, x: 3 * g)
    called = r"it is called as vjp\(ans, \*args\), and what it returns as \(g\)$"
    with pytest.raises(GradientError, match=f"^f: the vjp of `<lambda>` fails: TypeError: .*'x'; {called}"):
        watched(op, x=X).gradients("x")


def test_a_vjp_that_writes_into_its_ops_arguments_is_told_so():
    op = primitive(lambda x: 3 * x)
    defvjp(op, lambda ans, x: double(x))
    with pytest.raises(GradientError, match=r"^f: it writes into an array .* line \d+, `array \*= 2`"):
        watched(op, x=X).gradients("x")


def test_a_refusal_within_a_vjp_stays_as_it_is():
    op = primitive(lambda x: 3 * x)
    defvjp(op, lambda ans, x: watched(scaled, x=x, scale=X).gradients(["x"]))
    with pytest.raises(GradientError, match="^f: no derivative is defined"):
        watched(op, x=X).gradients("x")


@pytest.mark.parametrize(
    "function", [lambda op, x: 2 * x + op(x), lambda op, x: op(x) + x], ids=["+ op", "op +"]
)
def test_a_jvp_that_writes_into_its_tangent_is_refused(function):
    op = primitive(lambda x: 2 * x)
    defjvp(op, lambda g, ans, x: double(g))
    with pytest.raises(
        GradientError, match=r"writes into an array that it was given, at line \d+, `array \*= 2"
    ):
        watched(lambda x: function(op, x), x=X).change({"x": V})


def test_the_line_that_writes_is_the_users_own_not_numpys():
    def emptied(x):
        numpy.fill_diagonal(x, 0)
        return x

    with pytest.raises(GradientError, match=r"at line \d+, `numpy.fill_diagonal\(x, 0\)`"):
        watched(emptied, x=numpy.ones((2, 2)))()


def test_a_number_that_flows_back_is_shaken_too():
    draws = SimpleNamespace(uniform=lambda low, high, shape: numpy.full(shape, high))
    assert watched(lambda s: 2.0 * s, s=1.0).gradients("s", shake=draws)(4.0)["s"] == 8 + 32 * ULP


def test_a_view_is_not_left_frozen_if_it_came_before_its_base():
    base = numpy.ones(3)
    view = base[1:]
    first, second = an_op(lambda x: view, lambda g: g), an_op(lambda x: base, lambda g: g[1:])
    watched(lambda x: np.sum(first(x)) + np.sum(second(x)), x=X).gradients("x")(1.0)
    assert base.flags.writeable and view.flags.writeable


@pytest.mark.parametrize("mode", ["gradients", "change"])
@pytest.mark.parametrize(
    ("function", "words"),
    [
        (lambda x: primitive(double)(3 * x), r"it writes into an array .* line \d+, `array \*= 2`"),
        (
            lambda x: numpy.mean(x) * numpy.median(x),
            r"it runs on arrays, but autograd cannot follow it: .*[a-z], at line \d+, `lambda x: .*`\. Use",
        ),
        (lambda x: scaled(x, 3), "no derivative is defined: "),
        (lambda x: scaled(x, scale=x), "`<lambda>` gets scale by keyword"),
    ],
    ids=["writes", "not autograd's", "no derivative", "a keyword"],
)
def test_a_function_that_autograd_cannot_follow_is_refused_in_both_modes(function, words, mode):
    with pytest.raises(GradientError, match=f"f: {words}"):
        getattr(watched(function, x=X), mode)({"x": V})


# Names, and what is said of an error.


def test_arrays_go_by_name_to_each_kind_of_parameter():
    def f(a, /, b, *, c):
        return 100 * a + 10 * b + c

    assert by_name(f, {"c": 0, "b": 0, "a": 0})({"c": 1, "b": 2, "a": 3}) == 321


def test_a_primitive_gets_its_arrays_by_position():
    op = an_op(lambda x: 3 * x, lambda g: 3 * g)
    assert Watched(by_name(op, {"x": X}), "f", {"x": X}).gradients("x")(V)["x"].tolist() == [6, 9]


def test_other_names_and_no_signature_mean_the_arrays_order():
    assert by_name(lambda a, b: 10 * a + b, {"y": 0, "x": 0})({"y": 1, "x": 2}) == 12
    assert by_name(range, {"y": 0, "x": 0})({"y": 1, "x": 3}) == range(1, 3)


@pytest.mark.parametrize("names", [["a", "other"], ["one"], ["one", "two", "three", "four"]])
def test_arrays_that_the_function_does_not_take_are_refused(names):
    with pytest.raises(ValueError, match=f"takes a, b, c; the arrays are {', '.join(names)}: missing"):
        by_name(lambda a, b, c=0: a, dict.fromkeys(names))


@pytest.mark.parametrize(
    ("function", "names", "hint"),
    [
        (lambda params: params, "wb", r"'params'; a function of one dict gets {'params': {\.\.\.}}$"),
        (lambda *, params: params, "w", r"; a function of one dict gets {'params': {\.\.\.}}$"),
        (lambda x, params: params, "w", "'x'$"),
    ],
)
def test_a_function_of_one_dict_is_told_how_to_get_it(function, names, hint):
    with pytest.raises(ValueError, match=f"the arrays are {', '.join(names)}: missing .*{hint}"):
        by_name(function, dict.fromkeys(names))


@pytest.mark.parametrize(
    ("value", "said"),
    [(None, "NoneType"), ({}, "dict"), (numpy.array([None]), "object"), (X, "float64"), (1j, "complex128")],
)
def test_what_holds_no_floats_is_called_by_its_dtype_or_its_type(value, said):
    assert kind(value) == said


def test_an_error_is_said_in_one_line_without_its_full_stop():
    assert _said(ValueError("two\n  lines.")) == "ValueError: two lines"
    assert _said(ValueError()) == "ValueError"


def test_the_line_of_an_error_without_a_source_is_a_question_mark():
    assert _line(ValueError()) == "?"
    with pytest.raises(ValueError) as caught:
        exec("raise ValueError", {"__name__": "made"})
    assert _line(caught.value) == "1, `?`"
