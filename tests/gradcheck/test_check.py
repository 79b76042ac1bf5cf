"""What check_gradients and check_layer take, which runs they make, and what they report."""

import warnings

import autograd.numpy as np
import numpy
import pytest
from autograd import grad
from autograd.extend import defjvp, defvjp, primitive

from tinyseg.gradcheck import GradientError, Report, Row, check, check_gradients, check_layer
from tinyseg.gradcheck.compare import How
from tinyseg.gradcheck.watch import Watched

X = numpy.array([[0.5, -1.5, 2.5], [3.5, 4.5, -5.5], [6.5, 7.5, 8.5]])


def layer(call, params=None):
    """A layer: a function of (params, state, x, ...) that returns y."""

    def layer(params, state, x, train):
        return call(params, state, x, train), state

    layer.init = lambda rng: (params or {}, {})
    return layer


def row(name="x", verdict="right", run=""):
    return Row(name, (3,), run, "3 entries", "(1,)", 2.5, 2.5, 0.0, verdict)


def of_layer(function, arrays, **options):
    """`check_gradients` by way of a layer of one input, in training alone."""
    return check_layer(layer(lambda params, state, x, train: function(x)), *arrays.values(), **options)


def how_of_f(notes):
    return How("f", ("reverse",), 1e-6, 64, 0, notes)


both = pytest.mark.parametrize("checked", [check_gradients, of_layer])


def tripled(factor):
    """3 x, whose gradient is wrong by this factor."""
    op = primitive(lambda x: 3 * x)
    defvjp(op, lambda ans, x: lambda g: 3 * factor * g)
    defjvp(op, lambda g, ans, x: 3 * g)
    return lambda x: op(x)


# What is not said.


@both
def test_without_entries_64_are_checked_one_by_one_and_more_along_directions(checked):
    x = 1 + numpy.arange(65.0)
    assert checked(lambda x: np.sin(x), {"x": x[:64]}).rows[0].checked == "64 entries"
    assert checked(lambda x: np.sin(x), {"x": x}).rows[0].checked == "2 directions"


@both
def test_without_a_tolerance_a_millionth_is_allowed(checked):
    assert checked(tripled(1 + 3e-7), {"x": X}).passed
    with pytest.raises(GradientError, match="x .*WRONG"):
        checked(tripled(1 + 3e-6), {"x": X})


@both
def test_without_a_seed_it_is_0_and_without_an_order_it_is_1(checked):
    report = checked(tripled(1), {"x": X})
    assert report == checked(tripled(1), {"x": X}, seed=0, order=1) != checked(tripled(1), {"x": X}, seed=1)


def test_each_array_has_a_row():
    assert [row.name for row in check_gradients(lambda x, y: x * y, {"x": X, "y": X}).rows] == ["x", "y"]


# What cannot be checked.


def test_arrays_come_in_a_dict_and_a_function_can_be_called():
    with pytest.raises(ValueError, match="expected a dict of arrays by name, got a list"):
        check_gradients(lambda x: x, [X])
    with pytest.raises(ValueError, match="expected a function, got a ndarray"):
        check_gradients(X, {"x": X})


@pytest.mark.parametrize("order", [0, 3, True])
def test_the_order_is_1_or_2(order):
    with pytest.raises(ValueError, match=f"expected order 1 or 2, got {order}"):
        check_gradients(lambda x: 3 * x, {"x": X}, order=order)


OUTSIDE = "what is not to be differentiated belongs into the function$"


@pytest.mark.parametrize(
    ("name", "array", "words"),
    [
        ("x", numpy.arange(3), rf"who: x should hold floats, not int\d+; {OUTSIDE}"),
        ("p.12", 3, rf"p.12 should hold floats, not int\d+; a list counts as several arrays; {OUTSIDE}"),
        ("p.b", None, f"p.b should hold floats, not NoneType; {OUTSIDE}"),
        (
            "p.b",
            numpy.array([[1, numpy.inf], [2, 3]]),
            r"p.b should be finite .* at index \(0, 1\) it is not",
        ),
    ],
)
def test_arrays_hold_finite_floats(name, array, words):
    with pytest.raises(ValueError, match=words):
        check._finite("who", name, array)
    assert check._finite("who", name, X) is X


def test_a_box_cannot_be_checked():
    with pytest.raises(ValueError, match="x should hold floats, not an autograd box$"):
        grad(lambda x: check._finite("who", "x", x))(X)


def test_a_layers_arrays_are_finite_too():
    with pytest.raises(ValueError, match=r"check_layer: w should be finite .* at index \(1,\)"):
        check_layer(layer(lambda params, state, x, train: x, {"w": numpy.array([1, numpy.nan])}), X)


# Which runs a layer makes.


def runs(monkeypatch, made=None, rows=(), **options):
    """What each run of a layer is called, of three images, and whether it is thorough; and the report."""
    found = []

    def ran(watched, how, order, run, thorough=True):
        found.append((run, thorough))
        return list(rows) or [row(run=run)]

    monkeypatch.setattr(check, "_rows", ran)
    try:
        return found, check_layer(made or layer(lambda params, state, x, train: x), X, **options)
    except GradientError as error:
        return found, error


TRAIN, EVALUATE = ["train, 3 images", "train, 1 image"], ["evaluate, 3 images", "evaluate, 1 image"]


@pytest.mark.parametrize(
    ("train", "expected"), [(None, TRAIN + EVALUATE), (True, TRAIN), (False, EVALUATE)], ids=str
)
def test_a_layer_runs_in_training_and_evaluation_and_the_first_run_is_thorough(monkeypatch, train, expected):
    found, report = runs(monkeypatch, train=train)
    assert found == [(run, run == expected[0]) for run in expected]
    assert report.rows == (row(run=expected[0]),)


@pytest.mark.parametrize("train", ["both", 1])
def test_train_is_true_or_false_or_none(train):
    with pytest.raises(
        ValueError, match=f"check_layer: expected train to be None, True or False, got {train!r}"
    ):
        check_layer(layer(lambda params, state, x, train: x), X, train=train)


def test_a_layer_that_is_wrong_in_one_run_makes_no_more(monkeypatch):
    found, report = runs(monkeypatch, rows=[row("x", "WRONG"), row("w")])
    assert len(found) == 1 and "WRONG" in str(report)


def of(count):
    """A layer of just so many images."""

    def call(params, state, x, train):
        if len(x) != count:
            raise ValueError(f"expected {count}, got {len(x)}")
        return 3 * x

    return layer(call)


def test_another_batch_that_the_layer_refuses_is_noted(monkeypatch):
    found, report = runs(monkeypatch, of(3))
    assert [run for run, _ in found] == [TRAIN[0], EVALUATE[0]]
    assert report.notes == tuple(
        f"note: not checked: {run}, since the layer refuses it: expected 3, got 1"
        for run in (TRAIN[1], EVALUATE[1])
    )


def pairs(params, state, x, train):
    return x[1] - x[0]


def without_a_word(params, state, x, train):
    if len(x) == 1:
        raise AssertionError
    return 3 * x


def over_all_but_one(params, state, x, train):
    return 3 * x if len(x) > 1 else np.append(x, numpy.nan)


@pytest.mark.parametrize(
    ("call", "words"),
    [
        (pairs, "index 1 is out of bounds"),
        (without_a_word, "AssertionError"),
        (over_all_but_one, "its result is not a number"),
    ],
)
def test_another_batch_may_be_refused_in_any_way(call, words):
    report = check_layer(layer(call), X, train=True)
    (note,) = report.notes
    assert note.startswith("note: not checked: train, 1 image, since the layer refuses it: " + words)


def test_a_fault_in_another_batch_is_no_refusal():
    def call(params, state, x, train):
        if len(x) == 1:
            x *= 3
        return 3 * x

    with pytest.raises(GradientError, match="writes into an array"):
        check_layer(layer(call), X)


def test_training_is_checked_with_a_state_that_it_has_moved_too():
    scaled = primitive(lambda x, scale: x * scale)
    defvjp(scaled, lambda ans, x, scale: lambda g: g, lambda ans, x, scale: lambda g: np.sum(g * x))
    from_one = layer(lambda params, state, x, train: scaled(x, state["scale"]))
    from_one.init = lambda rng: ({}, {"scale": numpy.ones(())})
    with pytest.raises(GradientError, match="train, 3 images .*WRONG"):
        check_layer(from_one, X)


def test_the_batch_that_was_given_must_not_be_refused():
    with pytest.raises(ValueError, match="^expected 1, got 3"):
        check_layer(of(1), X)


def test_an_input_that_is_no_batch_is_checked_as_it_is():
    report = check_layer(layer(lambda params, state, x, train: 3 * x), 2.0)
    assert report.passed and report.rows[0].shape == () and report.notes == ()


# The rows and the report.


def test_second_derivatives_have_rows_of_their_own_in_reverse_mode_alone():
    report = check_gradients(lambda x: x**3, {"x": X}, order=2, modes=("reverse", "forward"))
    assert [row.name for row in report.rows] == ["x", "x, forward", "x, second"]


def test_a_step_may_leave_the_functions_domain_without_a_warning(recwarn):
    warnings.simplefilter("always")  # and not as errors, which are caught with all others of a step
    assert check_gradients(lambda x: np.sqrt(x), {"x": numpy.array([1e-30, 2.0])}).rows
    edge = check_gradients(lambda x: np.arcsin(x), {"x": numpy.array([1 - 1e-6])})
    assert edge.passed and len(recwarn) == 0


def test_the_gradients_are_those_of_a_random_sum_of_the_outputs():
    def cotangent(seed):
        x = numpy.array([1.0, 2.0, 4.0])
        return check._gradients(Watched(lambda v: v["x"] ** 2, "f", {"x": x}), seed)() / (2 * x)

    assert len({*cotangent(0), *cotangent(1)}) == 6 and (cotangent(0) == cotangent(0)).all()


def test_a_report_has_tuples_of_rows_and_of_notes_each_note_once():
    how = how_of_f(["a", "b", "a"])
    assert check._report([row()], how) == Report((row(),), ("a", "b"))


def test_a_wrong_row_is_an_error_that_shows_the_table():
    wrong = row(verdict="WRONG")
    with pytest.raises(GradientError) as caught:
        check._report([wrong], how_of_f([]))
    assert str(caught.value) == f"autograd and central differences disagree:\n{Report((wrong,))}"
