"""The bands of the fast convolution: of any height, they give the same."""

import numpy as np
import pytest
from autograd import make_vjp

from tinyseg import ops
from tinyseg.fast import conv


def arrays(case):
    n, c, o, h, w, kernel, _ = case
    rng = np.random.default_rng(0)
    return [rng.normal(size=shape) for shape in ((n, c, h, w), (o, c, *kernel), (o,), (n, o, h, w))]


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize(
    "case",
    [(2, 3, 2, 11, 7, (3, 3), 2), (1, 8, 6, 9, 5, (3, 3), 4), (1, 2, 1, 7, 4, (5, 5), 1),
     (2, 3, 4, 7, 5, (1, 1), 1), (1, 2, 2, 8, 5, (3, 1), 3)],
    ids=str,
)  # fmt: skip
def test_bands_of_any_height_give_the_same(case, rows, monkeypatch):
    """Images as small as here fit into one band; bands of so many rows, the last one lower, must meet."""
    x, weight, bias, g = arrays(case)

    def results(conv2d=conv.conv2d):
        vjp, y = make_vjp(lambda *a: conv2d(*a, dilation=case[-1]), (0, 1, 2))(x, weight, bias)
        return y, *vjp(g)

    expected = results(ops.conv2d)
    monkeypatch.setattr(conv, "BAND", rows * x.shape[3])
    heights = [images.shape[2] // x.shape[3] for _, images in conv._bands(x, 10**9, down=(-1, 0, 1))]
    assert sum(heights) == x.shape[2] and set(heights[:-1]) == {rows}
    monkeypatch.setattr(conv, "SMALL", 0)
    for got, want in zip(results(), expected):
        np.testing.assert_allclose(got, want, atol=1e-12)


def test_small_products_make_lower_bands():
    x = np.zeros((1, 2, 64, 128))
    for weights, rows in ((81, 64), (372, 21), (10_000, 64)):
        _, images = next(conv._bands(x, weights))
        assert images.shape == (1, 2, rows * 128)


def test_all_three_gradients_come_from_one_way_back():
    """Whichever are asked for: what is checked one at a time is what a training step uses."""
    x, weight, bias, g = arrays((2, 3, 2, 9, 11, (3, 5), 2))
    together = make_vjp(lambda *a: conv.conv2d(*a, dilation=2), (0, 1, 2))(x, weight, bias)[0](g)
    for i, gradient in enumerate(together):
        alone = make_vjp(lambda *a: conv.conv2d(*a, dilation=2), i)(x, weight, bias)[0](g)
        np.testing.assert_array_equal(alone, gradient)


def test_a_negative_dilation_is_a_turned_kernel():
    x, weight, _, _ = arrays((2, 3, 2, 9, 11, (3, 5), 2))
    turned = conv._output(x, weight[:, :, ::-1, ::-1], None, 2)
    np.testing.assert_allclose(conv._output(x, weight, None, -2), turned, atol=1e-12)
