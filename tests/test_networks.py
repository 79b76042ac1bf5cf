"""The three networks: counted, measured, and held against numerical gradients as a whole."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from autograd import make_vjp
from autograd.core import VJPNode, add_outgrads
from autograd.tracer import toposort, trace
from scipy.special import softmax

from tinyseg.fast import FAST
from tinyseg.gradcheck import check_layer
from tinyseg.io.graph import summary
from tinyseg.networks import FIBONACCI, DilatedFCN, lungnet, modified, original
from tinyseg.ops import DEFINITIONS, SCIPY
from tinyseg.parameters import flatten, unflatten
from tinyseg.training import loss_and_gradient

engines = pytest.mark.parametrize("engine", [FAST, DEFINITIONS, SCIPY], ids=["fast", "definitions", "scipy"])
three = pytest.mark.parametrize("build", [original, modified, lungnet], ids=lambda build: build.__name__)


def count(net):
    return sum(array.size for array in net.init(np.random.default_rng(0))[0].values())


def test_parameters_of_the_paper():
    assert count(lungnet()) == 129_924
    assert count(lungnet(channels=3, classes=11)) == 131_057


def test_parameters_of_the_articles():
    """By hand: input 2; blocks 9*3+3+6 and 9 of 81+3+6; 31*12+12+24; 12*3+3+6; 3*2+2 or 3+1."""
    assert count(original()) == 2 + 36 + 9 * 90 + 408 + 45 + 8
    assert count(modified()) == 2 + 36 + 9 * 90 + 408 + 45 + 4


@three
def test_shapes_and_state(build):
    net = build(maps=2)
    params, state = net.init(np.random.default_rng(0))
    x = np.random.default_rng(1).random((2, 1, 6, 11), np.float32)
    y, same = net(params, state, x)
    channels = 1 if net.head == "linear" else 2
    assert y.shape == (2, channels, 6, 11)
    assert y.dtype == np.float32
    assert same == state
    p = net.probabilities(y)
    assert p.min() >= 0 and p.max() <= 1
    _, moved = net(params, state, x, train=True, rng=np.random.default_rng(0))
    assert moved.keys() == state.keys()
    assert all(not np.array_equal(moved[name], state[name]) for name in state)


def test_evaluation_does_not_depend_on_the_rest_of_the_batch():
    x = np.random.default_rng(1).random((3, 1, 10, 10), np.float32)
    for net in (modified(), original(), lungnet(maps=2)):
        params, state = net.init(np.random.default_rng(0))
        np.testing.assert_allclose(net(params, state, x[1:2])[0], net(params, state, x)[0][1:2], atol=1e-6)


def test_dropout_is_of_training_only_and_repeatable():
    net = original()
    params, state = net.init(np.random.default_rng(0))
    x = np.random.default_rng(1).random((1, 1, 10, 10), np.float32)
    one, two, three = (net(params, state, x, train=True, rng=np.random.default_rng(s))[0] for s in (1, 1, 2))
    np.testing.assert_array_equal(one, two)
    assert not np.array_equal(one, three)
    with pytest.raises(ValueError, match="rng=numpy.random.default_rng"):
        net(params, state, x, train=True)


def test_receptive_field_is_287_without_a_hole():
    reached = {0}
    for dilation in FIBONACCI:
        reached = {p + step for p in reached for step in (-dilation, 0, dilation)}
    assert reached == set(range(-143, 144))
    assert "287 x 287" in summary(modified())


def test_receptive_field_as_a_changed_pixel_shows_it():
    net = modified(dilations=(1, 2, 3), widths=(2,))
    params, state = net.init(np.random.default_rng(0))
    params = {name: np.abs(array) for name, array in params.items()}  # nothing dies in a relu
    x = np.ones((1, 1, 41, 41), np.float32)
    touched = x.copy()
    touched[0, 0, 20, 20] += 1
    changed = np.argwhere((net(params, state, touched)[0] != net(params, state, x)[0])[0, 0])
    assert changed.min(axis=0).tolist() == [20 - 6, 20 - 6]
    assert changed.max(axis=0).tolist() == [20 + 6, 20 + 6]


def test_loss_by_head():
    labels = np.array([[[0, 1]]], np.uint8)
    y = np.array([[[[0.25, 0.5]]]], np.float32)
    assert modified().loss(y, labels) == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert modified().loss(y, 0 * labels) == pytest.approx((0.25**2 + 0.5**2) / 2)
    assert modified().loss(y, 0 * labels + 1) == pytest.approx((0.75**2 + 0.5**2) / 2)
    assert original().loss(np.zeros((1, 2, 1, 2), np.float32), labels) == pytest.approx(np.log(2))
    for low, high in ((0, 255), (0, 2), (-1, 1)):
        with pytest.raises(ValueError, match=f"labels 0 and 1, got {low} to {high};"):
            modified().loss(y, np.array([[[low, high]]]))
    with pytest.raises(ValueError, match="no empty axis"):  # and no error of a minimum of nothing
        modified().loss(y[:0], labels[:0])


def test_repr_is_the_call_that_makes_it():
    net = original(maps=4)
    assert eval(repr(net)) == net and "engine" not in repr(net)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"maps": 0}, "maps: expected a whole number of at least 1, got 0"),
        ({"maps": True}, "maps"),
        ({"dilations": (1, 0)}, "dilations: .* got 0"),
        ({"dilations": ()}, "dilations"),
        ({"dilations": 3}, "dilations: expected a tuple"),
        ({"eps": -1.0}, "eps"),
        ({"eps": "x"}, "eps"),
        ({"weight_std": -1}, "weight_std"),
        ({"running": "x"}, "running"),
        ({"dropout": "a"}, "dropout"),
        ({"widths": (2.5,)}, "widths"),
        ({"norm": "layer"}, "norm: expected one of"),
        ({"head": "tanh"}, r"head: expected one of \('softmax', 'linear'\), got 'tanh'"),
        ({"dropout": 1.0}, "the share dropped"),
        ({"classes": 1}, "classes"),
        ({"head": "linear", "classes": 3}, "classes"),
    ],
)
def test_fields_that_make_no_sense(changes, words):
    with pytest.raises(ValueError, match=words):
        DilatedFCN(**changes)


def test_fields_become_plain_values():
    net = DilatedFCN(maps=np.int64(4), dilations=[1, np.int32(2)], eps=np.float64(1e-3))
    assert net == DilatedFCN(maps=4, dilations=(1, 2), eps=1e-3)
    assert hash(net) == hash(DilatedFCN(maps=4, dilations=(1, 2), eps=1e-3))
    assert type(net.maps) is int and type(net.eps) is float
    net = DilatedFCN(running=np.True_, residual=np.False_)
    assert type(net.running) is type(net.residual) is bool


def test_the_three_published_forms():
    """By the facts that are published; what is our choice is not asserted here."""
    first, second, paper = original(), modified(), lungnet()
    assert {net.dilations for net in (first, second, paper)} == {(1, 1, 2, 3, 5, 8, 13, 21, 34, 55)}
    assert (first.maps, first.norm, first.residual, first.head) == (3, "batch", False, "softmax")
    assert (second.maps, second.norm, second.residual, second.head) == (3, "batch", True, "linear")
    assert (paper.maps, paper.norm, paper.residual, paper.head) == (32, "instance", False, "softmax")
    assert (first.dropout, second.dropout, paper.dropout) == (0.5, 0.0, 0.5)
    assert paper.widths == (128, 32) and paper.eps == 1e-3


def test_errors_name_the_layer():
    net = modified()
    params, state = net.init(np.random.default_rng(0))
    x = np.zeros((1, 1, 5, 5), np.float32)
    with pytest.raises(ValueError, match=r"input: expected images \(N, 1, H, W\), got \(1, 3, 5, 5\)"):
        net(params, state, np.zeros((1, 3, 5, 5), np.float32))
    with pytest.raises(ValueError, match=r"input: expected images \(N, 1, H, W\), got \(5, 1, 5\)"):
        net(params, state, np.zeros((5, 1, 5), np.float32))
    with pytest.raises(ValueError, match="block3: conv: conv2d: weight"):
        net({**params, "block3.conv.weight": np.zeros((3, 2, 3, 3), np.float32)}, state, x)
    del params["head1.conv.bias"]
    with pytest.raises(ValueError, match="head1: conv: there is no array for 'bias'"):
        net(params, state, x)


def test_probabilities_by_head():
    y = np.array([[[[-1.0, 0.25, 2.0]]]])
    np.testing.assert_array_equal(modified().probabilities(y), [[[[0, 0.25, 1]]]])
    logits = np.random.default_rng(0).normal(size=(2, 3, 4, 5))
    np.testing.assert_allclose(lungnet(classes=3).probabilities(logits), softmax(logits, axis=1))


@pytest.mark.parametrize(
    ("field", "inside", "outside"),
    [
        ("classes", (2, 255), (1, 256)),
        ("maps", (1,), (0,)),
        ("eps", (0, 0.999), (-1e-9, 1)),
        ("dropout", (0, 0.999), (-1e-9, 1)),
        ("weight_std", (0, 1e300), (-1e-9, np.inf)),
    ],
)
def test_fields_reach_to_their_bounds_and_no_further(field, inside, outside):
    for value in inside:
        assert getattr(DilatedFCN(**{field: value}), field) == value
    for value in outside:
        with pytest.raises(ValueError, match=f"^{field}.*: expected"):
            DilatedFCN(**{field: value})


@three
def test_every_part_of_a_network_has_its_engine(build):
    layers = build(engine=DEFINITIONS).layers.values()
    parts = [getattr(layer, name, None) for layer in layers for name in ("conv", "norm")] + [*layers]
    engines = [part.engine for part in parts if hasattr(part, "engine")]
    assert len(engines) == 2 + 12 * 3 and all(engine is DEFINITIONS for engine in engines)


def test_where_the_residual_connections_are_and_what_the_norms_are():
    def residual(net):
        return [name for name, layer in net.layers.items() if getattr(layer, "residual", False)]

    assert residual(original()) == residual(lungnet()) == []
    assert residual(modified()) == [f"block{i}" for i in range(1, 11)]
    assert residual(modified(widths=(31, 3))) == [*residual(modified()), "head1"]  # where the channels fit
    assert residual(modified(channels=2)) == [f"block{i}" for i in range(2, 11)]
    for net in (original(running=False, eps=0.5), lungnet(eps=0.5)):
        norms = [
            net.layers["input"],
            *(layer.norm for layer in net.layers.values() if hasattr(layer, "norm")),
        ]
        assert len(norms) == 13 and {(norm.running, norm.eps) for norm in norms} == {(False, 0.5)}
        assert net.init(np.random.default_rng(0))[1] == {}


# What takes seconds comes last.


@three
@engines
def test_gradients_of_the_whole(build, engine):
    x = np.random.default_rng(1).normal(size=(1, 1, 7, 8))
    few = {"dilations": (1, 3), "maps": 2} if engine is SCIPY else {}  # it takes its time
    net = build(engine=engine, **few)
    report = check_layer(net, x, entries=12)
    params, _ = net.init(np.random.default_rng(0))
    assert {row.name for row in report.rows} == {"x", *params, "all arrays"}


def test_gradients_of_a_mixture():
    net = DilatedFCN(channels=2, classes=3, maps=2, dilations=(1, 4), widths=(3,), residual=True, dropout=0.3,
                     norm="instance")  # fmt: skip
    check_layer(net, np.random.default_rng(1).normal(size=(2, 2, 7, 6)))


def losses_and_gradients(seed, norm):
    net = modified(maps=2, norm=norm)
    rng = np.random.default_rng(seed)
    params, state = net.init(rng)
    x, labels = rng.random((2, 1, 32, 32), np.float32), rng.integers(0, 2, (2, 32, 32))
    vjp, value = make_vjp(
        lambda vector: net.loss(net(unflatten(vector, params), state, x, train=True)[0], labels)
    )(flatten(params))
    return value, vjp(np.float32(1)), vjp


def test_two_networks_in_two_threads():
    jobs = [(seed, norm) for seed in range(8) for norm in ("batch", "instance")]
    alone = [losses_and_gradients(*job) for job in jobs]
    with ThreadPoolExecutor(2) as threads:
        together = list(threads.map(losses_and_gradients, *zip(*jobs)))
    for (value, gradient, _), (same_value, same_gradient, _) in zip(alone, together):
        assert value == same_value
        np.testing.assert_array_equal(gradient, same_gradient)


def test_called_again_before_going_back_and_going_back_again():
    _, first, vjp = losses_and_gradients(0, "batch")
    _, other, _ = losses_and_gradients(1, "batch")
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(vjp(np.float32(1)), first)


@three
@engines
def test_every_cotangent_of_a_training_step_is_float32(build, engine):
    net = build(maps=3, engine=engine)
    params, state = net.init(np.random.default_rng(0))
    rng = np.random.default_rng(0)
    x, labels = rng.random((2, 1, 12, 12), np.float32), rng.integers(0, 2, (2, 12, 12))

    def loss(vector):
        return net.loss(net(unflatten(vector, params), state, x, train=True, rng=rng)[0], labels)

    value, end = trace(VJPNode.new_root(), loss, flatten(params))
    assert value.dtype == np.float32
    cotangents, dtypes = {end: (np.float32(1), False)}, []
    for node in toposort(end):  # autograd's backward pass, with a look at each cotangent
        cotangent = cotangents.pop(node)
        dtypes.append(cotangent[0].dtype)
        for parent, g in zip(node.parents, node.vjp(cotangent[0])):
            cotangents[parent] = add_outgrads(cotangents.get(parent), g)
    assert len(dtypes) >= len(params) + 13 + 12  # every array, every convolution, every norm, add and relu
    assert set(dtypes) == {np.dtype(np.float32)}


@three
def test_all_engines_make_the_same_network(build):
    """Outputs, states and gradients of a training step, and the output in evaluation."""
    rng = np.random.default_rng(1)
    params, state = build(maps=2).init(rng)
    params = {key: array + 0.1 * rng.normal(size=array.shape) for key, array in params.items()}  # float64
    state = {key: array.astype(float) for key, array in state.items()}
    x, labels = rng.random((2, 1, 10, 12)), rng.integers(0, 2, (2, 10, 12))
    results = []
    for engine in (FAST, DEFINITIONS, SCIPY):
        net = build(maps=2, engine=engine)
        assert net == build(maps=2)
        value, gradient, new_state = loss_and_gradient(
            net, flatten(params), params, state, x, labels, np.random.default_rng(5)
        )
        results.append([net(params, state, x)[0], value, gradient, *new_state.values()])
    for other in results[1:]:
        for a, b in zip(results[0], other):
            np.testing.assert_allclose(a, b, rtol=1e-8, atol=1e-9)


@pytest.mark.parametrize(
    ("net", "std"), [(original(maps=40), 0.05), (modified(maps=40), 0.05), (lungnet(), None)]
)
def test_every_layer_is_initialised_as_the_field_says(net, std):
    params, _ = net.init(np.random.default_rng(0))
    for name, array in params.items():
        if name.endswith("weight") and array.size > 50:
            expected = std or np.sqrt(2 / array[0].size)
            np.testing.assert_allclose(array.std(), expected, rtol=6 / np.sqrt(array.size), err_msg=name)


@pytest.mark.parametrize("net", [original(), modified(), lungnet(maps=4, classes=6)])
def test_features_are_what_each_layer_makes_of_what_came_before(net):
    params, state = net.init(np.random.default_rng(0))
    x = np.random.default_rng(1).normal(size=(2, 1, 20, 24)).astype("f")
    features = net.features(params, state, x)
    assert list(features) == [name for name in net.layers if name != "dropout"]
    np.testing.assert_array_equal(features["output"], net(params, state, x)[0])

    def layer(name, x):
        of_it = (
            {k[len(name) + 1 :]: a for k, a in d.items() if k.startswith(f"{name}.")} for d in (params, state)
        )
        return net.layers[name](*of_it, x)[0]

    np.testing.assert_array_equal(features["input"], x + layer("input", x))
    together = [features["input"]]
    for i in range(1, 11):
        np.testing.assert_array_equal(features[f"block{i}"], layer(f"block{i}", together[-1]))
        together.append(features[f"block{i}"])
    np.testing.assert_array_equal(features["head1"], layer("head1", np.concatenate(together, axis=1)))


def test_the_receptive_field_is_287_pixels():
    assert lungnet().receptive_field == modified().receptive_field == 287
    assert modified(dilations=(1,) * 10).receptive_field == 21
