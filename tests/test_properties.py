"""Identities that hold for arrays of any shape: Hypothesis draws shapes and settings, a seed the numbers.

Where an op has a definition and a twin, both are asked.
"""

import numpy as np
import pytest
from autograd import make_vjp
from hypothesis import given, settings
from hypothesis import strategies as st

from tinyseg import fast, ops
from tinyseg.data.augment import random_symmetry, symmetry
from tinyseg.metrics import best_threshold, confusion_matrix
from tinyseg.ops.norm import BATCH, INSTANCE
from tinyseg.optim import Adam, Clipped, Freezing, GradientDescent
from tinyseg.parameters import flatten, unflatten

# The same examples in every run, however slow the machine: a test that fails, fails again.
settings.register_profile("tinyseg", derandomize=True, deadline=None, max_examples=25, database=None)
settings.load_profile("tinyseg")

few = st.integers(1, 4)
sides = st.integers(1, 9)
kernels = st.sampled_from([1, 3, 5])
dilations = st.integers(1, 6)
factors = st.floats(0.1, 10).flatmap(lambda a: st.sampled_from([a, -a]))
seeds = st.integers(0, 2**32 - 1)
rngs = seeds.map(np.random.default_rng)
shapes = st.tuples(few, few, sides, sides)  # (N, C, H, W)
convolutions = pytest.mark.parametrize("conv2d", [ops.conv2d, fast.conv2d], ids=["ops", "fast"])
norms = pytest.mark.parametrize("normalize", [ops.normalize, fast.normalize], ids=["ops", "fast"])
TOLERANCE = {"float64": 1e-11, "float32": 1e-4}


def close(a, b, scale=None):
    """Equal but for rounding, which is measured against the largest number (or `scale`)."""
    a, b = np.asarray(a), np.asarray(b)
    assert a.shape == b.shape
    scale = np.abs(b).max(initial=1e-300) if scale is None else scale
    assert np.abs(a - b).max(initial=0) <= TOLERANCE[str(a.dtype)] * scale


@st.composite
def convolved(draw, dtypes=("float64", "float32")):
    """(x, weight, rng): an image, a kernel that fits it, and a generator for more."""
    (n, c, h, w), o, rng = draw(shapes), draw(few), draw(rngs)
    dtype = draw(st.sampled_from(dtypes))
    x = rng.normal(size=(n, c, h, w)).astype(dtype)
    return x, rng.normal(size=(o, c, draw(kernels), draw(kernels))).astype(dtype), rng


# Convolution.


@convolutions
@given(convolved(), dilations)
def test_a_convolutions_gradients_are_its_adjoints(conv2d, drawn, dilation):
    """<g, conv(x, w)> = <back to x (g), x> = <back to w (g), w>."""
    x, weight, rng = drawn
    vjp, y = make_vjp(lambda a: conv2d(*a, dilation=dilation))((x, weight))
    g = rng.normal(size=y.shape).astype(y.dtype)
    scale = np.linalg.norm(g) * np.linalg.norm(x) * np.linalg.norm(weight)
    for array, gradient in zip((x, weight), vjp(g)):
        close(np.sum(gradient * array), np.sum(g * y), scale)


@convolutions
@given(convolved(), dilations, factors, factors)
def test_a_convolution_is_linear_in_the_image_and_in_the_kernel(conv2d, drawn, dilation, a, b):
    x, weight, rng = drawn
    a, b = x.dtype.type(a), x.dtype.type(b)
    x2, weight2 = (rng.normal(size=array.shape).astype(x.dtype) for array in (x, weight))
    y = conv2d(x, weight, dilation=dilation)
    scale = (abs(a) + abs(b)) * max(1, weight[0].size)
    close(
        conv2d(a * x + b * x2, weight, dilation=dilation),
        a * y + b * conv2d(x2, weight, dilation=dilation),
        scale,
    )
    close(
        conv2d(x, a * weight + b * weight2, dilation=dilation),
        a * y + b * conv2d(x, weight2, dilation=dilation),
        scale,
    )


@convolutions
@given(convolved(), dilations, st.integers(-3, 3), st.integers(-3, 3))
def test_a_convolution_moves_with_the_image(conv2d, drawn, dilation, down, right):
    """Of an image in a frame so wide that nothing reaches its border."""
    x, weight, _ = drawn
    frame = [(0, 0), (0, 0), *((3 + dilation * (k // 2),) * 2 for k in weight.shape[2:])]
    x = np.pad(x, frame)
    moved = conv2d(np.roll(x, (down, right), (2, 3)), weight, dilation=dilation)
    close(moved, np.roll(conv2d(x, weight, dilation=dilation), (down, right), (2, 3)))


@convolutions
@given(convolved(), dilations)
def test_a_dilated_kernel_is_a_dense_one_with_zeros_between(conv2d, drawn, dilation):
    x, weight, _ = drawn
    o, c, kh, kw = weight.shape
    stuffed = np.zeros((o, c, dilation * (kh - 1) + 1, dilation * (kw - 1) + 1), weight.dtype)
    stuffed[:, :, ::dilation, ::dilation] = weight
    close(conv2d(x, weight, dilation=dilation), conv2d(x, stuffed))


@convolutions
@given(convolved(), dilations, st.integers(0, 7))
def test_a_convolution_turns_with_image_and_kernel(conv2d, drawn, dilation, k):
    x, weight, _ = drawn
    turned = conv2d(symmetry(x, k), symmetry(weight, k), dilation=dilation)
    close(turned, symmetry(conv2d(x, weight, dilation=dilation), k))


@convolutions
@given(convolved(), dilations)
def test_each_image_of_a_batch_is_convolved_by_itself(conv2d, drawn, dilation):
    x, weight, rng = drawn
    order = rng.permutation(len(x))
    y = conv2d(x, weight, dilation=dilation)
    close(conv2d(x[order], weight, dilation=dilation), y[order])
    close(conv2d(x[:1], weight, dilation=dilation), y[:1], np.abs(y).max())


# Norms, softmax and losses.


@st.composite
def normed(draw):
    """(x, gamma, beta), with enough pixels in a channel that its variance is not 0."""
    n, c, h, w, rng = draw(few), draw(few), draw(st.integers(2, 9)), draw(st.integers(2, 9)), draw(rngs)
    return rng.normal(2, 3, (n, c, h, w)), rng.normal(size=c), rng.normal(size=c)


@norms
@given(normed())
def test_batch_norm_of_one_image_is_instance_norm(normalize, drawn):
    x, gamma, beta = drawn
    each = [normalize(image[None], gamma, beta, axes=BATCH) for image in x]
    y, mean, variance = normalize(x, gamma, beta, axes=INSTANCE)
    for i, (y_i, mean_i, variance_i) in enumerate(each):
        close(y[i], y_i[0])
        close(mean[i], mean_i)
        close(variance[i], variance_i)


@norms
@pytest.mark.parametrize("axes", [BATCH, INSTANCE], ids=["batch", "instance"])
@given(normed(), factors, factors)
def test_a_norm_does_not_see_contrast_and_brightness(normalize, axes, drawn, a, b):
    x, gamma, beta = drawn
    y = normalize(x, gamma, beta, axes=axes, eps=1e-3)[0]
    close(normalize(a * x + b, np.sign(a) * gamma, beta, axes=axes, eps=1e-3 * a * a)[0], y)


@norms
@pytest.mark.parametrize("axes", [BATCH, INSTANCE], ids=["batch", "instance"])
@given(normed())
def test_what_was_normalised_has_mean_beta_and_deviation_gamma(normalize, axes, drawn):
    x, gamma, beta = drawn
    y = normalize(x, gamma, beta, axes=axes, eps=0)[0]
    close(y.mean(axes), np.broadcast_to(beta, y.mean(axes).shape), np.abs(y).max())
    close(y.std(axes), np.broadcast_to(np.abs(gamma), y.std(axes).shape))


@given(shapes, rngs, st.floats(-100, 100))
def test_softmax_does_not_see_a_shift_and_goes_with_the_order(shape, rng, shift):
    x, order = rng.normal(0, 3, shape), rng.permutation(shape[1])
    for function in (ops.softmax, ops.log_softmax):
        close(function(x + shift), function(x))
        close(function(x[:, order]), function(x)[:, order])
    p = ops.softmax(x)
    assert (p > 0).all()
    close(p.sum(1), np.ones(p[:, 0].shape))
    close(np.log(p), ops.log_softmax(x))
    close(ops.log_softmax(ops.log_softmax(x)), ops.log_softmax(x))  # it is a projection


@given(shapes, rngs, st.floats(0.1, 10))
def test_relu_scales_and_its_two_sides_add_up(shape, rng, a):
    x = rng.normal(size=shape)
    close(ops.relu(a * x), a * ops.relu(x))
    close(ops.relu(x) - ops.relu(-x), x)
    np.testing.assert_array_equal(ops.relu(ops.relu(x)), ops.relu(x))


@given(shapes, rngs, st.floats(0.1, 10))
def test_cross_entropy_goes_with_the_classes_and_not_with_the_weights_scale(shape, rng, a):
    n, c, h, w = shape
    x, labels, weights = rng.normal(size=shape), rng.integers(0, c, (n, h, w)), rng.random(c) + 0.1
    loss = ops.cross_entropy(x, labels, class_weights=weights)
    close(ops.cross_entropy(x, labels, class_weights=a * weights), loss)
    order = rng.permutation(c)  # the class that was order[k] becomes k
    renamed = ops.cross_entropy(x[:, order], np.argsort(order)[labels], class_weights=weights[order])
    close(renamed, loss)
    close(ops.cross_entropy(0 * x, labels, class_weights=weights), np.log(c), 1)
    close(ops.semi_supervised(x, labels, class_weights=weights), loss)  # every pixel has a label
    blank = np.full_like(labels, ops.UNLABELLED)
    close(ops.semi_supervised(x, blank, entropy_weight=a), a * ops.entropy(x), max(a, 1))


# Metrics.


@st.composite
def label_maps(draw):
    """(prediction, truth, classes), (N, H, W): with some pixels of the truth unlabelled."""
    (n, classes, h, w), rng = draw(shapes), draw(rngs)
    prediction, truth = rng.integers(0, classes, (2, n, h, w)).astype(np.uint8)
    truth[rng.random(truth.shape) < draw(st.sampled_from([0, 0.3]))] = ops.UNLABELLED
    return prediction, truth, classes


@given(label_maps(), rngs)
def test_counts_add_up_and_go_with_pixels_and_classes(drawn, rng):
    prediction, truth, classes = drawn
    counts = confusion_matrix(prediction, truth, classes).counts
    each = [confusion_matrix(p, t, classes).counts for p, t in zip(prediction, truth)]
    np.testing.assert_array_equal(sum(each), counts)
    assert counts.sum() == (truth != ops.UNLABELLED).sum()
    order = rng.permutation(truth.size)
    shuffled = confusion_matrix(prediction.ravel()[order], truth.ravel()[order], classes)
    np.testing.assert_array_equal(shuffled.counts, counts)
    names = np.append(rng.permutation(classes), [ops.UNLABELLED] * (256 - classes))
    renamed = confusion_matrix(names[prediction], names[truth], classes).counts
    np.testing.assert_array_equal(renamed[np.ix_(names[:classes], names[:classes])], counts)


@given(label_maps())
def test_dice_and_iou(drawn):
    prediction, truth, classes = drawn
    known = truth != ops.UNLABELLED
    prediction, truth = prediction[known], truth[known]
    one, other = confusion_matrix(prediction, truth, classes), confusion_matrix(truth, prediction, classes)
    dice, iou = one.dice_of_each, one.iou_of_each
    np.testing.assert_allclose(dice, 2 * iou / (1 + iou), rtol=1e-12)
    for k, (d, i) in enumerate(zip(dice, iou)):  # by sets of pixels
        both, either = ((prediction == k) & (truth == k)).sum(), ((prediction == k) | (truth == k)).sum()
        assert (np.isnan(d) and np.isnan(i)) if either == 0 else i == pytest.approx(both / either)
    np.testing.assert_array_equal(other.dice_of_each, dice)  # symmetric
    np.testing.assert_array_equal(other.iou_of_each, iou)
    assert other.accuracy == one.accuracy or not truth.size
    assert not truth.size or confusion_matrix(truth, truth, classes).dice == 1


@given(shapes, rngs, st.sampled_from([3, 1000]))
def test_the_best_dice_depends_on_the_scores_order_alone(shape, rng, levels):
    scores, truth = rng.integers(0, levels, shape) / levels, rng.integers(0, 2, shape)
    threshold, dice = best_threshold(scores, truth)
    found = confusion_matrix((scores > threshold).astype(int), truth)
    assert found.dice == pytest.approx(dice)
    assert best_threshold(np.exp(5 * scores), truth)[1] == pytest.approx(dice)
    tried = [
        confusion_matrix((scores > t).astype(int), truth).dice for t in (-1, *rng.choice(scores.ravel(), 5))
    ]
    assert dice >= max(tried) - 1e-12


# Symmetries.

every = st.integers(0, 7)


def then(a, b):
    """The symmetry that is first `a`, then `b`, by the group's rule: a flip turns later turns around."""
    turns = (b & 3) + (-(a & 3) if b & 4 else a & 3)
    return (a ^ b) & 4 | turns & 3


@given(shapes, rngs, every, every)
def test_two_symmetries_in_a_row_are_a_third(shape, rng, a, b):
    x = rng.normal(size=shape)
    np.testing.assert_array_equal(symmetry(symmetry(x, a), b), symmetry(x, then(a, b)))
    inverse = a if a & 4 else -a & 3
    np.testing.assert_array_equal(symmetry(symmetry(x, a), inverse), x)
    assert sorted(symmetry(x, a).ravel()) == sorted(x.ravel())


@given(shapes, rngs, seeds)
def test_an_image_and_its_labels_move_together(shape, rng, seed):
    images = rng.normal(size=shape)
    labels = (images[:, 0] > 0).astype(np.uint8)
    moved, moved_labels = random_symmetry(images, labels, np.random.default_rng(seed))
    assert moved.shape == images.shape
    np.testing.assert_array_equal(moved_labels, moved[:, 0] > 0)
    for before, after in zip(images, moved):
        assert any(np.array_equal(symmetry(before, k), after) for k in range(8))


# Parameters and optimisers.


@given(
    st.lists(st.lists(st.integers(0, 3), max_size=4), min_size=1, max_size=6),
    rngs,
    st.sampled_from(["f", "d"]),
)
def test_parameters_there_and_back(sizes, rng, dtype):
    params = {f"p{i}": np.asarray(rng.normal(size=size), dtype) for i, size in enumerate(sizes)}
    vector = flatten(params)
    assert vector.dtype == dtype and vector.size == sum(array.size for array in params.values())
    again = unflatten(vector, params)
    assert list(again) == list(params)
    for key, array in params.items():
        np.testing.assert_array_equal(again[key], array, strict=True)
    np.testing.assert_array_equal(flatten(again), vector)


def after(optimizer, x, gradients, rate=0.1):
    memory = optimizer.init(x)
    for gradient in gradients:
        x, memory = optimizer.step(x, gradient, memory, rate)
    return x


@given(st.integers(1, 9), rngs, st.floats(0.01, 100))
def test_what_an_optimiser_does_not_see(size, rng, a):
    x, gradients = rng.normal(size=size), rng.normal(size=(4, size))
    longest = np.linalg.norm(gradients, axis=1).max()
    for optimizer in (GradientDescent(0.9), Adam(weight_decay=0.1)):
        plain = after(optimizer, x, gradients)
        np.testing.assert_array_equal(after(Clipped(optimizer, 1.01 * longest), x, gradients), plain)
        np.testing.assert_array_equal(after(Freezing(optimizer, ()), x, gradients), plain)
        np.testing.assert_array_equal(after(Freezing(optimizer, ((0, size),)), x, gradients), x)
    adam = Adam(eps=0)
    close(after(adam, x, a * gradients), after(adam, x, gradients))  # a gradient's scale
    clipped = Clipped(GradientDescent(), 1e-3)  # how long a long gradient is
    close(after(clipped, x, (1 + a) * gradients), after(clipped, x, gradients))
    moved = after(clipped, x, gradients[:1], rate=1.0) - x
    assert np.linalg.norm(moved) <= 1e-3 * (1 + 1e-9)
