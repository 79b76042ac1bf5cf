"""An image in tiles comes to what it comes to whole, and memory is what it is said to be."""

import tracemalloc

import numpy as np
import pytest

from tinyseg.errors import InputError
from tinyseg.io import tiles as module
from tinyseg.io.graph import summary
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.io.tiles import bytes_needed, free_memory, in_tiles, probability_maps, reach, tile_for
from tinyseg.networks import lungnet, modified, original
from tinyseg.training import most_probable, predict

RNG = np.random.default_rng(0)


def lively(net):
    """Parameters by which all that a network sees counts, with an output within [0, 1], and statistics."""
    params, state = net.init(np.random.default_rng(1))
    params["output.bias"] += np.float32(0.5)
    return params, {k: a + np.float32(0.3 * k.endswith("mean")) for k, a in state.items()}


BATCH = {
    "modified": (modified(weight_std=0.15, dilations=(1, 2, 4, 8)), 20),
    "original": (original(weight_std=None, dilations=(1, 2, 4, 8)), 33),
    "six classes": (lungnet(maps=2, widths=(8, 4), norm="batch", classes=6, dilations=(1, 2, 4, 8)), 33),
    "thirteen layers": (modified(weight_std=0.15), 250),
}


@pytest.mark.parametrize("name", BATCH)
def test_tiles_that_see_the_receptive_field_are_exact(name):
    net, tile = BATCH[name]
    params, state = ({k: a.astype(np.float64) for k, a in arrays.items()} for arrays in lively(net))
    images = RNG.random((1, 1, 300, 260) if tile > 100 else (2, 1, 70, 90))
    y = net.probabilities(net(params, state, images)[0])
    whole = y if net.classes > 2 else y[:, -1:]
    assert whole.std() > 0.01  # there is something to get wrong
    np.testing.assert_allclose(in_tiles(net, params, state, images, tile), whole, rtol=0, atol=1e-12)


def test_less_than_the_receptive_field_is_not_enough(monkeypatch):
    net, tile = BATCH["modified"]
    params, state = lively(net)
    images = RNG.random((1, 1, 70, 90), np.float32)
    whole = predict(net, params, state, images)
    np.testing.assert_allclose(in_tiles(net, params, state, images, tile), whole, rtol=0, atol=1e-5)
    monkeypatch.setattr(module, "reach", lambda net: 12)
    assert np.abs(in_tiles(net, params, state, images, tile) - whole).max() > 1e-3


def test_reach_is_half_the_receptive_field():
    assert reach(modified()) == 143
    for net in (modified(), lungnet(dilations=(1, 2, 4))):
        field = summary(net).splitlines()[-2].split()[-1]
        assert int(field) == 2 * reach(net) + 1


@pytest.mark.parametrize(
    "net", [lungnet(), lungnet(norm="batch", running=False)], ids=["instance", "at hand"]
)
def test_statistics_of_the_whole_image_cannot_be_had_from_tiles(net):
    params, state = net.init(RNG)
    with pytest.raises(ValueError, match="expected batch norm with running statistics"):
        in_tiles(net, params, state, np.zeros((1, 1, 50, 50), np.float32), 40)
    with pytest.raises(
        InputError, match="takes its statistics from the whole image, which cannot be cut: the network needs"
    ):
        tile_for(net, 1000, 1000, 1e9)
    assert tile_for(net, 300, 300, 1e9) is None


@pytest.mark.parametrize(
    "net",
    [
        modified(),
        lungnet(),
        lungnet(maps=8, widths=(32, 8), norm="batch"),
        original(widths=(4, 64, 4)),
        modified(maps=16),
        original(maps=32, dilations=(1,), widths=(1,)),
        lungnet(maps=1, widths=(8, 2), classes=100),
    ],
)
def test_bytes_needed_are_what_is_taken(net):
    params, state = net.init(RNG)
    image = RNG.random((1, 1, 150, 100), np.float32)
    predict(net, params, state, image)
    tracemalloc.start()
    predict(net, params, state, image)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert 0.9 * most < bytes_needed(net, 150, 100) < 1.2 * most


def test_the_largest_tile_that_memory_allows():
    net, memory = modified(), 2e8
    assert tile_for(net, 500, 500, memory) is None
    tile = tile_for(net, 5000, 3000, memory)
    assert bytes_needed(net, *2 * [tile + 2 * 143]) <= memory < bytes_needed(net, *2 * [tile + 1 + 2 * 143])
    with pytest.raises(
        InputError, match=r"the network needs 5.88 GB at 3000 x 5000 pixels, .*tiles need at least 0.0396 GB"
    ):
        tile_for(net, 5000, 3000, 1e7)
    assert free_memory() > 1e8
    assert 32 <= tile_for(net, 64, 1000, 0.99 * bytes_needed(net, 64, 1000)) < 1000  # a strip needs no square


def test_the_answer_has_the_images_own_size_and_place():
    """A network that hands its input on: what comes out is the image, through other sizes and back."""

    class Identity:
        classes, channels, norm, running, maps, dilations, widths = 2, 1, "batch", True, 1, (1,), (1,)

        def __call__(self, params, state, x, *, train, rng):
            return x, state

        def probabilities(self, y):
            return y

    ramp = np.add.outer(np.arange(100), np.arange(150)).astype(np.uint8)
    p = probability_maps(Identity(), {}, {}, Preprocessing(25), ramp)
    assert p.shape == (1, 100, 150) and p.dtype == np.float32
    np.testing.assert_allclose(p[0, 3:-3, 3:-3], ramp[3:-3, 3:-3] / 255, atol=2 / 255)
    for size in (0, 25, 240):
        p = probability_maps(Identity(), {}, {}, Preprocessing(64), ramp, size=size)
        assert p.shape == (1, 100, 150)
        np.testing.assert_allclose(p[0, 3:-3, 3:-3], ramp[3:-3, 3:-3] / 255, atol=2 / 255)


def test_whole_or_in_tiles_by_memory_comes_to_the_same():
    net, _ = BATCH["modified"]
    params, state = lively(net)
    pixels = RNG.integers(0, 256, (120, 160), dtype=np.uint8)
    args = net, params, state, Preprocessing(64), pixels
    whole = probability_maps(*args, size=0)
    tiles = probability_maps(*args, size=0, memory=bytes_needed(net, 80, 80))
    np.testing.assert_allclose(tiles, whole, rtol=0, atol=1e-5)
    assert np.abs(probability_maps(*args) - whole).max() > 0.01


def test_most_probable():
    p = RNG.random((4, 5, 6))
    np.testing.assert_array_equal(most_probable(p), p.argmax(axis=0))
    several = RNG.random((2, 3, 4, 5, 6))  # any axes may stand before the classes
    np.testing.assert_array_equal(most_probable(several), several.argmax(axis=2))
    np.testing.assert_array_equal(most_probable(several[:, :, :1], 0.7), several[:, :, 0] > 0.7)
    np.testing.assert_array_equal(most_probable(p[:1]), p[0] > 0.5)
    assert most_probable(p).dtype == most_probable(p[:1]).dtype == np.uint8
