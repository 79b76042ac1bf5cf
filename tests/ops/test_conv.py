"""Convolution against its definition, SciPy, identities from the maths, and numerical gradients."""

import numpy as np
import pytest
from autograd import make_vjp
from harness import check_op
from scipy import ndimage

from tinyseg import fast
from tinyseg.gradcheck import check_gradients
from tinyseg.ops import conv2d, conv2d_scipy
from tinyseg.ops.conv import _input, _output, _weight

# N, C_in, C_out, H, W, kernel, dilation: dense to beyond the image, odd sizes, ones everywhere once.
CASES = [
    (2, 3, 2, 8, 8, (3, 3), 1),
    (2, 3, 4, 7, 9, (3, 3), 2),
    (1, 1, 1, 1, 1, (3, 3), 1),
    (1, 2, 3, 1, 9, (3, 3), 2),
    (3, 1, 2, 9, 1, (3, 3), 4),
    (1, 2, 1, 5, 6, (5, 5), 1),
    (2, 2, 2, 6, 11, (5, 5), 3),
    (2, 4, 3, 6, 5, (1, 1), 7),
    (1, 2, 2, 5, 8, (3, 3), 4),
    (1, 2, 2, 5, 8, (3, 3), 7),
    (1, 2, 2, 5, 8, (3, 3), 55),
    (2, 1, 2, 6, 7, (1, 5), 2),
    (2, 2, 1, 6, 7, (5, 3), 1),
    (1, 7, 8, 5, 6, (3, 3), 2),
]
cases = pytest.mark.parametrize("case", CASES, ids=str)
WAYS = {"by hand": conv2d, "through SciPy": conv2d_scipy, "fast": fast.conv2d}
ways = pytest.mark.parametrize("way", WAYS.values(), ids=WAYS)


def arrays(case, dtype=np.float64):
    n, c, o, h, w, kernel, _ = case
    rng = np.random.default_rng(0)
    shapes = (n, c, h, w), (o, c, *kernel), (o,), (n, o, h, w)
    return [rng.normal(size=shape).astype(dtype) for shape in shapes]


def definition(x, weight, dilation):
    """The sum in the docstring, tap by tap on a padded image."""
    _, _, h, w = x.shape
    kh, kw = weight.shape[2:]
    rh, rw = dilation * (kh // 2), dilation * (kw // 2)
    padded = np.pad(x, ((0, 0), (0, 0), (rh, rh), (rw, rw)))
    return sum(
        np.einsum(
            "oc,nchw->nohw", weight[:, :, i, j], padded[:, :, i * dilation :, j * dilation :][:, :, :h, :w]
        )
        for i in range(kh)
        for j in range(kw)
    )


@cases
@ways
def test_equals_its_definition(case, way):
    x, weight, bias, _ = arrays(case)
    y = way(x, weight, bias, dilation=case[-1])
    np.testing.assert_allclose(
        y, definition(x, weight, case[-1]) + bias[:, None, None], rtol=1e-11, atol=1e-11
    )


@pytest.mark.parametrize("dilation", [1, 2, 3, 5, 8, 13])
def test_one_plane_equals_scipy_ndimage(dilation):
    x, weight, _, _ = arrays((1, 1, 1, 17, 21, (3, 3), dilation))
    kernel = np.zeros((2 * dilation + 1,) * 2)
    kernel[::dilation, ::dilation] = weight[0, 0]
    expected = ndimage.correlate(x[0, 0], kernel, mode="constant")
    np.testing.assert_allclose(conv2d(x, weight, dilation=dilation)[0, 0], expected, atol=1e-12)


@pytest.mark.parametrize("dilation", [2, 3, 6])
def test_dilated_is_dense_with_a_zero_stuffed_kernel(dilation):
    x, weight, bias, _ = arrays((2, 3, 2, 9, 11, (3, 3), dilation))
    stuffed = np.zeros((2, 3, 2 * dilation + 1, 2 * dilation + 1))
    stuffed[:, :, ::dilation, ::dilation] = weight
    np.testing.assert_allclose(
        conv2d(x, weight, bias, dilation=dilation), conv2d(x, stuffed, bias), atol=1e-12
    )


@ways
@pytest.mark.parametrize("dilation", [9, 10, 40])
def test_dilation_of_the_image_side_leaves_the_centre_tap_alone(dilation, way):
    x, weight, _, _ = arrays((2, 3, 2, 9, 9, (3, 3), dilation))
    expected = np.einsum("oc,nchw->nohw", weight[:, :, 1, 1], x)
    np.testing.assert_allclose(way(x, weight, dilation=dilation), expected, atol=1e-11)


@cases
def test_three_sides_of_one_trilinear_form(case):
    """<g, output(x, w)> = <x, input(g, w)> = <w, weight(x, g)>: the adjoint identity, thrice."""
    x, weight, _, g = arrays(case)
    t = np.sum(g * _output(x, weight, case[-1]))
    np.testing.assert_allclose(np.sum(x * _input(g, weight, case[-1])), t, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(np.sum(weight * _weight(x, g, case[5], case[-1])), t, rtol=1e-10, atol=1e-10)


@cases
@pytest.mark.parametrize("way", [conv2d, fast.conv2d], ids=["by hand", "fast"])
def test_derivatives(case, way):
    x, weight, bias, _ = arrays(case)
    check_op(lambda x, weight, bias: way(x, weight, bias, dilation=case[-1]), x, weight, bias)
    check_op(lambda x, weight: way(x, weight, dilation=case[-1]), x, weight)


@cases
def test_nobody_wrote_the_gradients_that_autograd_finds_through_scipy(case):
    """Lazy autodiff of the definition against the gradients by hand, one array at a time and all at once."""
    x, weight, bias, g = arrays(case)
    found, by_hand = (
        make_vjp(lambda *a, way=way: way(*a, dilation=case[-1]), (0, 1, 2))(x, weight, bias)[0](g)
        for way in (conv2d_scipy, conv2d)
    )
    for one, other in zip(found, by_hand):
        np.testing.assert_allclose(one, other, rtol=1e-10, atol=1e-10)
    check_gradients(lambda x, weight: conv2d_scipy(x, weight, dilation=case[-1]), {"x": x, "weight": weight})


@pytest.mark.parametrize("case", CASES[1:4] + CASES[11:12], ids=str)
def test_all_derivatives_of_the_definition(case):
    x, weight, bias, _ = arrays(case)
    check_op(lambda *a: conv2d_scipy(*a, dilation=case[-1]), x, weight, bias)


@pytest.mark.parametrize("case", CASES[1:8], ids=str)
def test_derivatives_of_each_side(case):
    x, weight, _, g = arrays(case)
    check_op(lambda g, weight: _input(g, weight, case[-1]), g, weight)
    check_op(lambda x, g: _weight(x, g, case[5], case[-1]), x, g)


@ways
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint64])
def test_numpys_whole_numbers_are_dilations_too(kind, way):
    x, weight, bias, _ = arrays((1, 2, 2, 70, 5, (3, 3), 2))
    for dilation in (2, 65):
        vjp, y = make_vjp(lambda x: way(x, weight, bias, dilation=kind(dilation)))(x)  # noqa: B023
        expected, z = make_vjp(lambda x: way(x, weight, bias, dilation=dilation))(x)  # noqa: B023
        np.testing.assert_array_equal(y, z)
        np.testing.assert_array_equal(vjp(y), expected(y))


@pytest.mark.parametrize("kernel", [(3, 3), (1, 1)], ids=str)
@pytest.mark.parametrize("way", [conv2d, fast.conv2d], ids=["by hand", "fast"])
def test_result_holds_no_larger_array_alive(way, kernel):
    x, weight, _, _ = arrays((1, 2, 3, 8, 8, kernel, 1))
    y = way(x, weight)
    assert y.base is None or y.base.nbytes == y.nbytes


X, W, B = np.zeros((2, 3, 5, 5)), np.zeros((4, 3, 3, 3)), np.zeros(4)


@pytest.mark.parametrize(
    ("args", "how", "words"),
    [
        ((X, W[0]), {}, r"weight \(O, C, kh, kw\)"),
        ((X[:, :2], W), {}, r"expects x \(N, 3, H, W\), got \(2, 2, 5, 5\)"),
        ((X, W[:0]), {}, r"no empty axis, got \(0, 3, 3, 3\)"),
        ((X, W[..., :2]), {}, "odd kernel, got 3x2"),
        ((X, W[:, :, :2]), {}, "odd kernel, got 2x3"),
        ((X, W, B[:3]), {}, r"expected bias \(4,\), got \(3,\)"),
        ((X, W), {"dilation": 0}, "dilation of 1 .* got 0"),
        ((X, W), {"dilation": 1.5}, "got 1.5"),
        ((X, W), {"dilation": True}, "got True"),
    ],
)
@ways
def test_one_clear_error(args, how, words, way):
    with pytest.raises(ValueError, match=words):
        way(*args, **how)
