"""What a network is seen to do: its table against known values, and the record that both are made of."""

import autograd.numpy as anp
import numpy as np
import pytest

from tinyseg.fast import FAST
from tinyseg.io.graph import record, summary
from tinyseg.layers import BatchNorm, Block, Conv2d, InstanceNorm, Sequential
from tinyseg.networks import lungnet, modified, original
from tinyseg.ops import DEFINITIONS, SCIPY

LAYERS = ["input", *(f"block{i}" for i in range(1, 11)), "concatenate", "head1", "head2", "output", "total"]
FIELDS = [1, 3, 5, 9, 15, 25, 41, 67, 109, 177, 287]


def table(text):
    """The rows of a summary by layer: (output shape, parameters, receptive field)."""
    lines = text.splitlines()
    assert len({len(line) for line in lines}) == 1
    assert lines[0].split() == ["layer", "output", "shape", "parameters", "receptive", "field"]
    ends = [lines[0].index(word) + len(word) for word in ("layer", "shape", "parameters", "field")]
    rows = [[line[i:j].strip() for i, j in zip([0, *ends], ends)] for line in lines[1:]]
    return {name: tuple(rest) for name, *rest in rows}


# By hand: 3x3 blocks have 9 * C_in * C_out weights, C_out biases, gammas and betas; 1x1 blocks alike.
COUNTS = {
    "lungnet": [2, 384, *9 * [9312], 0, 41472, 4192, 66, 129924],
    "modified": [2, 36, *9 * [90], 0, 408, 45, 4, 1305],
    "original": [2, 36, *9 * [90], 0, 408, 45, 8, 1309],
}
CHANNELS = {
    "lungnet": [1, *10 * [32], 321, 128, 32, 2],
    "modified": [1, *10 * [3], 31, 12, 3, 1],
    "original": [1, *10 * [3], 31, 12, 3, 2],
}


@pytest.mark.parametrize("make", [lungnet, modified, original], ids=lambda make: make.__name__)
def test_the_three_networks_layer_by_layer(make):
    rows = table(summary(make()))
    assert list(rows) == LAYERS
    assert [int(rows[name][1].replace(",", "")) for name in LAYERS] == COUNTS[make.__name__]
    assert sum(COUNTS[make.__name__][:-1]) == COUNTS[make.__name__][-1]
    shapes = [f"1 x {channels} x 64 x 64" for channels in CHANNELS[make.__name__]]
    assert [rows[name][0] for name in LAYERS] == [*shapes, ""]
    fields = [f"{field} x {field}" for field in FIELDS + 4 * [287]]
    assert [rows[name][2] for name in LAYERS] == [*fields, ""]


def test_the_papers_network_in_the_papers_numbers():
    text = summary(lungnet())
    assert "129,924" in text and "287 x 287" in text and "1 x 321 x 64 x 64" in text
    assert len({len(line) for line in text.splitlines()}) == 1


def test_images_of_another_shape():
    rows = table(summary(lungnet(), (2, 1, 64, 48)))
    assert rows["concatenate"] == ("2 x 321 x 64 x 48", "0", "287 x 287")
    rows = table(summary(lungnet(maps=4, channels=3, classes=11)))
    assert rows["input"][0] == "1 x 3 x 64 x 64" and rows["output"][0] == "1 x 11 x 64 x 64"
    assert rows["concatenate"][0] == "1 x 43 x 64 x 64"


NORMS = {"batch": {}, "at hand": {"running": False}, "instance": {"norm": "instance"}}


@pytest.mark.parametrize("norm", NORMS)
@pytest.mark.parametrize("make", [modified, original])
def test_the_engine_changes_nothing(make, norm):
    net = make(maps=2, dilations=(1, 4), **NORMS[norm])
    fast, definitions, scipy = (
        summary(make(maps=2, dilations=(1, 4), engine=engine, **NORMS[norm]))
        for engine in (FAST, DEFINITIONS, SCIPY)
    )
    assert fast == definitions == scipy == summary(net)
    assert table(fast)["output"][2] == "11 x 11"


@pytest.mark.parametrize("engine", [FAST, DEFINITIONS, SCIPY])
def test_a_bare_convolution(engine):
    rows = table(summary(Conv2d(2, 4, 3, 5, engine=engine), shape=(1, 2, 20, 24)))
    assert rows == {"Conv2d": ("1 x 4 x 20 x 24", "76", "11 x 11"), "total": ("", "76", "")}


def test_layers_within_layers_are_of_the_outermost():
    block = Block(Conv2d(1, 4, 3, 2), BatchNorm(4))
    rows = table(summary(Sequential(block, Conv2d(4, 2, 5)), shape=(3, 1, 9, 8)))
    assert rows == {
        "0": ("3 x 4 x 9 x 8", "48", "5 x 5"),
        "1": ("3 x 2 x 9 x 8", "202", "9 x 9"),
        "total": ("", "250", ""),
    }
    rows = table(summary(Block(Conv2d(1, 4), InstanceNorm(4))))
    assert rows == {
        "conv": ("1 x 4 x 64 x 64", "40", "3 x 3"),
        "norm": ("1 x 4 x 64 x 64", "8", "3 x 3"),
        "total": ("", "48", ""),
    }


class Turned(Sequential):
    """After its layers the picture is transposed, and weighed once more."""

    def __call__(self, params, state, x, *, train=False, rng=None):
        y, state = super().__call__(params, state, x, train=train, rng=rng)
        return anp.transpose(y, (0, 1, 3, 2)) * params["1.bias"][0], state


def test_after_what_may_move_pixels_the_field_is_not_known():
    rows = table(summary(Turned(Conv2d(1, 2), Conv2d(2, 3)), shape=(1, 1, 8, 9)))
    assert rows["0"] == ("1 x 2 x 8 x 9", "20", "3 x 3")
    assert rows["1"] == ("1 x 3 x 9 x 8", "57", "?")


def test_an_output_that_does_not_depend_on_the_image_is_refused():
    class Constant(Conv2d):
        def __call__(self, params, state, x, *, train=False, rng=None):
            return params["weight"] * 2, state

    class Blind(Conv2d):
        def __call__(self, params, state, x, *, train=False, rng=None):
            return np.zeros((1, 1, 4, 4)), state

    for net in (Constant(1, 1), Blind(1, 1)):
        with pytest.raises(ValueError, match="the network's output does not depend on its image"):
            summary(net)


@pytest.mark.parametrize("engine", [FAST, DEFINITIONS, SCIPY], ids=["fast", "definitions", "scipy"])
@pytest.mark.parametrize("norm", NORMS)
def test_the_record_holds_what_the_network_computes(norm, engine):
    net = modified(maps=2, dilations=(1, 2), engine=engine, **NORMS[norm])
    params, state = net.init(np.random.default_rng(0))
    kept = {name: array.copy() for name, array in (params | state).items()}
    image = np.random.default_rng(1).random((2, 1, 9, 7), np.float32)
    graph = record(net, params, state, image)
    np.testing.assert_allclose(graph.output.value, net(params, state, image)[0], rtol=0, atol=1e-6)
    assert graph.image.value is image and set(graph.arrays) == set(kept)
    for name, array in kept.items():
        np.testing.assert_array_equal(graph.arrays[name].value, array)
        np.testing.assert_array_equal((params | state)[name], array)
    place = {operation: i for i, operation in enumerate(graph.operations)}
    assert graph.output in place  # each after what it needs
    assert all(place[a] < place[b] for b in graph.operations for a in b.inputs.values())
    scopes = {operation.scope for operation in graph.operations}
    assert {"block1.conv", "block2.norm", "head1.conv", "output", "concatenate"} <= scopes
    dilations = {o.args[2] for o in graph.operations if o.fun and o.fun.__name__ == "_output"}
    assert dilations == {1, 2}
