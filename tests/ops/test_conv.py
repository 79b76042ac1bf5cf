"""Convolution against its definition, SciPy, identities from the maths, and numerical gradients."""

import numpy as np
import pytest
from autograd import make_vjp
from harness import check_op
from scipy import ndimage

from tinyseg.ops import conv, conv2d
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
methods = pytest.mark.parametrize("method", ["gemm", "scipy"])


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
@methods
def test_equals_its_definition(case, method):
    x, weight, bias, _ = arrays(case)
    y = conv2d(x, weight, bias, dilation=case[-1], method=method)
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


@methods
@pytest.mark.parametrize("dilation", [9, 10, 40])
def test_dilation_of_the_image_side_leaves_the_centre_tap_alone(dilation, method):
    x, weight, _, _ = arrays((2, 3, 2, 9, 9, (3, 3), dilation))
    expected = np.einsum("oc,nchw->nohw", weight[:, :, 1, 1], x)
    np.testing.assert_allclose(conv2d(x, weight, dilation=dilation, method=method), expected, atol=1e-11)


@pytest.mark.parametrize("rows", [1, 2, 3])
@pytest.mark.parametrize(
    "case",
    [(2, 3, 2, 11, 7, (3, 3), 2), (1, 8, 6, 9, 5, (3, 3), 4), (1, 2, 1, 7, 4, (5, 5), 1),
     (2, 3, 4, 7, 5, (1, 1), 1), (1, 2, 2, 8, 5, (3, 1), 3)],
    ids=str,
)  # fmt: skip
def test_bands_of_any_height_give_the_same(case, rows, monkeypatch):
    """Images as small as here fit into one band; bands of so many rows, the last one lower, must meet."""
    x, weight, bias, y = arrays(case)
    how = {"dilation": case[-1], "method": "gemm"}

    def results():
        both = conv._gemm_input_and_weight(x, weight, y, case[-1])
        return (
            conv2d(x, weight, bias, **how),
            _input(y, weight, **how),
            _weight(x, y, kernel=case[5], **how),
            *both,
        )

    expected = results()
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


@cases
@methods
def test_both_gradients_at_once(case, method):
    """A training step takes another way to the same two gradients."""
    x, weight, _, y = arrays(case)
    how = {"dilation": case[-1], "method": method}
    dx, dweight = conv.METHODS[method].input_and_weight(x, weight, y, case[-1])
    np.testing.assert_allclose(dx, _input(y, weight, **how), rtol=1e-12, atol=1e-12)
    np.testing.assert_allclose(dweight, _weight(x, y, kernel=case[5], **how), rtol=1e-12, atol=1e-12)


@methods
def test_a_negative_dilation_is_a_turned_kernel(method):
    x, weight, _, _ = arrays((2, 3, 2, 9, 11, (3, 5), 2))
    output = conv.METHODS[method].output
    np.testing.assert_allclose(
        output(x, weight, None, -2), output(x, weight[:, :, ::-1, ::-1], None, 2), atol=1e-12
    )


@cases
@methods
def test_three_sides_of_one_trilinear_form(case, method):
    """<y, output(x, w)> = <x, input(y, w)> = <w, weight(x, y)>: the adjoint identity, thrice."""
    x, weight, _, y = arrays(case)
    how = {"dilation": case[-1], "method": method}
    t = np.sum(y * _output(x, weight, None, **how))
    np.testing.assert_allclose(np.sum(x * _input(y, weight, **how)), t, rtol=1e-10, atol=1e-10)
    np.testing.assert_allclose(
        np.sum(weight * _weight(x, y, kernel=case[5], **how)), t, rtol=1e-10, atol=1e-10
    )


@cases
def test_derivatives(case):
    x, weight, bias, _ = arrays(case)
    check_op(lambda x, weight, bias: conv2d(x, weight, bias, dilation=case[-1]), x, weight, bias)


@pytest.mark.parametrize("case", CASES[1:4] + CASES[9:10], ids=str)
def test_derivatives_through_scipy(case):
    x, weight, bias, _ = arrays(case)
    check_op(lambda *a: conv2d(*a, dilation=case[-1], method="scipy"), x, weight, bias)


@pytest.mark.parametrize("case", CASES[1:8], ids=str)
def test_derivatives_of_each_side(case):
    x, weight, _, y = arrays(case)
    how = {"dilation": case[-1], "method": "gemm"}
    check_op(lambda y, weight: _input(y, weight, **how), y, weight)
    check_op(lambda x, y: _weight(x, y, kernel=case[5], **how), x, y)


@methods
@pytest.mark.parametrize("dilation", [1, 3, 20])
def test_float32_is_as_close_as_float32_can_be(dilation, method):
    case = (2, 3, 3, 16, 16, (3, 3), dilation)
    y = conv2d(*arrays(case, np.float32)[:3], dilation=dilation, method=method)
    assert y.dtype == np.float32
    np.testing.assert_allclose(y, conv2d(*arrays(case)[:3], dilation=dilation), atol=2e-5)


def test_views_and_read_only_arrays_do():
    x, weight, bias, _ = arrays((2, 3, 2, 8, 6, (3, 3), 2))
    turned = np.ascontiguousarray(x.transpose(0, 1, 3, 2)).transpose(0, 1, 3, 2)
    turned.flags.writeable = weight.flags.writeable = False
    np.testing.assert_allclose(conv2d(turned, weight, bias, dilation=2), conv2d(x, weight, bias, dilation=2))


@methods
@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.uint64])
def test_numpys_whole_numbers_are_dilations_too(kind, method):
    x, weight, bias, _ = arrays((1, 2, 2, 70, 5, (3, 3), 2))
    for dilation in (2, 65):
        how = {"method": method}
        vjp, y = make_vjp(lambda x: conv2d(x, weight, bias, dilation=kind(dilation), **how))(x)  # noqa: B023
        expected, z = make_vjp(lambda x: conv2d(x, weight, bias, dilation=dilation, **how))(x)  # noqa: B023
        np.testing.assert_array_equal(y, z)
        np.testing.assert_array_equal(vjp(y), expected(y))


def test_result_holds_no_larger_array_alive():
    x, weight, _, _ = arrays((1, 2, 3, 8, 8, (3, 3), 1))
    y = conv2d(x, weight)
    assert y.base is None or y.base.nbytes == y.nbytes


X, W, B = np.zeros((2, 3, 5, 5)), np.zeros((4, 3, 3, 3)), np.zeros(4)


@pytest.mark.parametrize(
    ("args", "how", "words"),
    [
        ((X[0], W), {}, r"expected x \(N, C, H, W\)"),
        ((X, W[0]), {}, r"weight \(O, C, kh, kw\)"),
        ((X[:, :2], W), {}, r"expects x \(N, 3, H, W\), got \(2, 2, 5, 5\)"),
        ((X[:0], W), {}, "expects x"),
        ((X, W[:0]), {}, r"no empty axis, got \(0, 3, 3, 3\)"),
        ((X, W[..., :2]), {}, "odd kernel, got 3x2"),
        ((X, W, B[:3]), {}, r"expected bias \(4,\), got \(3,\)"),
        ((X.astype("f"), W), {}, r"got \['float32', 'float64'\]"),
        ((X.astype(int), W.astype(int)), {}, "float32 or float64"),
        ((X, W), {"dilation": 0}, "dilation of 1 .* got 0"),
        ((X, W), {"dilation": 1.5}, "got 1.5"),
        ((X, W), {"method": "magic"}, "expected method 'gemm' or 'scipy', got 'magic'"),
    ],
)
def test_one_clear_error(args, how, words):
    with pytest.raises(ValueError, match=words):
        conv2d(*args, **how)
