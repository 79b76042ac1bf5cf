"""What the checker makes of a layer: its inputs and batches, moved parameters, a trained state; refusals."""

import numpy
import pytest

from tinyseg.gradcheck import GradientError
from tinyseg.gradcheck.layer import Layer, images

X = numpy.array([[0.5, -1.5, 2.5], [3.5, 4.5, -5.5]])
MANY = numpy.full(1000, 2.0)


def layer(made, call=None):
    """A layer: what its init returns, and a function of (params, state, x, ...), or else x as it is."""
    layer = call or (lambda params, state, *inputs: (inputs[0], state))
    layer.init = lambda rng: made
    return layer


def ratios(array, start):
    """The smallest and the largest of what the entries have been multiplied by."""
    return numpy.min(array / start), numpy.max(array / start)


# The layer and its inputs.


def test_inputs_are_named_by_their_order_and_floats_become_float64():
    made = Layer(layer(({}, {})), [X.astype("f"), numpy.arange(2), X > 0], 0)
    assert made.names == ["x", "x1", "x2"]
    assert [x.dtype for x in made.inputs] == ["float64", "int64", "bool"]


def test_a_function_is_one_of_all_floats_among_inputs_and_parameters():
    made = Layer(layer(({"w": X.astype("f"), "b": 2.0, "n": 3}, {})), [X, numpy.arange(2), X], 0)
    assert list(made.function(made.inputs, True, {}).arrays) == ["x", "x2", "w", "b"]


class Idle:
    def init(self, rng):
        return {}, {}


@pytest.mark.parametrize(
    ("made", "words"),
    [
        (Idle, "expected a layer, got the class Idle: call it first"),
        (Idle(), "got a Idle; of a function, use check_gradients"),
        (numpy.tanh, "got a ufunc; of a function, use check_gradients"),
        (layer([{}, {}]), r"expected init to return \(params, state\), got a list"),
        (layer(({}, {}, {})), r"expected init to return \(params, state\), got a tuple"),
        (
            layer((X, {})),
            "expected the parameters as a dict or list of arrays, got ndarray; of none, an empty",
        ),
        (layer(({}, None)), "expected the state as a dict or list of arrays, got NoneType"),
        (layer(({"w": X, "x1": X}, {})), "a parameter cannot be called 'x1', as an input is"),
    ],
)
def test_what_is_no_layer_is_refused(made, words):
    with pytest.raises(ValueError, match=f"check_layer: .*{words}"):
        Layer(made, [X, X], 0)


@pytest.mark.parametrize("x", [X * 1j, numpy.array(["a", "b"])])
def test_an_input_that_holds_no_numbers_is_refused(x):
    with pytest.raises(ValueError, match=f"expected x1 as an array of numbers, got one of {x.dtype}"):
        Layer(layer(({}, {})), [X, x], 0)


def test_parameters_in_the_place_of_an_input_are_refused():
    with pytest.raises(ValueError, match="expected x as an array of numbers, got a dict$"):
        Layer(layer(({}, {})), [{"w": X}, X], 0)


@pytest.mark.parametrize(
    ("call", "options"),
    [
        (lambda params, state, x: (x, state), set()),
        (lambda params, state, x, rng: (x, state), {"rng"}),
        (lambda params, state, x, *, train: (x, state), {"train"}),
        (lambda params, state, x, **options: (options["rng"].normal() * x, state), {"rng", "train"}),
    ],
)
def test_a_layer_gets_the_options_that_it_takes(call, options):
    assert Layer(layer(({}, {}), call), [X], 0).takes == options


@pytest.mark.parametrize(
    ("given", "other"),
    [
        ([(3, 2), (3, 4)], [(1, 2), (1, 4)]),
        ([(1, 2), (1, 4)], [(2, 2), (2, 4)]),
        ([(2, 2), (3, 2)], None),
        ([()], None),
        ([(0, 2)], None),
    ],
    ids=["several images", "one image", "not of one length", "no batch", "no image"],
)
def test_of_several_images_one_is_checked_too_and_of_one_two(given, other):
    batches = Layer(layer(({}, {})), [numpy.ones(shape) for shape in given], 0).batches()
    assert [[x.shape for x in batch] for batch in batches] == [given, other][: len(batches)]
    assert len(batches) == (2 if other else 1)


def test_the_second_image_is_like_the_first_within_a_fifth():
    x, labels = 3 * MANY[None], numpy.array([[7]])
    twice = Layer(layer(({}, {})), [x, labels], 0).batches()[1]
    assert (twice[0][0] == x).all() and (twice[1] == 7).all()
    least, most = ratios(twice[0][1], x)
    assert 0.8 <= least < 0.81 and 1.19 < most <= 1.2


def test_images_are_counted_in_words():
    assert images([numpy.ones((3, 2)), numpy.array(1.0)]) == "3 images"
    assert images([numpy.ones((1, 2)), numpy.ones((2, 2))]) == images([numpy.array(1.0)]) == "1 image"


# Parameters off their special points.


def test_parameters_move_by_up_to_a_tenth_of_themselves_and_zeros_by_about_a_tenth():
    w = numpy.concatenate([MANY, 0 * MANY, numpy.ones(1000), -MANY])
    moved = Layer(layer(({"w": w}, {})), [X], 0).leaves["w"]
    for part in (slice(0, 1000), slice(2000, 3000), slice(3000, 4000)):
        least, most = ratios(moved[part], w[part])
        assert 0.9 <= least < 0.905 and 1.095 < most <= 1.1
    assert 0.09 < numpy.std(moved[1000:2000]) < 0.11 and abs(numpy.mean(moved[1000:2000])) < 0.01


def fragile(training, radius):
    """A call that has no value for all of x where parameter or state is further off 2 than 2 * radius."""

    def call(params, state, x, train):
        off = numpy.max(numpy.abs(state["mean"] - 2) if "mean" in state else numpy.abs(params["w"] - 2))
        return (numpy.append(x, numpy.sqrt(2 * radius - off)) if train == training else x), state

    return call


@pytest.mark.parametrize(("radius", "most"), [(0.05, 1e-2), (5e-3, 1e-3), (5e-4, 0.0)])
def test_parameters_move_as_far_as_all_values_in_training_stay_finite(radius, most):
    moved = Layer(layer(({"w": MANY.astype("f")}, {}), fragile(True, radius)), [X], 0).leaves["w"]
    assert 0.9 * most <= numpy.max(numpy.abs(moved - 2)) / 2 <= most and moved.dtype == "float64"


# A state that training has moved.


def test_the_state_of_evaluation_has_seen_three_steps_of_training_on_inputs_within_a_half():
    seen = []

    def call(params, state, x, train):
        seen.append((train, *ratios(x, 3 * MANY), params["w"].item()))
        return x, state | {"count": state["count"] + 1}

    made = Layer(layer(({"w": 5.0}, {"count": numpy.zeros(1)}), call), [3 * MANY], 0)
    assert made.trained["count"] == 3 and made.state["count"] == 0
    trains, least, most, weights = zip(*seen)
    assert trains == (True, True, True, True, False)
    assert least[0] == most[0] == least[4] == most[4] == 1
    assert 0.5 <= min(least[1:4]) < max(least[1:4]) < 0.51
    assert 1.49 < min(most[1:4]) < max(most[1:4]) <= 1.5
    assert {*weights[1:]} == {made.leaves["w"].item()} != {5.0}


def test_a_layer_without_a_state_is_not_trained():
    seen = []
    Layer(layer(({}, {}), lambda params, state, x, train: (x, seen.append(train) or state)), [X], 0)
    assert seen == [True, False]


def test_what_training_leaves_as_it_was_is_moved_but_no_integer():
    state = {"mean": numpy.full(3, 2.0), "order": numpy.array([2, 0])}
    trained = Layer(layer(({}, state)), [X], 0).trained
    assert all(0 < abs(mean - 2) <= 0.2 for mean in trained["mean"])
    assert trained["order"].tolist() == [2, 0]


def test_the_state_moves_as_far_as_the_values_in_evaluation_stay_finite():
    mean = Layer(layer(({}, {"mean": MANY}), fragile(False, 0.05)), [X], 0).trained["mean"]
    assert 0.009 <= numpy.max(numpy.abs(mean - 2)) / 2 <= 0.01


@pytest.mark.parametrize(("most", "share"), [(1.1, 0.05), (1.01, 5e-3), (1.001, 0)])
def test_training_sees_inputs_as_far_off_as_the_state_stays_finite(most, share):
    def call(params, state, x, train):
        after = {"steps": numpy.ones(1), "mean": numpy.sqrt([4, most - numpy.max(x)]), "none": None}
        return x, (after if train else state)

    start = {"steps": numpy.zeros(1), "mean": numpy.full(3, 9.0), "none": None}
    trained = Layer(layer(({}, start), call), [numpy.ones(999)], 0).trained["mean"]
    if share:
        assert 0.98 * share < most - trained[1] ** 2 - 1 <= share
    else:
        assert numpy.shape(trained) == (3,)  # as it was at first


def test_training_may_refuse_other_inputs_than_those_given():
    def call(params, state, x, train):
        if train and (x != X).any():
            raise IndexError
        return x, state

    assert Layer(layer(({}, {"mean": X}), call), [X], 0).trained["mean"].shape == X.shape


def test_training_meets_the_state_of_init_and_all_other_runs_one_that_training_has_moved():
    def runs(state, train):
        made = Layer(layer(({}, state)), [X], 0)
        found = made.runs(train)
        assert all(now is (made.state if i == 0 and training else made.trained) or not state
                   for i, (_, training, now) in enumerate(found))  # fmt: skip
        return [(len(inputs[0]), training) for inputs, training, _ in found]

    stateful = {"mean": X}
    assert runs(stateful, None) == [(2, True), (2, True), (1, True), (2, False), (1, False)]
    assert runs(stateful, True) == [(2, True), (2, True), (1, True)]
    assert runs(stateful, False) == [(2, False), (1, False)]
    assert runs({}, None) == [(2, True), (1, True), (2, False), (1, False)]


def test_a_function_takes_the_state_that_it_is_given():
    made = Layer(layer(({}, {"mean": X}), lambda params, state, x: (x + state["mean"], state)), [X], 0)
    for state in (made.state, made.trained):
        assert (made.function([X], True, state)() == X + state["mean"]).all()
    assert (made.trained["mean"] != X).all()


# What a layer may not do.


def test_a_state_may_hold_what_is_no_array():
    state = {"mean": None, "names": numpy.array(["a", None])}
    made = Layer(layer(({}, state), lambda params, state, x: (1 * x, state)), [X], 0)
    assert (made.function([X], True, made.state).gradients(["x"])(X)["x"] == X).all()


@pytest.mark.parametrize(
    "kept",
    [lambda x: x, lambda x: x[:0], lambda x: numpy.array([x[0, 0], None])],
    ids=["a box", "an empty one", "in an array"],
)
def test_a_state_that_holds_on_to_the_tape_is_refused(kept):
    made = Layer(layer(({}, {"mean": X}), lambda params, state, x: (1 * x, {"mean": kept(x)})), [X], 0)
    with pytest.raises(GradientError, match="the state 'mean' comes back as an autograd box"):
        made.function([X], True, made.state).gradients(["x"])


def test_a_layer_that_drops_some_of_its_state_is_told_which():
    made = Layer(
        layer(({}, {"mean": X, "var": X}), lambda params, state, x: (x + state["mean"], state)), [X], 0
    )
    with pytest.raises(ValueError, match=r"training is without 'mean'; return all of it, {\*\*state, 'mean'"):
        made.call({"x": X}, {"var": X}, False)


@pytest.mark.parametrize(
    ("start", "now", "key"),
    [({"mean": X, "var": X}, {"var": X}, "gamma"), ({"mean": X}, {"mean": X}, "mean"), ([X, X], [X, X], "b")],
    ids=["another key", "still there", "a list"],
)
def test_a_key_error_of_the_layers_own_stays_one(start, now, key):
    table = {key: 1}
    made = Layer(layer(({}, start), lambda params, state, x: (x * table[key], state)), [X], 0)
    table.clear()
    with pytest.raises(KeyError, match=key):
        made.call({"x": X}, now, False)


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda params, state: state.update(b=2 * state["b"]), "state"),
        (lambda params, state: state.update(new=X), "state"),
        (lambda params, state: params.pop("w"), "parameters"),
    ],
    ids=["replaced", "added", "removed"],
)
def test_a_layer_that_writes_into_a_dict_is_refused(write, what):
    made = ({"v": X, "w": X}, {"a": X, "b": X})
    with pytest.raises(GradientError, match=f"the layer writes into the dict of its {what}, "):
        Layer(layer(made, lambda params, state, x: (x, state, write(params, state))[:2]), [X], 0)


def test_a_layer_returns_its_state_as_a_dict():
    made = Layer(layer(({}, {}), lambda params, state, x: (x, None)), [X], 0)
    with pytest.raises(ValueError, match="expected the state that the layer returns as a dict .* NoneType"):
        made.call({"x": X}, {}, True)
