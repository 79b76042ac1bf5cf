"""A corpus for the gradient checker: right and wrong gradients, in the many ways in which people write them.

Not collected by pytest. `python tests/gradcheck_corpus.py` runs all, and counts the right ones that the
checker rejects and the wrong ones that it lets pass. Each example makes its data and its operations anew.
"""

import functools
from dataclasses import dataclass
from typing import NamedTuple

import autograd.numpy as np
import numpy
import scipy.linalg
import scipy.special
from autograd.extend import defjvp, defvjp, defvjp_argnums, primitive
from autograd.scipy import special
from autograd.tracer import getval

from tinyseg import ops
from tinyseg.gradcheck import GradientError, check_gradients, check_layer

RIGHT, WRONG, KINKS, VACUOUS, NARROW, RIGHT_OPTIONS, WRONG_OPTIONS = {}, {}, {}, {}, {}, {}, {}


def into(examples):
    def add(example):
        examples[example.__name__] = example
        return example

    return add


right, wrong, kink, vacuous = into(RIGHT), into(WRONG), into(KINKS), into(VACUOUS)
narrow = into(NARROW)  # right as far as float32 goes, which the report has to say
right_with_options, wrong_with_options = into(RIGHT_OPTIONS), into(WRONG_OPTIONS)


def data(*shape, seed=0, scale=1.0, shift=0.0):
    return shift + scale * numpy.random.default_rng(seed).normal(size=shape)


def op(forward, *vjps):
    """`forward` as a primitive with the given vjps."""
    made = primitive(forward)
    defvjp(made, *vjps)
    return made


class Plain:
    """A layer from the dicts that `init` returns, and a function of (params, state, x, train, rng)."""

    def __init__(self, call, params=None, state=None):
        self.call, self.params, self.state = call, params or {}, state or {}

    def init(self, rng):
        return dict(self.params), dict(self.state)

    def __call__(self, params, state, x, *, train=False, rng=None):
        returned = self.call(params, state, x, train, rng)
        return returned if isinstance(returned, tuple) else (returned, state)


def channels(a):
    """(C,) -> (1, C, 1, 1)"""
    return np.reshape(a, (1, -1, 1, 1))


# --- right: losses, many of them where the prediction is sure ---


def sure_logits(n, classes, low, high, seed=0):
    """Logits (n, classes) and labels (n,), each label's logit above the others by low to high."""
    rng = numpy.random.default_rng(seed)
    labels, z = rng.integers(0, classes, n), 0.3 * rng.normal(size=(n, classes))
    z[numpy.arange(n), labels] += numpy.linspace(low, high, n)
    return z, labels


@right
def cross_entropy_written_naively_margin_14_to_20():
    z, labels = sure_logits(6, 4, 14, 20)

    def loss(z):
        p = np.exp(z) / np.sum(np.exp(z), axis=1, keepdims=True)
        return -np.mean(np.log(p[numpy.arange(6), labels]))

    return check_gradients(loss, {"z": z})


@right
def cross_entropy_written_naively_margin_25():
    # A close call: rounding in autograd's own sums is 1e-17, the gradient is 1e-11.
    z, labels = sure_logits(5, 3, 24, 25)
    mask = numpy.eye(3)[labels]
    return check_gradients(
        lambda z: -np.sum(mask * np.log(np.exp(z) / np.sum(np.exp(z), 1, keepdims=True))) / 5, {"z": z}
    )


@right
def cross_entropy_by_logsumexp_margin_30():
    z, labels = sure_logits(12, 3, 20, 30)
    z, onehot = z.reshape(2, 2, 3, 3).transpose(0, 3, 1, 2), numpy.eye(3)[labels].reshape(2, 2, 3, 3)

    class Loss:
        def __call__(self, z):
            m = np.max(z, axis=1, keepdims=True)
            logp = z - m - np.log(np.sum(np.exp(z - m), axis=1, keepdims=True))
            return -np.einsum("nchw,nhwc->", logp, onehot) / onehot.sum()

    return check_gradients(Loss(), {"z": z})


@right
def cross_entropy_weighted_with_ignored_pixels():
    rng = numpy.random.default_rng(3)
    labels, weights = rng.integers(0, 3, (2, 4, 4)), numpy.array([0.1, 1.0, 5.0])
    labels[:, 0] = 255
    valid = labels != 255
    w = weights[numpy.where(valid, labels, 0)] * valid
    n, i, j = numpy.indices(labels.shape)

    def loss(z):
        logp = z - special.logsumexp(z, axis=1, keepdims=True)
        return -np.sum(w * logp[n, numpy.where(valid, labels, 0), i, j]) / np.sum(w)

    return check_gradients(loss, {"z": 8 * rng.normal(size=(2, 3, 4, 4))})


@right
def cross_entropy_smoothed_labels_margin_16():
    z, labels = sure_logits(8, 5, 14, 16)
    t = 0.9 * numpy.eye(5)[labels] + 0.1 / 5
    return check_gradients(
        lambda z: np.mean(-np.sum(t * (z - special.logsumexp(z, 1, keepdims=True)), 1)), {"z": z}
    )


@right
def focal_loss_margin_16():
    z, labels = sure_logits(6, 3, 14, 16)

    def loss(z, gamma=2.0):
        logp = (z - special.logsumexp(z, axis=1, keepdims=True))[range(6), labels]
        return np.sum(-((-np.expm1(logp)) ** gamma) * logp)

    return check_gradients(loss, {"z": z})


@right
def focal_loss_mixed_margins():
    z, labels = sure_logits(8, 2, -6, 12)

    def loss(z):
        p = 1 / (1 + np.exp(-(z[:, 1] - z[:, 0])))
        pt = np.where(labels == 1, p, 1 - p)
        return np.mean(-((1 - pt) ** 2) * np.log(pt))

    return check_gradients(loss, {"z": z})


@right
def bce_with_logits_to_40():
    z, t = numpy.linspace(-40, 40, 22), numpy.arange(22) % 2
    return check_gradients(lambda z: np.maximum(z, 0) - z * t + np.log1p(np.exp(-np.abs(z))), {"z": z})


@right
def bce_mean_all_sure():
    t = numpy.arange(10) % 2
    z = (2 * t - 1) * numpy.linspace(15, 28, 10)
    return check_gradients(lambda z: np.mean(np.logaddexp(0, z) - z * t), {"z": z})


@right
def entropy_of_sure_predictions():
    def entropy(z):
        p = special.expit(z)
        return -(p * np.log(p) + (1 - p) * np.log(1 - p))

    return check_gradients(entropy, {"z": numpy.array([-14.0, -9, -3, -0.1, 0.5, 4, 11])})


@right
def softmax_entropy_margin_20():
    z, _ = sure_logits(4, 4, 14, 20)

    def entropy(z):
        logp = z - special.logsumexp(z, axis=1, keepdims=True)
        return -np.sum(np.exp(logp) * logp, axis=1)

    return check_gradients(entropy, {"z": z})


@right
def hinge_loss_multiclass():
    s = data(7, 4, scale=3, seed=5)
    y = numpy.array([0, 1, 2, 3, 0, 1, 2])

    def loss(s):
        margins = np.maximum(0, 1 + s - s[numpy.arange(7), y][:, None])
        return np.sum(margins) - 7

    return check_gradients(loss, {"s": s})


@right
def dice_loss_saturated():
    t = (data(2, 1, 5, 5, seed=2) > 0).astype(float)
    z = (2 * t - 1) * (14 + data(2, 1, 5, 5))

    def loss(z, smooth=1.0):
        p = 1 / (1 + np.exp(-z))
        inter = np.sum(p * t, axis=(1, 2, 3))
        return np.mean(1 - (2 * inter + smooth) / (np.sum(p + t, axis=(1, 2, 3)) + smooth))

    return check_gradients(loss, {"z": z})


@right
def iou_loss_as_a_callable_object():
    @dataclass
    class SoftIoU:
        target: object
        eps: float = 1e-7

        def __call__(self, logits):
            p = np.exp(logits) / np.sum(np.exp(logits), axis=1, keepdims=True)
            both = np.sum(p * self.target, axis=(0, 2, 3))
            return 1 - np.mean(both / (np.sum(p + self.target - p * self.target, axis=(0, 2, 3)) + self.eps))

    target = numpy.eye(3)[numpy.random.default_rng(0).integers(0, 3, (2, 4, 4))].transpose(0, 3, 1, 2)
    return check_gradients(SoftIoU(target), {"logits": data(2, 3, 4, 4)})


@right
def softplus_log1p_exp():
    return check_gradients(lambda x: np.log1p(np.exp(x)), {"x": numpy.linspace(-30, 30, 13)})


@right
def logsumexp_offset_1e8():
    def lse(x):
        m = x.max()
        return m + np.log(np.sum(np.exp(x - m)))

    return check_gradients(lse, {"x": 1e8 + data(6)})


@right
def logsumexp_with_detached_maximum():
    def lse(x):
        m = getval(x).max(axis=1, keepdims=True) if hasattr(x, "_value") else x.max(axis=1, keepdims=True)
        return np.log(np.exp(x - m).sum(axis=1)) + m[:, 0]  # the shift cancels, so it may be a constant

    return check_gradients(lse, {"x": 700 + 30 * data(4, 5)})


@right
def kl_divergence_of_two_networks():
    def kl(p_logits, q_logits):
        lp = p_logits - special.logsumexp(p_logits, axis=-1, keepdims=True)
        lq = q_logits - special.logsumexp(q_logits, axis=-1, keepdims=True)
        return np.sum(np.exp(lp) * (lp - lq))

    return check_gradients(kl, {"p_logits": data(3, 4, scale=6), "q_logits": data(3, 4, scale=6, seed=1)})


@right
def contrastive_loss_temperature_007():
    def unit(a):
        return a / np.sqrt(np.sum(a**2, axis=1, keepdims=True))

    def info_nce(a, b):
        a, b = unit(a), unit(b)
        s = a @ b.T / 0.07
        return np.mean(special.logsumexp(s, axis=1) - np.diag(s))

    a = data(4, 4)
    return check_gradients(info_nce, {"a": a, "b": a + 0.05 * data(4, 4, seed=1)})


@right
def huber_and_charbonnier():
    t = data(5, 5, seed=9)

    def loss(x):
        r = x - t
        huber = np.where(np.abs(r) < 0.7, 0.5 * r**2, 0.7 * (np.abs(r) - 0.35))
        return np.mean(huber) + np.mean(np.sqrt(r * r + 1e-6))

    return check_gradients(loss, {"x": data(5, 5)})


@right
def total_variation_flat_image():
    # Slopes of 1e-5 below eps = 1e-3: curved, not a kink.
    def tv(x):
        dx, dy = x[:, :, :-1, 1:] - x[:, :, :-1, :-1], x[:, :, 1:, :-1] - x[:, :, :-1, :-1]
        return np.sum(np.sqrt(dx**2 + dy**2 + 1e-6))

    return check_gradients(tv, {"x": 0.5 + 1e-5 * data(1, 1, 6, 6)})


@right
def ssim_of_two_images():
    def means(a):
        return sum(a[i : i + 4, j : j + 4] for i in range(3) for j in range(3)) / 9

    def ssim(x, y):
        mx, my = means(x), means(y)
        vx, vy, c = means(x * x) - mx**2, means(y * y) - my**2, means(x * y) - mx * my
        return np.mean((2 * mx * my + 1e-4) * (2 * c + 9e-4) / ((mx**2 + my**2 + 1e-4) * (vx + vy + 9e-4)))

    x = data(6, 6)
    return check_gradients(ssim, {"x": x, "y": x + 0.1 * data(6, 6, seed=1)})


# --- right: norms, and gradients that are truly zero ---


@right
def variance_as_mean_of_squares_minus_square():
    return check_gradients(lambda x: np.mean(x**2, 1) - np.mean(x, 1) ** 2, {"x": data(3, 8, shift=100.0)})


@right
def variance_by_squares_far_off():
    return check_gradients(lambda x: (x * x).mean() - x.mean() ** 2, {"x": data(10, shift=3e3)})


@right
def instance_norm_by_squares():
    class InstanceNorm:
        def init(self, rng):
            return {"g": numpy.ones(3), "b": numpy.zeros(3)}, {}

        def __call__(self, params, state, x, **kw):
            mu = x.mean(axis=(2, 3), keepdims=True)
            var = (x**2).mean(axis=(2, 3), keepdims=True) - mu**2
            y = (x - mu) / np.sqrt(var + 1e-5)
            return params["g"][None, :, None, None] * y + params["b"][None, :, None, None], state

    return check_layer(InstanceNorm(), data(2, 3, 4, 4, shift=20.0))


class MyBatchNorm:
    """Running statistics taken out of the box, as they should be."""

    def __init__(self, c, momentum=0.1, eps=1e-5):
        self.c, self.momentum, self.eps = c, momentum, eps

    def init(self, rng):
        params = {"weight": numpy.ones(self.c), "bias": numpy.zeros(self.c)}
        return params, {"mean": numpy.zeros(self.c), "var": numpy.ones(self.c), "steps": numpy.zeros(())}

    def __call__(self, params, state, x, *, train=False, rng=None):
        if train:
            mean, var = np.mean(x, axis=(0, 2, 3)), np.var(x, axis=(0, 2, 3))
            m, count = self.momentum, x.shape[0] * x.shape[2] * x.shape[3]
            state = {
                "mean": (1 - m) * state["mean"] + m * getval(mean),
                "var": (1 - m) * state["var"] + m * getval(var) * count / (count - 1),
                "steps": state["steps"] + 1,
            }
        else:
            mean, var = state["mean"], state["var"]
        y = (x - channels(mean)) * channels(1 / np.sqrt(var + self.eps))
        return y * channels(params["weight"]) + channels(params["bias"]), state


@right
def batch_norm_in_training():
    return check_layer(MyBatchNorm(3), data(4, 3, 3, 3, shift=2.0))


@right
def batch_norm_in_evaluation():
    return check_layer(MyBatchNorm(3), data(2, 3, 3, 3), train=False)


@right
def batch_norm_of_two_values():
    # (a - b) / |a - b|: nearly a sign, so the gradient is all but zero, by eps alone
    return check_layer(MyBatchNorm(2), data(2, 2, 1, 1, scale=3))


@right
def group_norm_as_a_function():
    def group_norm(x, gamma, beta, groups=2, eps=1e-5):
        n, c, h, w = x.shape
        x = x.reshape((n, groups, c // groups, h, w))
        x = (x - x.mean(axis=(2, 3, 4), keepdims=True)) / np.sqrt(x.var(axis=(2, 3, 4), keepdims=True) + eps)
        return x.reshape((n, c, h, w)) * gamma.reshape((1, c, 1, 1)) + beta.reshape((1, c, 1, 1))

    return check_gradients(group_norm, {"x": data(2, 4, 3, 3), "gamma": data(4), "beta": data(4, seed=1)})


@right
def layer_norm_over_channels():
    def norm(params, state, x, train, rng):
        y = x - np.mean(x, 1, keepdims=True)
        return y / (np.std(x, 1, keepdims=True) + 1e-6) * channels(params["w"])

    return check_layer(Plain(norm, {"w": numpy.ones(6)}), data(2, 6, 3, 3))


@right
def rms_norm():
    return check_gradients(
        lambda x, w: x * w / np.sqrt(np.mean(x**2, axis=-1, keepdims=True) + 1e-8),
        {"x": data(3, 7, scale=1e-3), "w": data(7)},
    )


@right
def weight_standardised_linear():
    def f(x, w):
        w = (w - w.mean(1, keepdims=True)) / (w.std(1, ddof=1, keepdims=True) + 1e-10)
        return np.tanh(x @ w.T)

    return check_gradients(f, {"x": data(3, 5), "w": data(4, 5, seed=1)})


@right
def bias_before_a_batch_norm():
    def call(params, state, x, train, rng):
        y = x * channels(params["scale"]) + channels(params["bias"])
        m = np.mean(y, axis=(0, 2, 3), keepdims=True)
        v = np.mean((y - m) ** 2, axis=(0, 2, 3), keepdims=True)
        return np.maximum((y - m) / np.sqrt(v + 1e-5), 0)

    return check_layer(Plain(call, {"scale": numpy.ones(2), "bias": numpy.zeros(2)}), data(3, 2, 4, 4))


@right
def shift_into_softmax():
    def f(x, shift):
        e = np.exp(x + shift)
        return e / e.sum(axis=1, keepdims=True)

    return check_gradients(f, {"x": data(3, 4), "shift": data(3, 1)})


@right
def scale_before_normalisation():
    return check_gradients(lambda v, s: s * v / np.sqrt(np.sum((s * v) ** 2)), {"v": data(6), "s": 1.7})


@right
def sum_of_softmax():
    # Always 1: the gradient is truly zero, with rounding noise.
    return check_gradients(lambda x: np.sum(np.exp(x) / np.sum(np.exp(x))), {"x": data(9, scale=3)})


@right
def sin_squared_plus_cos_squared():
    return check_gradients(lambda x, y: np.sin(x) ** 2 + np.cos(x) ** 2 + y, {"x": data(5), "y": data(5)})


@right
def mean_removed_then_summed_over_space():
    def f(x, w):
        y = np.einsum("oc,nchw->nohw", w, x)
        return np.sum(y - np.mean(y, axis=(2, 3), keepdims=True), axis=(2, 3)) + 1e-3 * np.sum(x**2)

    return check_gradients(f, {"x": data(2, 3, 4, 4), "w": data(2, 3)})


# --- right: values tiny and huge, steep and periodic functions ---


@right
def values_of_1e_minus_12():
    return check_gradients(lambda x: np.sum(x**2), {"x": 1e-12 * data(4, 4)})


@right
def values_of_1e12():
    return check_gradients(lambda x, y: x * y + x**2, {"x": 1e12 * data(4), "y": 1e12 * data(4, seed=1)})


@right
def channels_of_very_different_scale():
    scales = 10.0 ** numpy.arange(-9, 10, 3).reshape(1, 7, 1, 1)
    return check_gradients(lambda x: np.tanh(x / scales) * scales, {"x": scales * data(1, 7, 3, 3)})


@right
def parameters_of_different_scale_in_one_sum():
    def energy(p):
        return 0.5 * p[0] ** 2 * 1e6 + p[1] * 1e-3 + np.exp(p[2]) + p[0] * p[2]

    return check_gradients(energy, {"p": numpy.array([1e-3, 40.0, 2.0])})


@right
def packed_parameters_of_an_mlp():
    x, shapes = data(5, 6), [(6, 8), (8,), (8, 2), (2,)]
    sizes = [int(numpy.prod(s)) for s in shapes]

    def mlp(theta):
        parts, at = [], 0
        for size, shape in zip(sizes, shapes):
            parts.append(np.reshape(theta[at : at + size], shape))
            at += size
        w1, b1, w2, b2 = parts
        return np.tanh(x @ w1 + b1) @ w2 + b2

    return check_gradients(mlp, {"theta": 0.5 * data(sum(sizes))})


@right
def periodic_01():
    return check_gradients(lambda x: np.sin(2 * np.pi * 10 * x), {"x": data(8)})


@right
def periodic_0001_many_entries():
    return check_gradients(lambda x: np.cos(2 * np.pi * x / 1e-3), {"x": data(10, 10)})


@right
def periodic_1e_minus_6():
    # A step of 1e-6 is a whole period.
    return check_gradients(lambda x: np.sin(2 * np.pi * 1e6 * x), {"x": 0.3 * data(5)})


@right
def positional_encoding():
    def encode(x):
        return np.concatenate([f(2.0**k * np.pi * x) for k in range(12) for f in (np.sin, np.cos)], axis=-1)

    return check_gradients(encode, {"x": data(4, 2)})


@right
def exp_50x():
    return check_gradients(lambda x: np.exp(50 * x), {"x": numpy.linspace(-1, 1, 9)})


@right
def inverse_cube_near_zero():
    return check_gradients(lambda x: x**-3, {"x": numpy.array([1e-4, 3e-3, 0.02, -1e-3, 0.5])})


@right
def steep_tanh():
    return check_gradients(lambda x: np.tanh(1e4 * x), {"x": numpy.array([1e-5, -2e-4, 5e-5, 0.3])})


@right
def gaussian_bumps():
    centres = numpy.linspace(0, 1, 5)
    return check_gradients(
        lambda x: np.exp(-((x[:, None] - centres) ** 2) / (2 * 1e-3**2)).sum(1), {"x": centres + 7e-4}
    )


@right
def lennard_jones():
    def energy(r):
        d = np.sqrt(np.sum((r[:, None] - r[None]) ** 2, -1) + numpy.eye(len(r)))
        return np.sum(np.triu((1 / d) ** 12 - (1 / d) ** 6, 1))

    return check_gradients(energy, {"r": numpy.array([[0.0, 0], [0.4, 0.1], [0, 1.2], [1.0, 1.1]])})


@right
def tiny_output_1e_minus_200():
    return check_gradients(lambda x: 1e-200 * np.sum(np.sin(x)), {"x": data(5)})


@right
def beside_a_constant_of_1e8():
    return check_gradients(lambda x: 1e8 + np.sum(x**3), {"x": data(4)})


@right
def huge_and_small_outputs():
    return check_gradients(lambda x: np.concatenate([1e9 * x, 1e-9 * x**2, x]), {"x": data(4)})


# --- right: attention, positive parameters ---


def attention(q, k, v, hide):
    s = hide(np.matmul(q, np.swapaxes(k, -1, -2)) / np.sqrt(q.shape[-1]))
    s = np.exp(s - np.max(s, axis=-1, keepdims=True))
    return np.matmul(s / np.sum(s, axis=-1, keepdims=True), v)


@right
def causal_attention_minus_1e20():
    allowed = numpy.tril(numpy.ones((5, 5), bool))
    arrays = {"q": data(2, 5, 3), "k": data(2, 5, 3, seed=1), "v": data(2, 5, 3, seed=2)}
    return check_gradients(lambda q, k, v: attention(q, k, v, lambda s: np.where(allowed, s, -1e20)), arrays)


@right
def masked_attention_plus_minus_1e9():
    mask = -1e9 * (data(4, 4, seed=4) > 0.3)
    arrays = {"q": data(4, 3), "k": data(4, 3, seed=1), "v": data(4, 3, seed=2)}
    return check_gradients(lambda q, k, v: attention(q, k, v, lambda s: s + mask), arrays)


@right
def masked_attention_minus_infinity():
    allowed = numpy.tril(numpy.ones((4, 4), bool))
    return check_gradients(
        lambda s: special.logsumexp(np.where(allowed, s, -numpy.inf), axis=1), {"s": data(4, 4)}
    )


@right
def gaussian_likelihood():
    y = data(20)

    def nll(mu, sigma):
        return np.sum(0.5 * ((y - mu) / sigma) ** 2 + np.log(sigma))

    return check_gradients(nll, {"mu": 0.1, "sigma": numpy.array(1e-2)})


@right
def gamma_likelihood():
    x = numpy.abs(data(15)) + 0.01

    def loglik(shape, rate):
        return np.sum(shape * np.log(rate) + (shape - 1) * np.log(x) - rate * x - special.gammaln(shape))

    return check_gradients(loglik, {"shape": 0.05, "rate": 3.0})


@right
def temperature_of_a_softmax():
    class Calibration:
        def init(self, rng):
            return {"temperature": numpy.array([0.2])}, {}

        def __call__(self, p, s, x, train, rng=None):  # positional, as some write it
            x = x / p["temperature"]
            x = x - np.max(x, axis=1, keepdims=True)
            return x - np.log(np.sum(np.exp(x), axis=1, keepdims=True)), s

    return check_layer(Calibration(), data(2, 3, 2, 2), train=False)


@right
def sqrt_and_log_of_small_parameters():
    return check_gradients(
        lambda var, scale: np.sqrt(var) + np.log(scale) * scale,
        {"var": numpy.array([1e-10, 1e-3, 2.0]), "scale": numpy.array([1e-6, 1e-2, 5.0])},
    )


# --- right: activations, pooling, order ---


@right
def max_pooling_by_reshape():
    return check_gradients(lambda x: x.reshape((2, 3, 2, 2, 3, 2)).max(axis=(3, 5)), {"x": data(2, 3, 4, 6)})


@right
def max_pooling_overlapping():
    def pool(x):
        shifted = [x[:, :, i : i + 4, j : j + 4] for i in range(3) for j in range(3)]
        return functools.reduce(np.maximum, shifted)

    return check_gradients(pool, {"x": data(1, 2, 6, 6)})


@right
def average_pooling_odd_size():
    def pool(x):
        x = np.pad(x, ((0, 0), (0, 0), (0, 1), (0, 1)), mode="constant")
        return (x[:, :, ::2, ::2] + x[:, :, 1::2, ::2] + x[:, :, ::2, 1::2] + x[:, :, 1::2, 1::2]) / 4

    return check_gradients(pool, {"x": data(2, 2, 5, 7)})


@right
def median_by_sort():
    return check_gradients(lambda x: np.sort(x)[len(x) // 2] * np.sum(x), {"x": data(9)})


@right
def quantile_by_partition():
    return check_gradients(lambda x: np.partition(x, 3)[:4] ** 2, {"x": data(11)})


@right
def clip_and_abs():
    return check_gradients(lambda x: np.clip(x, -0.8, 0.8) + np.abs(x - 0.05), {"x": data(5, 6)})


@right
def leaky_relu_near_its_kink():
    x = data(4, 4)
    x[0] *= 1e-7
    return check_gradients(lambda x: np.where(x > 0, x, 0.01 * x), {"x": x})


@right
def prelu_layer():
    class PReLU:
        def init(self, rng):
            return {"alpha": numpy.full(3, 0.25, "f")}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return np.maximum(x, 0) + channels(params["alpha"]) * np.minimum(x, 0), state

    return check_layer(PReLU(), data(2, 3, 4, 4))


@right
def elu_without_overflow():
    return check_gradients(
        lambda x: np.where(x > 0, x, 1.5 * (np.exp(np.minimum(x, 0)) - 1)), {"x": data(5, 5, scale=9)}
    )


@right
def gelu_both_ways():
    def gelu(x):
        exact = 0.5 * x * (1 + special.erf(x / np.sqrt(2)))
        return exact - 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x**3)))

    return check_gradients(gelu, {"x": data(12, scale=3)})


@right
def mish_swish_hardswish():
    def f(x):
        return x * np.tanh(np.logaddexp(0, x)) + x / (1 + np.exp(-x)) + x * np.clip(x + 3, 0, 6) / 6

    return check_gradients(f, {"x": data(4, 5, scale=4)})


@right
def softplus_with_beta():
    return check_gradients(lambda x, beta: np.logaddexp(0, beta * x) / beta, {"x": data(6), "beta": 40.0})


@right
def relu_of_a_cubic_tail():
    return check_gradients(lambda x: np.maximum(x, 0) ** 3, {"x": data(4, 4, scale=1e-3)})


# --- right: geometry and convolutions ---


@right
def bilinear_upsampling():
    def matrix(n):
        at = numpy.clip((numpy.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        low = numpy.minimum(at.astype(int), n - 2)
        m = numpy.zeros((2 * n, n))
        m[numpy.arange(2 * n), low], m[numpy.arange(2 * n), low + 1] = 1 - (at - low), at - low
        return m

    a, b = matrix(3), matrix(4)
    return check_gradients(lambda x: np.einsum("ih,nchw,jw->ncij", a, x, b), {"x": data(2, 2, 3, 4)})


@right
def pixel_shuffle():
    def shuffle(x, r=2):
        n, c, h, w = x.shape
        x = np.transpose(np.reshape(x, (n, c // r**2, r, r, h, w)), (0, 1, 4, 2, 5, 3))
        return np.reshape(x, (n, c // r**2, h * r, w * r)) ** 2

    return check_gradients(shuffle, {"x": data(1, 8, 3, 2)})


@right
def strided_convolution_by_loops():
    def conv(x, w, b):
        rows = []
        for i in range(0, x.shape[2] - 2, 2):
            row = [np.tensordot(x[:, :, i : i + 3, j : j + 3], w, ([1, 2, 3], [1, 2, 3])) + b for j in (0, 2)]
            rows.append(np.stack(row, axis=-1))
        return np.stack(rows, axis=-2)

    return check_gradients(conv, {"x": data(2, 2, 5, 5), "w": data(3, 2, 3, 3), "b": data(3)})


class Depthwise:
    """Each channel with its own 3x3 kernel, by loops, with a size that is known at the first call."""

    def init(self, rng):
        return {"k": rng.normal(size=(4, 3, 3)).astype("f")}, {}

    def __call__(self, params, state, x, *, train=False):
        out = []
        for c in range(x.shape[1]):
            p = np.pad(x[:, c], ((0, 0), (1, 1), (1, 1)), mode="constant")
            total = 0.0
            for i in range(3):
                for j in range(3):
                    total = total + params["k"][c, i, j] * p[:, i : i + x.shape[2], j : j + x.shape[3]]
            out.append(total)
        return np.stack(out, axis=1), state


@right
def depthwise_convolution_layer():
    return check_layer(Depthwise(), data(2, 4, 4, 5))


def windows(x, k):
    return numpy.lib.stride_tricks.sliding_window_view(x, (k, k), axis=(2, 3))  # (N, C, H', W', k, k)


def convolve(x, w):
    return numpy.einsum("nchwij,ocij->nohw", windows(x, w.shape[-1]), w)


def convolve_back_x(g, w):
    p = w.shape[-1] - 1
    g = numpy.pad(g, ((0, 0), (0, 0), (p, p), (p, p)))
    return numpy.einsum("nohwij,ocij->nchw", windows(g, w.shape[-1]), w[:, :, ::-1, ::-1])


def convolve_back_w(g, x, k):
    return numpy.einsum("nchwij,nohw->ocij", windows(x, k), g)


@right
def convolution_primitive_by_windows():
    conv = op(
        convolve,
        lambda ans, x, w: lambda g: convolve_back_x(g, w),
        lambda ans, x, w: lambda g: convolve_back_w(g, x, w.shape[-1]),
    )
    return check_gradients(conv, {"x": data(2, 3, 5, 6), "w": data(2, 3, 3, 3)})


@right
def affine_sampling_of_an_image():
    # Bilinear sampling at places that are parameters: kinks at whole pixels, which these avoid.
    def sample(image, at):
        low = numpy.floor(getval(at) if not hasattr(at, "_value") else at._value).astype(int)
        low = numpy.asarray(getval(low))
        f = at - low
        i, j = low[:, 0], low[:, 1]
        top = image[i, j] * (1 - f[:, 1]) + image[i, j + 1] * f[:, 1]
        bottom = image[i + 1, j] * (1 - f[:, 1]) + image[i + 1, j + 1] * f[:, 1]
        return top * (1 - f[:, 0]) + bottom * f[:, 0]

    at = numpy.random.default_rng(1).uniform(0.1, 3.9, (6, 2))
    return check_gradients(sample, {"image": data(6, 6), "at": at})


# --- right: linear algebra and the rest of NumPy ---


@right
def fft_filter():
    h = numpy.fft.fft2(data(6, 6, seed=3))
    return check_gradients(lambda x: np.real(np.fft.ifft2(np.fft.fft2(x) * h)), {"x": data(6, 6)})


@right
def power_spectrum_loss():
    return check_gradients(lambda x: np.log(np.abs(np.fft.fft(x)) ** 2 + 1e-3), {"x": data(3, 8)})


@right
def einsum_of_three():
    arrays = {"a": data(3, 4), "b": data(4, 5, seed=1), "c": data(5, 3, seed=2)}
    return check_gradients(lambda a, b, c: np.einsum("ij,jk,ki->i", a, b, c), arrays)


@right
def inverse_and_determinant():
    a = numpy.eye(4) + 0.2 * data(4, 4)
    return check_gradients(lambda a: np.linalg.inv(a) * np.linalg.det(a), {"a": a})


@right
def solve_badly_conditioned():
    a = numpy.diag([1.0, 1e-3, 1e-5]) + 1e-6 * data(3, 3)
    return check_gradients(np.linalg.solve, {"a": a, "b": data(3)})


@right
def gaussian_process_by_cholesky():
    x, y = numpy.linspace(0, 1, 6), data(6)

    def nll(log_length, log_noise):
        k = np.exp(-0.5 * (x[:, None] - x) ** 2 / np.exp(2 * log_length)) + np.exp(log_noise) * numpy.eye(6)
        l = np.linalg.cholesky(k)  # noqa: E741
        a = np.linalg.solve(l, y)
        return 0.5 * np.sum(a**2) + np.sum(np.log(np.diag(l)))

    return check_gradients(nll, {"log_length": -1.0, "log_noise": -3.0})


@right
def log_determinant():
    return check_gradients(lambda a: np.linalg.slogdet(a @ a.T + 0.1 * numpy.eye(4))[1], {"a": data(4, 3)})


@right
def nuclear_norm_by_svd():
    return check_gradients(lambda a: np.sum(np.linalg.svd(a, compute_uv=False)), {"a": data(4, 3)})


@right
def eigenvalues_of_a_symmetric_matrix():
    return check_gradients(lambda a: np.linalg.eigh(0.5 * (a + a.T))[0] ** 2, {"a": data(4, 4)})


@right
def spectral_norm_from_the_state():
    class Spectral:
        def init(self, rng):
            u, v = rng.normal(size=3), rng.normal(size=4)
            return {"w": rng.normal(size=(3, 4))}, {"u": u / (u @ u) ** 0.5, "v": v / (v @ v) ** 0.5}

        def __call__(self, params, state, x, *, train=False, rng=None):
            sigma = np.dot(np.dot(state["u"], params["w"]), state["v"])
            return np.einsum("oc,nchw->nohw", params["w"] / sigma, x), state

    return check_layer(Spectral(), data(2, 4, 2, 2), seed=2)


@right
def cumulative_sums():
    return check_gradients(lambda x: np.cumsum(x, axis=1) * np.cumsum(np.exp(x), axis=0), {"x": data(4, 5)})


@right
def repeated_indices():
    index = numpy.array([0, 2, 2, 2, 1, 0])
    return check_gradients(lambda table: table[index] * numpy.arange(6)[:, None], {"table": data(4, 3)})


def scatter(values, index, n):
    total = numpy.zeros((n, *values.shape[1:]))
    numpy.add.at(total, index, values)
    return total


@right
def scatter_add_primitive():
    index = numpy.array([0, 3, 3, 1, 0])
    add = op(lambda v: scatter(v, index, 4), lambda ans, v: lambda g: g[index])
    return check_gradients(lambda v: np.tanh(add(v)), {"v": data(5, 2)})


@right
def broadcasting_of_four_arrays():
    arrays = {"a": data(2, 1, 3), "b": data(4, 1), "c": data(3), "d": 0.3}
    return check_gradients(lambda a, b, c, d: a * b + c / (2 + np.cos(b)) ** d, arrays)


@right
def python_scalars():
    return check_gradients(lambda a, b: a**b + float(3), {"a": 1.3, "b": -2.0})


@right
def unused_argument():
    return check_gradients(lambda x, unused: np.exp(x), {"x": data(3), "unused": data(3)})


@right
def large_array_5000():
    return check_gradients(
        lambda x: np.sum(np.sin(x) * x.mean(axis=1, keepdims=True), 0), {"x": data(50, 100)}
    )


@right
def sinkhorn_unrolled():
    def plan(cost):
        k, u = np.exp(-cost / 0.1), np.ones(4)
        for _ in range(10):
            v = 1 / (k.T @ u)
            u = 1 / (k @ v)
        return u[:, None] * k * v

    return check_gradients(plan, {"cost": numpy.random.default_rng(0).uniform(size=(4, 4))})


@right
def recurrent_network_unrolled():
    x = data(6, 2, 3)

    def run(wx, wh, b):
        h = np.zeros((2, 4))
        for t in range(6):
            i, o = np.split(x[t] @ wx + h @ wh + b, 2, axis=1)
            h = special.expit(i) * np.tanh(o) + 0.5 * h
        return h

    arrays = {"wx": data(3, 8), "wh": data(4, 8, seed=1), "b": data(8)}
    return check_gradients(run, arrays)


@right
def newton_square_root():
    def root(a):
        r = 0.5 * (a + 1)
        for _ in range(8):
            r = 0.5 * (r + a / r)
        return r

    return check_gradients(root, {"a": numpy.array([0.01, 2.0, 900.0])})


@right
def product_and_power():
    return check_gradients(lambda x: np.prod(x, axis=1) + np.sum(x**5, axis=1), {"x": data(3, 4)})


# --- right: primitives and layers in many ways of writing ---


@right
def integer_table_in_the_state():
    class Shuffle:
        def init(self, rng):
            return {}, {"order": rng.permutation(4)}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return x[:, state["order"]] * numpy.arange(1.0, 5.0).reshape(1, -1, 1, 1), state

    return check_layer(Shuffle(), data(1, 4, 2, 2))


@right
def dropout_with_its_rng():
    def drop(params, state, x, train, rng):
        return x**2 * (rng.random(x.shape) < 0.7) / 0.7 if train else x**2

    return check_layer(Plain(drop), data(2, 3, 4, 4))


@right
def gumbel_softmax_with_its_rng():
    class Gumbel:
        def init(self, rng):
            return {"bias": numpy.zeros(3)}, {}

        def __call__(self, params, state, x, train=False, **kwargs):
            z = (x + channels(params["bias"]) + kwargs["rng"].gumbel(size=x.shape)) / 0.5
            z = np.exp(z - np.max(z, 1, keepdims=True))
            return z / np.sum(z, 1, keepdims=True), state

    return check_layer(Gumbel(), data(2, 3, 2, 2), seed=4)


@right
def stochastic_depth_dropped():
    def call(params, state, x, train, rng):
        branch = np.tanh(x * params["w"])
        return x + (branch if rng.random() < 0.5 else 2 * branch)

    return check_layer(Plain(call, {"w": numpy.array(1.0)}), data(1, 2, 3, 3), seed=1)


@right
def softmax_primitive_with_kwargs():
    def vjp(ans, x, axis=-1):
        return lambda g: ans * (g - numpy.sum(g * ans, axis=axis, keepdims=True))

    softmax = op(scipy.special.softmax, vjp)
    return check_gradients(lambda x: softmax(x, axis=0), {"x": data(4, 3, scale=3)})


@right
def relu_with_a_saved_mask():
    @primitive
    def relu(x):
        return x * (x > 0)

    def relu_vjp(ans, x):
        mask = getval(x) > 0

        def back(g):
            g = numpy.array(g)  # a copy, in which writing is allowed
            g[~mask] = 0
            return g

        return back

    defvjp(relu, relu_vjp)
    return check_gradients(lambda x: relu(x) + x, {"x": data(5, 5)})


@right
def product_by_defvjp_argnums():
    product = primitive(lambda x, y: x * y)

    def maker(argnums, ans, args, kwargs):
        return lambda g: tuple(g * args[1 - i] for i in argnums)

    defvjp_argnums(product, maker)
    return check_gradients(lambda x, y: product(x, y), {"x": data(3, 3), "y": data(3, 3, seed=1)})


@right
def second_derivative_detached_first_right():
    square = op(lambda x: x**2, lambda ans, x: lambda g: 2 * getval(x) * g)
    return check_gradients(lambda x: np.sum(square(x)), {"x": data(4)})


@right
def checkpointed_block():
    from autograd import checkpoint

    block = checkpoint(lambda x, w: np.tanh(x @ w))
    return check_gradients(lambda x, w: block(block(x, w), w), {"x": data(2, 3), "w": data(3, 3)})


@right
def numpys_ufuncs():
    # Not autograd's NumPy, yet right: autograd's boxes answer NumPy's ufuncs.
    return check_gradients(lambda x: numpy.maximum(x, 0) + numpy.exp(-x) * x, {"x": data(3, 3)})


@right
def a_ufunc_as_it_is():
    return check_gradients(np.tanh, {"x": data(3)})


@right
def a_primitive_as_it_is():
    @primitive
    def affine(x, w, b=0.0):
        return x * w + b

    defvjp(affine, lambda ans, x, w, b=0.0: lambda g: g * w, lambda ans, x, w, b=0.0: lambda g: g * x)
    return check_gradients(affine, {"w": data(3), "x": data(3, seed=1)})


@right
def method_partial_and_keyword_only():
    class Model:
        def loss(self, x, *, w, power):
            return np.sum((x * w) ** power)

    return check_gradients(functools.partial(Model().loss, power=2), {"x": data(4), "w": data(4, seed=1)})


@right
def a_view_is_returned():
    return check_gradients(lambda x: x.T[::-1], {"x": data(3, 4)})


@right
def identity():
    return check_gradients(lambda x: x, {"x": data(3)})


@right
def list_comprehension_into_array():
    return check_gradients(lambda x: np.array([x[0] * x[1], np.sin(x[2]), x[0]]), {"x": data(3)})


@right
def squeeze_excite_layer():
    class SE:
        def init(self, rng):
            w = {"down.w": rng.normal(size=(2, 4)), "up.w": rng.normal(size=(4, 2)), "up.b": numpy.zeros(4)}
            return w, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            z = np.tanh(np.mean(x, axis=(2, 3)) @ params["down.w"].T)
            gate = special.expit(z @ params["up.w"].T + params["up.b"])
            return x * gate[:, :, None, None], state

    return check_layer(SE(), data(2, 4, 3, 3))


@right
def layer_without_params_or_rng():
    class Twice:
        def init(self, rng):
            return {}, {}

        def __call__(self, params, state, x, train):
            return 2 * x, state

    return check_layer(Twice(), data(1, 1, 3, 3))


@right
def moving_average_updated_by_a_new_dict():
    def call(params, state, x, train, rng):
        scale = np.sqrt(np.mean(x**2)) if train else state["rms"]
        if train:
            state = dict(state, rms=0.9 * state["rms"] + 0.1 * getval(scale))
        return x / scale, state

    return check_layer(Plain(call, state={"rms": numpy.array(1.0)}), data(2, 1, 3, 3))


@right
def a_cache_by_shape():
    # Caches a table by the image's shape, never its values.
    grids = {}

    def coords(x):
        key = x.shape
        if key not in grids:
            grids[key] = numpy.linspace(-1, 1, key[-1])
        return x * grids[key]

    return check_gradients(coords, {"x": data(2, 1, 3, 5)})


# --- wrong: a term, a factor, a sign ---


@wrong
def sigmoid_with_the_sign_turned():
    sigmoid = op(scipy.special.expit, lambda ans, x: lambda g: -g * ans * (1 - ans))
    return check_gradients(lambda x: sigmoid(x), {"x": data(3, 4)})


@wrong
def tanh_without_the_square():
    tanh = op(numpy.tanh, lambda ans, x: lambda g: g * (1 - ans))
    return check_gradients(lambda x: tanh(x), {"x": data(5)})


@wrong
def matmul_of_squares_untransposed():
    matmul = op(numpy.matmul, lambda ans, a, b: lambda g: g @ b, lambda ans, a, b: lambda g: a.T @ g)
    return check_gradients(lambda a, b: matmul(a, b), {"a": data(3, 3), "b": data(3, 3, seed=1)})


@wrong
def product_rule_with_one_term():
    # x * sigmoid(x), where the x of the sigmoid is forgotten
    swish = op(lambda x: x / (1 + numpy.exp(-x)), lambda ans, x: lambda g: g / (1 + numpy.exp(-x)))
    return check_gradients(lambda x: swish(x), {"x": data(6)})


@wrong
def factor_of_100002():
    exp = op(numpy.exp, lambda ans, x: lambda g: 1.00002 * g * ans)
    return check_gradients(lambda x: exp(x), {"x": data(10)})


@wrong
def power_exponent_in_the_derivative():
    power = op(
        lambda x, p: x**p,
        lambda ans, x, p: lambda g: g * p * x**p,
        lambda ans, x, p: lambda g: g * ans * numpy.log(x),
    )
    return check_gradients(lambda x, p: power(x, p), {"x": numpy.abs(data(4)) + 0.5, "p": data(4, seed=1)})


@wrong
def derivative_by_the_exponent_left_out():
    power = op(lambda x, p: x**p, lambda ans, x, p: lambda g: g * p * x ** (p - 1), None)
    return check_gradients(lambda x, p: power(x, p), {"x": numpy.abs(data(4)) + 0.5, "p": data(4, seed=1)})


@wrong
def permutation_not_inverted():
    move = op(
        lambda x: numpy.transpose(x, (1, 2, 0)).copy(), lambda ans, x: lambda g: numpy.transpose(g, (1, 2, 0))
    )
    return check_gradients(lambda x: move(x), {"x": data(3, 3, 3)})


@wrong
def reshape_in_the_order_of_fortran():
    flat = op(lambda x: x.reshape(4, 6), lambda ans, x: lambda g: g.reshape(x.shape, order="F"))
    return check_gradients(lambda x: flat(x) ** 2, {"x": data(4, 3, 2)})


@wrong
def cumsum_backward_not_reversed():
    cumsum = op(lambda x: numpy.cumsum(x), lambda ans, x: lambda g: numpy.cumsum(g))
    return check_gradients(lambda x: cumsum(x), {"x": data(7)})


@wrong
def division_without_the_square():
    divide = op(lambda a, b: a / b, lambda ans, a, b: lambda g: g / b, lambda ans, a, b: lambda g: -g * a / b)
    return check_gradients(lambda a, b: divide(a, b), {"a": data(4), "b": data(4, seed=1)})


@wrong
def for_a_sum_only():
    # Right where every entry of g is the same.
    smooth = op(lambda x: x - 0.25 * x.sum(), lambda ans, x: lambda g: g * (1 - 0.25 * x.size))
    return check_gradients(lambda x: smooth(x), {"x": data(6)})


@wrong
def a_loss_that_ignores_g():
    mse = op(lambda x: numpy.mean(x**2), lambda ans, x: lambda g: 2 * x / x.size)
    return check_gradients(lambda x: 3 * mse(x), {"x": data(3, 3)})


@wrong
def a_loss_that_ignores_g_called_alone():
    # Right if g is 1; the cotangent of a scalar must not always be 1.
    mse = op(lambda x: numpy.mean(x**2), lambda ans, x: lambda g: 2 * x / x.size)
    return check_gradients(lambda x: mse(x), {"x": data(3, 3)})


@wrong
def absolute_value_of_g():
    double = op(lambda x: 2 * x, lambda ans, x: lambda g: 2 * numpy.abs(g))
    return check_gradients(lambda x: double(x), {"x": data(8)})


@wrong
def mean_over_the_wrong_count():
    mean = op(
        lambda x: x.mean(axis=1),
        lambda ans, x: lambda g: numpy.repeat(g[:, None] / x.shape[0], x.shape[1], 1),
    )
    return check_gradients(lambda x: mean(x), {"x": data(3, 5)})


# --- wrong: at a few places only ---


def spoilt(gradient, place, factor=-1.0):
    gradient = numpy.array(gradient)
    gradient[place] *= factor
    return gradient


@wrong
def wrong_in_the_last_row():
    square = op(lambda x: x**2, lambda ans, x: lambda g: spoilt(2 * x * g, -1, 0.5))
    return check_gradients(lambda x: np.sum(square(x), 0), {"x": data(7, 5)})


@wrong
def wrong_in_a_corner_of_an_image():
    blur = op(lambda x: 0.5 * x, lambda ans, x: lambda g: spoilt(0.5 * g, (..., 0, -1), 1.1))
    return check_gradients(lambda x: blur(x), {"x": data(2, 3, 6, 6)})


@wrong
def wrong_in_one_channel_of_64():
    scale = op(
        lambda x, w: x * w,
        lambda ans, x, w: lambda g: g * w,
        lambda ans, x, w: lambda g: spoilt((g * x).sum((0, 1)), 41),
    )
    return check_gradients(lambda x, w: scale(x, w), {"x": data(3, 5, 64), "w": data(64, seed=2)})


@wrong
def wrong_in_one_entry_of_5000():
    sine = op(numpy.sin, lambda ans, x: lambda g: spoilt(g * numpy.cos(x), 3217, 0.9))
    return check_gradients(lambda x: sine(x), {"x": data(5000)})


@wrong
def wrong_in_one_of_5000_summed():
    sine = op(
        lambda x: numpy.sum(numpy.sin(x)), lambda ans, x: lambda g: spoilt(g * numpy.cos(x), (7, 77), 0.0)
    )
    return check_gradients(lambda x: sine(x), {"x": data(50, 100)})


@wrong
def wrong_for_negative_x():
    cube = op(lambda x: x**3, lambda ans, x: lambda g: 3 * x * numpy.abs(x) * g)
    return check_gradients(lambda x: cube(x), {"x": data(4, 4)})


@wrong
def wrong_beyond_a_threshold():
    # relu6's derivative, without the 6
    relu6 = op(lambda x: numpy.clip(x, 0, 6), lambda ans, x: lambda g: g * (x > 0))
    return check_gradients(lambda x: relu6(x), {"x": numpy.append(data(12), 6.3)})


@wrong
def wrong_for_the_one_outlier():
    x = data(6, 6)
    x[2, 3] = 25.0
    log1pexp = op(
        lambda x: numpy.logaddexp(0, x),
        lambda ans, x: lambda g: g * numpy.where(x > 20, 0.0, scipy.special.expit(x)),
    )
    return check_gradients(lambda x: log1pexp(x), {"x": x})


@wrong
def wrong_in_small_entries_beside_large():
    # sqrt's derivative with a floor that should not be there, seen only in the flat part
    sqrt = op(numpy.sqrt, lambda ans, x: lambda g: g * 0.5 / numpy.minimum(ans, 10.0))
    return check_gradients(lambda x: sqrt(x), {"x": numpy.array([1e-12, 1e-6, 1.0, 400.0])})


@wrong
def wrong_in_the_quiet_channels():
    scales = numpy.array([1e6, 1.0, 1e-6]).reshape(1, 3, 1, 1)

    def vjp(ans, x):
        return lambda g: spoilt(g * scales, (slice(None), 2), -1)

    mix = op(lambda x: x * scales, vjp)
    return check_gradients(lambda x: mix(x), {"x": data(2, 3, 2, 2)})


@wrong
def wrong_in_the_quiet_channel_of_a_large_array():
    scales = numpy.array([1.0, 1.0, 1e-8, 1.0]).reshape(1, 4, 1, 1)
    mix = op(lambda x: x * scales, lambda ans, x: lambda g: spoilt(g * scales, (slice(None), 2), 3.0))
    return check_gradients(lambda x: mix(x), {"x": data(2, 4, 16, 16)})


@wrong
def wrong_parameter_beside_a_steep_one():
    f = op(lambda p: 1e8 * p[0] + p[1] ** 2, lambda ans, p: lambda g: g * numpy.array([1e8, -2 * p[1]]))
    return check_gradients(lambda p: f(p), {"p": numpy.array([1e-3, 0.7])})


@wrong
def sign_hidden_by_a_constant_of_1e10():
    f = op(lambda x: 1e10 + numpy.sum(x**2), lambda ans, x: lambda g: -2 * x * g)
    return check_gradients(lambda x: f(x), {"x": data(4)})


@wrong
def sign_hidden_beside_a_huge_output():
    f = op(lambda x: numpy.append(1e12, numpy.sin(x)), lambda ans, x: lambda g: -g[1:] * numpy.cos(x))
    return check_gradients(lambda x: f(x), {"x": data(4)})


@wrong
def zero_for_a_tiny_function():
    f = op(lambda x: 1e-30 * x**2, lambda ans, x: lambda g: numpy.zeros_like(x))
    return check_gradients(lambda x: f(x) + 1e-30 * x, {"x": data(4)})


@wrong
def periodic_with_the_wrong_sign():
    # A step of a whole period measures 0.
    f = op(
        lambda x: numpy.cos(2e6 * numpy.pi * x),
        lambda ans, x: lambda g: 2e6 * numpy.pi * g * numpy.sin(2e6 * numpy.pi * x),
    )
    return check_gradients(lambda x: f(x), {"x": 0.3 * data(5)})


@wrong
def steep_sigmoid_detached():
    # Where the sigmoid of 1e5 x turns, its derivative is taken for that of a step: 0.
    f = op(lambda x: scipy.special.expit(1e5 * x), lambda ans, x: lambda g: 0 * g)
    return check_gradients(lambda x: f(x) + x, {"x": numpy.array([1e-6, -2e-5, 0.4])})


@wrong
def saturated_cross_entropy_sign():
    z, labels = sure_logits(6, 3, 16, 20)
    onehot = numpy.eye(3)[labels]
    loss = op(
        lambda z: -numpy.mean(scipy.special.log_softmax(z, 1)[onehot > 0]),
        lambda ans, z: lambda g: g * (onehot - scipy.special.softmax(z, 1)) / 6,
    )
    return check_gradients(lambda z: loss(z), {"z": z})


# --- wrong: batches, modes, which gradients are asked for ---


def linear_op(back_w=lambda g, x: x.T @ g, back_b=lambda g: g.sum(0)):
    return op(
        lambda x, w, b: x @ w + b,
        lambda ans, x, w, b: lambda g: g @ w.T,
        lambda ans, x, w, b: lambda g: back_w(g, x),
        lambda ans, x, w, b: lambda g: back_b(g),
    )


@wrong
def bias_of_the_first_sample_only():
    linear = linear_op(back_b=lambda g: g[0])
    return check_gradients(lambda x, w, b: linear(x, w, b), {"x": data(2, 3), "w": data(3, 2), "b": data(2)})


@wrong
def weights_of_the_last_sample_only():
    linear = linear_op(back_w=lambda g, x: numpy.outer(x[-1], g[-1]))
    return check_gradients(lambda x, w, b: linear(x, w, b), {"x": data(3, 3), "w": data(3, 4), "b": data(4)})


@wrong
def right_with_batch_2_only():
    linear = linear_op(back_b=lambda g: 2 * g.mean(0))
    return check_gradients(lambda x, w, b: linear(x, w, b), {"x": data(3, 3), "w": data(3, 2), "b": data(2)})


@wrong
def batch_mean_where_the_sum_belongs():
    class Linear:
        matmul = staticmethod(
            op(
                lambda w, x: numpy.einsum("oc,nchw->nohw", w, x),
                lambda ans, w, x: lambda g: numpy.einsum("nohw,nchw->oc", g, x) / len(x),
                lambda ans, w, x: lambda g: numpy.einsum("oc,nohw->nchw", w, g),
            )
        )

        def init(self, rng):
            return {"w": rng.normal(size=(2, 3))}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return self.matmul(params["w"], x), state

    return check_layer(Linear(), data(4, 3, 2, 2))


@wrong
def samples_mixed_up_in_the_backward():
    f = op(
        lambda x: x * numpy.arange(1.0, 4.0)[:, None],
        lambda ans, x: lambda g: g * numpy.arange(3.0, 0.0, -1)[:, None],
    )
    return check_gradients(lambda x: f(x), {"x": data(3, 2)})


@wrong
def wrong_in_training_only():
    noisy = op(lambda x: 2 * x, lambda ans, x: lambda g: g)
    layer = Plain(lambda params, state, x, train, rng: noisy(x) if train else 2 * x)
    return check_layer(layer, data(1, 2, 3, 3))


@wrong
def wrong_in_evaluation_only():
    doubled = op(lambda x: 2 * x, lambda ans, x: lambda g: g)
    layer = Plain(lambda params, state, x, train, rng: 2 * x if train else doubled(x))
    return check_layer(layer, data(1, 2, 3, 3), train=False)


@wrong
def evaluation_wrong_off_the_initial_state():
    # Divides by the variance, not its root; right while the running variance is 1.
    norm = op(lambda x, m, v: (x - m) / numpy.sqrt(v), lambda ans, x, m, v: lambda g: g / v, None, None)

    class Norm:
        def init(self, rng):
            return {}, {"mean": numpy.zeros((1, 2, 1, 1)), "var": numpy.ones((1, 2, 1, 1))}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return norm(x, state["mean"], state["var"]), state

    return check_layer(Norm(), data(2, 2, 3, 3), train=False)


@wrong
def evaluation_ignores_the_running_mean_in_gamma():
    scale = op(
        lambda x, gamma, mean: (x - mean) * gamma,
        lambda ans, x, gamma, mean: lambda g: g * gamma,
        lambda ans, x, gamma, mean: lambda g: numpy.sum(g * x, axis=(0, 2, 3), keepdims=True),
    )

    def call(params, state, x, train, rng):
        return scale(x, params["gamma"], state["mean"])

    layer = Plain(call, {"gamma": numpy.ones((1, 2, 1, 1))}, {"mean": numpy.zeros((1, 2, 1, 1))})
    return check_layer(layer, data(2, 2, 3, 3), train=False)


@wrong
def wrong_off_the_initial_parameters():
    # gamma is 1 at first, and forgotten on the way back.
    affine = op(
        lambda x, gamma: x * gamma,
        lambda ans, x, gamma: lambda g: g,
        lambda ans, x, gamma: lambda g: numpy.sum(g * x, axis=(0, 2, 3), keepdims=True),
    )
    layer = Plain(lambda p, s, x, train, rng: affine(x, p["gamma"]), {"gamma": numpy.ones((1, 3, 1, 1), "f")})
    return check_layer(layer, data(2, 3, 2, 2))


@wrong
def wrong_when_all_are_asked_for():
    product = primitive(lambda x, y: x * y)

    def maker(argnums, ans, args, kwargs):
        x, y = args
        if len(argnums) > 1:
            return lambda g: (g * y, g * y)
        return lambda g: (g * (y if argnums[0] == 0 else x),)

    defvjp_argnums(product, maker)
    return check_gradients(lambda x, y: product(x, y), {"x": data(4), "y": data(4, seed=1)})


@wrong
def wrong_when_one_is_asked_for():
    product = primitive(lambda x, y: x * y)

    def maker(argnums, ans, args, kwargs):
        x, y = args
        if len(argnums) > 1:
            return lambda g: (g * y, g * x)
        return lambda g: (g * y,)  # whichever it is

    defvjp_argnums(product, maker)
    return check_gradients(lambda x, y: product(x, y), {"x": data(4), "y": data(4, seed=1)})


@wrong
def layer_wrong_when_all_are_asked_for():
    linear = primitive(lambda w, x: numpy.einsum("oc,nchw->nohw", w, x))

    def maker(argnums, ans, args, kwargs):
        w, x = args

        def back(g):
            by_w = numpy.einsum("nohw,nchw->oc", g, x)
            if argnums == (0, 1):  # "saves a pass" with the gradient that it has just made
                by_w = numpy.einsum("nohw,nchw->oc", g[:1], x[:1])
            return tuple([by_w, numpy.einsum("oc,nohw->nchw", w, g)][i] for i in argnums)

        return back

    defvjp_argnums(linear, maker)
    layer = Plain(lambda p, s, x, train, rng: linear(p["w"], x), {"w": data(2, 3)})
    return check_layer(layer, data(2, 3, 2, 2))


@wrong
def wrong_when_an_argument_is_given_twice():
    # The vjp tells its arguments apart by identity.
    add = primitive(lambda a, b: 2 * a + 3 * b)

    def maker(argnums, ans, args, kwargs):
        return lambda g: tuple((2 if args[i] is args[0] else 3) * g for i in argnums)

    defvjp_argnums(add, maker)
    return check_gradients(lambda x, y: add(x, y) * add(x, x), {"x": data(4), "y": data(4, seed=1)})


# --- wrong: straight through, detached ---


@wrong
def straight_through_round():
    quantise = op(lambda x: numpy.round(4 * x) / 4, lambda ans, x: lambda g: g)
    return check_gradients(lambda x: quantise(x), {"x": data(3, 4)})


@wrong
def straight_through_sign_of_weights():
    binary = op(numpy.sign, lambda ans, w: lambda g: g * (numpy.abs(w) <= 1))

    class BinaryLinear:
        def init(self, rng):
            return {"w": rng.normal(size=(3, 2))}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return np.einsum("oc,nchw->nohw", binary(params["w"]), x), state

    return check_layer(BinaryLinear(), data(1, 2, 2, 2))


@wrong
def straight_through_threshold_of_a_mask():
    hard = op(lambda p: (p > 0.5).astype(float), lambda ans, p: lambda g: g)
    return check_gradients(lambda z: hard(special.expit(z)) * np.tanh(z), {"z": data(3, 3)})


@wrong
def straight_through_by_getval():
    def ste(x):
        return x + getval(numpy.round(getval(x)) - getval(x))

    return check_gradients(ste, {"x": data(5)})


@wrong
def argmax_one_hot_with_the_gradient_of_softmax():
    hard = op(
        lambda z: (z == z.max(1, keepdims=True)).astype(float),
        lambda ans, z: lambda g: (s := scipy.special.softmax(z, 1)) * (g - (g * s).sum(1, keepdims=True)),
    )
    return check_gradients(lambda z: hard(z), {"z": data(4, 3)})


@wrong
def mean_detached_in_a_norm():
    def norm(x):
        return (x - getval(np.mean(x, axis=1, keepdims=True))) / np.std(x, axis=1, keepdims=True)

    return check_gradients(norm, {"x": data(3, 5)})


@wrong
def batch_statistics_detached():
    class Norm(MyBatchNorm):
        def __call__(self, params, state, x, *, train=False, rng=None):
            mean, std = getval(np.mean(x, (0, 2, 3))), getval(np.std(x, (0, 2, 3)))
            y = (x - channels(mean)) / channels(std + 1e-5)
            return y * channels(params["weight"]) + channels(params["bias"]), state

    return check_layer(Norm(2), data(3, 2, 2, 2))


@wrong
def attention_weights_detached():
    def f(q, k, v):
        s = np.exp(q @ k.T)
        return getval(s / np.sum(s, 1, keepdims=True)) @ v

    return check_gradients(f, {"q": data(3, 2), "k": data(4, 2), "v": data(4, 2)})


@wrong
def a_parameter_made_constant():
    def call(params, state, x, train, rng):
        w = numpy.asarray(getval(params["w"]))
        return np.tanh(x * w + params["b"])

    return check_layer(Plain(call, {"w": numpy.array(0.7), "b": numpy.array(0.1)}), data(1, 1, 3, 3))


@wrong
def normalising_sum_detached():
    def softmax(x):
        e = np.exp(x - np.max(x))
        return e / float(getval(np.sum(e)))

    return check_gradients(softmax, {"x": data(5)})


@wrong
def soft_target_detached_on_one_side():
    def symmetric_kl(p, q):
        p, q = p - special.logsumexp(p), q - special.logsumexp(q)
        return np.sum(np.exp(getval(p)) * (p - q)) + np.sum(np.exp(q) * (q - p))

    return check_gradients(symmetric_kl, {"p": data(4), "q": data(4, seed=1)})


# --- wrong: written over, kept, reused ---


@wrong
def forward_writes_into_x():
    relu = op(lambda x: numpy.maximum(x, 0, out=x), lambda ans, x: lambda g: g * (x > 0))
    return check_gradients(lambda x: relu(x) + 2 * x, {"x": data(4, 4)})


@wrong
def forward_sorts_x_in_place():
    def biggest(x):
        x.sort()
        return x[-2:].copy()

    def vjp(ans, x):
        return lambda g: numpy.concatenate([numpy.zeros(x.size - 2), g])

    largest = op(biggest, vjp)
    return check_gradients(lambda x: largest(x), {"x": data(5)})


@wrong
def forward_normalises_the_weights_in_place():
    class Normalised:
        def init(self, rng):
            return {"w": rng.normal(size=(3, 2))}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            w = getval(params["w"])
            w /= numpy.sqrt((w**2).sum(1, keepdims=True))
            return np.einsum("oc,nchw->nohw", params["w"], x), state

    return check_layer(Normalised(), data(2, 2, 2, 2))


@wrong
def forward_writes_into_the_state():
    class Running:
        def init(self, rng):
            return {}, {"mean": numpy.zeros(2)}

        def __call__(self, params, state, x, *, train=False, rng=None):
            state["mean"] *= 0.9
            state["mean"] += 0.1 * getval(np.mean(x, (0, 2, 3)))
            return x - channels(state["mean"]), state

    return check_layer(Running(), data(2, 2, 3, 3))


@wrong
def forward_writes_into_the_state_unused_in_training():
    # The value is the same each time; the caller's state is not.
    class Running:
        def init(self, rng):
            return {}, {"mean": numpy.zeros(2)}

        def __call__(self, params, state, x, *, train=False, rng=None):
            if not train:
                return x - channels(state["mean"]), state
            mean = np.mean(x, (0, 2, 3))
            state["mean"][...] = 0.9 * state["mean"] + 0.1 * getval(mean)
            return x - channels(mean), state

    return check_layer(Running(), data(2, 2, 3, 3))


@wrong
def parameters_replaced_in_the_dict():
    def call(params, state, x, train, rng):
        params["w"] = 0.9 * params["w"]  # decay, as a side effect
        return x * params["w"]

    class Layer(Plain):
        def init(self, rng):
            return {"w": numpy.array(2.0)}, {}

    return check_layer(Layer(call), data(1, 1, 2, 2))


@wrong
def vjp_writes_into_g():
    def vjp(ans, x):
        def back(g):
            g *= 2 * x
            return g

        return back

    square = op(lambda x: x**2, vjp)
    return check_gradients(lambda x: np.sin(x) + square(x), {"x": data(4)})


@wrong
def vjp_of_a_clip_writes_zeros_into_g():
    # Hidden with one image: autograd sums over axes of length 1, and so makes a copy.
    def vjp(ans, x):
        def back(g):
            g[numpy.abs(x) > 1] = 0
            return g

        return back

    clip = op(lambda x: numpy.clip(x, -1, 1), vjp)
    residual = Plain(lambda p, s, x, train, rng: x + clip(x))
    return check_layer(residual, data(2, 2, 4, 4))


@wrong
def vjp_writes_into_its_output():
    # Right the first time; a second call of the same vjp finds another ans.
    def vjp(ans, x):
        def back(g):
            numpy.multiply(ans, g, out=ans)  # exp's derivative, "without a copy"
            return ans

        return back

    exp = op(numpy.exp, vjp)
    return check_gradients(lambda x: (lambda y: y * y)(exp(x)) + exp(x), {"x": data(4)})


@wrong
def vjp_writes_into_its_output_called_once():
    # The same, and ans is the function's own value: whoever keeps that sees it change.
    def vjp(ans, x):
        def back(g):
            value = ans
            value *= g
            return value

        return back

    exp = op(numpy.exp, vjp)
    return check_gradients(lambda x: exp(x), {"x": data(4)})


@wrong
def vjp_writes_into_the_saved_x():
    def vjp(ans, x):
        def back(g):
            x[...] = numpy.cos(x)
            return g * x

        return back

    sine = op(numpy.sin, vjp)
    return check_gradients(lambda x: x**2 * sine(x), {"x": data(5)})


@wrong
def cache_of_the_last_x_used_twice():
    last = {}

    def forward(x):
        last["x"] = x
        return numpy.tanh(x)

    tanh = op(forward, lambda ans, x: lambda g: g * (1 - numpy.tanh(last["x"]) ** 2))
    return check_gradients(lambda x: tanh(2 * tanh(x)), {"x": data(4)})


@wrong
def layer_that_saves_x_on_itself_shared():
    class Square:
        def __init__(self):
            self.op = op(self.forward, lambda ans, x: lambda g: 2 * self.x * g)

        def forward(self, x):
            self.x = x
            return x**2

        def init(self, rng):
            return {}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return self.op(self.op(x)) if train else self.op(x), state

    return check_layer(Square(), data(1, 1, 3, 3))


@wrong
def cache_of_the_last_x_used_once():
    # Wrong only if the function is called elsewhere between its call and its gradient.
    last = {}

    def forward(x):
        last["x"] = x
        return x**2

    square = op(forward, lambda ans, x: lambda g: 2 * last["x"] * g)
    return check_gradients(lambda x: square(x), {"x": data(4)})


@wrong
def output_buffer_reused():
    buffer = numpy.empty((3, 3))

    def forward(x):
        numpy.multiply(x, x, out=buffer)
        return buffer

    square = op(forward, lambda ans, x: lambda g: 2 * x * g)
    return check_gradients(lambda x: square(x) + square(3 * x), {"x": data(3, 3)})


@wrong
def output_buffer_reused_and_read_by_the_vjp():
    class Sigmoid:
        def __init__(self, shape):
            self.out = numpy.empty(shape)
            self.op = op(self.forward, lambda ans, x: lambda g: g * self.out * (1 - self.out))

        def forward(self, x):
            scipy.special.expit(x, out=self.out)
            return self.out

        def init(self, rng):
            return {"a": numpy.array(1.0)}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return self.op(x) * params["a"] + self.op(-2 * x), state

    return check_layer(Sigmoid((1, 1, 2, 3)), data(1, 1, 2, 3))


@wrong
def padded_buffer_not_cleared():
    # The border keeps what an earlier, larger image left there: the value depends on what was before.
    buffer = numpy.zeros((6, 6))

    def blur(x):
        y = buffer[:-1] + 0.5
        buffer[1:5, 1:5] = getval(x)
        return x * y[1:5, 1:5]

    return check_gradients(blur, {"x": data(4, 4)})


@wrong
def gradient_accumulates_between_calls():
    # Right the first time.
    total = numpy.zeros(4)

    def back(g):
        total[...] += 2 * g
        return total.copy()

    double = op(lambda x: 2 * x, lambda ans, x: back)
    return check_gradients(lambda x: double(x), {"x": data(4)})


@wrong
def layer_accumulates_its_weights_gradient():
    class Scale:
        def __init__(self):
            self.grad = 0.0
            self.op = op(lambda x, w: x * w, lambda ans, x, w: lambda g: g * w, self.by_w)

        def by_w(self, ans, x, w):
            def back(g):
                self.grad = self.grad + numpy.sum(g * x)
                return self.grad

            return back

        def init(self, rng):
            return {"w": numpy.array(1.5)}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return self.op(x, params["w"]), state

    return check_layer(Scale(), data(1, 1, 3, 3))


@wrong
def buffers_freed_by_the_first_backward():
    # Right the first time, zero at a second call of the same vjp.
    def vjp(ans, x):
        saved = [x]

        def back(g):
            return 2 * saved.pop() * g if saved else numpy.zeros_like(x)

        return back

    square = op(lambda x: x**2, vjp)
    return check_gradients(lambda x: square(x), {"x": data(4)})


# --- wrong: what autograd cannot follow ---


@wrong
def numpys_where():
    return check_gradients(lambda x: numpy.where(x > 0, x, 0.1 * x), {"x": data(4)})


@wrong
def numpys_pad():
    return check_gradients(lambda x: np.sum(numpy.pad(x, 1), axis=0), {"x": data(3, 3)})


@wrong
def numpys_concatenate():
    return check_gradients(
        lambda x, y: numpy.concatenate([x, y], axis=0) * 2, {"x": data(2, 2), "y": data(1, 2)}
    )


@wrong
def numpys_einsum_in_a_layer():
    layer = Plain(lambda p, s, x, train, rng: numpy.einsum("oc,nchw->nohw", p["w"], x), {"w": data(2, 3)})
    return check_layer(layer, data(1, 3, 2, 2))


@wrong
def numpys_stack():
    return check_gradients(lambda x: numpy.stack([x[0], x[1] * x[2]]), {"x": data(3)})


@wrong
def filled_entry_by_entry():
    def f(x):
        y = numpy.zeros(3)
        for i in range(3):
            y[i] = x[i] ** 2
        return y

    return check_gradients(f, {"x": data(3)})


@wrong
def scipys_filter():
    import scipy.ndimage

    return check_gradients(lambda x: scipy.ndimage.gaussian_filter(x, 1.0), {"x": data(5, 5)})


@wrong
def math_of_one_number():
    import math

    return check_gradients(lambda x: math.exp(x) * x, {"x": 0.3})


@wrong
def adds_in_place():
    def f(x, b):
        x += b
        return np.tanh(x)

    return check_gradients(f, {"x": data(3, 2), "b": data(2)})


@wrong
def sets_negative_ones_to_zero():
    def f(x):
        x[x < 0] = 0
        return x * 1.0

    return check_gradients(f, {"x": data(4)})


@wrong
def centres_its_image_in_place():
    class Centre:
        def init(self, rng):
            return {"s": numpy.ones(2)}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            x -= np.mean(x, axis=(2, 3), keepdims=True)
            x *= channels(params["s"])
            return x, state

    return check_layer(Centre(), data(1, 2, 3, 3))


@wrong
def boxes_left_in_the_state():
    def call(params, state, x, train, rng):
        m = np.mean(x, axis=(0, 2, 3))
        return x - channels(m), {"mean": 0.9 * state["mean"] + 0.1 * m}

    return check_layer(Plain(call, state={"mean": numpy.zeros(2)}), data(2, 2, 3, 3))


@wrong
def boxes_of_a_parameter_left_in_the_state():
    # An average of the weights, kept for evaluation.
    def call(params, state, x, train, rng):
        return x * params["w"], dict(state, ema=0.99 * state["ema"] + 0.01 * params["w"])

    return check_layer(Plain(call, {"w": numpy.array(1.0)}, {"ema": numpy.array(0.0)}), data(1, 1, 2, 2))


@wrong
def keyword_argument_not_followed():
    @primitive
    def scale(x, *, factor):
        return x * getval(factor)

    defvjp(scale, lambda ans, x, factor: lambda g: g * getval(factor))
    return check_gradients(lambda x, factor: scale(x, factor=factor), {"x": data(4), "factor": 1.7})


@wrong
def keyword_argument_of_numpys_primitive():
    return check_gradients(lambda x, low: np.clip(x, a_min=low, a_max=2.0) * x, {"x": data(5), "low": 0.1})


@wrong
def layer_passes_its_bias_by_keyword():
    @primitive
    def linear(x, w, bias=None):
        return numpy.einsum("oc,nchw->nohw", w, x) + (
            0 if bias is None else numpy.reshape(getval(bias), (1, -1, 1, 1))
        )

    defvjp(
        linear,
        lambda ans, x, w, bias=None: lambda g: numpy.einsum("oc,nohw->nchw", w, g),
        lambda ans, x, w, bias=None: lambda g: numpy.einsum("nohw,nchw->oc", g, x),
        lambda ans, x, w, bias=None: lambda g: g.sum((0, 2, 3)),
    )
    layer = Plain(
        lambda p, s, x, train, rng: linear(x, p["w"], bias=p["b"]), {"w": data(2, 3), "b": numpy.zeros(2)}
    )
    return check_layer(layer, data(2, 3, 2, 2))


@wrong
def nan_from_the_branch_not_taken():
    return check_gradients(lambda x: np.where(x > 0, np.log(x) * x, 0.0), {"x": data(5)})


@wrong
def product_with_a_zero():
    # autograd divides by x on the way back
    return check_gradients(lambda x: np.prod(x), {"x": numpy.array([1.5, 0.0, -2.0])})


@wrong
def autograds_norm_with_keepdims():
    # A fault of autograd 1.9: the gradient has an axis too many.
    return check_gradients(lambda x: x / np.linalg.norm(x, axis=1, keepdims=True), {"x": data(3, 4)})


@wrong
def softplus_that_overflows():
    return check_gradients(lambda x: x - np.log(1 + np.exp(x)), {"x": numpy.array([-1.0, 3.0, 800.0])})


@wrong
def norm_of_a_zero_vector():
    return check_gradients(lambda x: np.sqrt(np.sum(x**2, axis=1)), {"x": data(3, 2) * [[1], [0], [1]]})


# --- wrong: not the same each time, not float64, not of the right kind ---


@wrong
def dropout_from_a_global_generator():
    generator = numpy.random.default_rng(0)
    layer = Plain(lambda p, s, x, train, rng: x * (generator.random(x.shape) < 0.5))
    return check_layer(layer, data(1, 2, 3, 3))


@wrong
def counts_its_calls():
    calls = []

    def f(x):
        calls.append(0)
        return x * (1 + 0.01 * len(calls))

    return check_gradients(f, {"x": data(3)})


@wrong
def warms_up_over_its_calls():
    # The same in the first calls, another value from the fourth on.
    calls = []

    def f(x):
        calls.append(0)
        return x * (1.0 if len(calls) < 4 else 2.0)

    return check_gradients(f, {"x": data(3)})


@wrong
def output_in_float32():
    return check_gradients(lambda x: np.tanh(x).astype(numpy.float32), {"x": data(3)})


@narrow
def float32_inside():
    # Rounded to steps of 1e-3 at 1e4: not the gradient of what is computed.
    return check_gradients(lambda x: ((x + 1e4).astype("f") - 1e4).astype("d") ** 2, {"x": data(4)})


@narrow
def float32_inside_a_primitive():
    square = op(
        lambda x: (x.astype("f") ** 2).astype("d"),
        lambda ans, x: lambda g: (2 * x.astype("f") * g).astype("d"),
    )
    return check_gradients(lambda x: square(x), {"x": data(4)})


@wrong
def float16_weights():
    def call(params, state, x, train, rng):
        return x * params["w"].astype(numpy.float16).astype(numpy.float64)

    return check_layer(Plain(call, {"w": numpy.array([0.3])}), data(1, 1, 2, 2))


@narrow
def gradient_in_float32():
    square = op(lambda x: x**2, lambda ans, x: lambda g: (2 * x * g).astype("f"))
    return check_gradients(lambda x: square(x), {"x": data(4)})


@wrong
def gradient_with_an_axis_too_many():
    square = op(lambda x: x**2, lambda ans, x: lambda g: (2 * x * g)[:, None])
    return check_gradients(lambda x: square(x), {"x": data(4)})


@wrong
def gradient_is_a_scalar():
    shift = op(lambda x, b: x + b, lambda ans, x, b: lambda g: g, lambda ans, x, b: lambda g: g.sum())
    return check_gradients(lambda x, b: shift(x, b), {"x": data(3, 2), "b": data(2)})


@wrong
def complex_gradient():
    phase = op(
        lambda x: numpy.abs(numpy.fft.fft(x)),
        lambda ans, x: lambda g: numpy.fft.ifft(g * numpy.fft.fft(x) / ans) * x.size,
    )
    return check_gradients(lambda x: phase(x), {"x": data(5)})


@wrong
def complex_output():
    return check_gradients(lambda x: np.fft.fft(x), {"x": data(4)})


@wrong
def nan_at_one_entry():
    def back(g):
        g = numpy.array(g)
        g[1, 2] = numpy.nan
        return g

    f = op(lambda x: x * 1.0, lambda ans, x: back)
    return check_gradients(lambda x: f(x), {"x": data(3, 4)})


@wrong
def nan_in_one_of_3000():
    def vjp(ans, x):
        with numpy.errstate(all="ignore"):
            d = numpy.where(x == x.max(), numpy.nan, 1.0)
        return lambda g: g * d

    f = op(lambda x: x * 1.0, vjp)
    return check_gradients(lambda x: f(x), {"x": data(3000)})


@wrong
def infinity_at_one_entry():
    def vjp(ans, x):
        d = numpy.ones_like(x)
        d[0] = numpy.inf
        return lambda g: g * d

    f = op(lambda x: x * 1.0, vjp)
    return check_gradients(lambda x: f(x), {"x": data(4)})


@wrong
def gradient_none():
    f = op(lambda x: x * 1.0, lambda ans, x: lambda g: None)
    return check_gradients(lambda x: f(x), {"x": data(4)})


@wrong
def back_function_without_return():
    def vjp(ans, w, x):
        def back(g):
            g * x  # noqa: B018

        return back

    f = op(lambda w, x: w * x, vjp, lambda ans, w, x: lambda g: g * w)
    return check_layer(
        Plain(lambda p, s, x, train, rng: f(p["w"], x), {"w": data(1, 2, 3, 3)}), data(1, 2, 3, 3)
    )


@wrong
def unbroadcast_forgotten():
    f = op(lambda x, b: x * b, lambda ans, x, b: lambda g: g * b, lambda ans, x, b: lambda g: g * x)
    return check_gradients(lambda x, b: f(x, b), {"x": data(3, 4), "b": data(4)})


@wrong
def unbroadcast_over_the_wrong_axis_of_a_square():
    f = op(lambda x, b: x + b, lambda ans, x, b: lambda g: g, lambda ans, x, b: lambda g: g.sum(axis=1))
    return check_gradients(lambda x, b: f(x, b), {"x": data(4, 4), "b": data(4)})


@wrong
def sum_without_keepdims_on_a_square():
    # g (3,) broadcasts over the wrong axis of (3, 3).
    total = op(lambda x: x.sum(axis=1), lambda ans, x: lambda g: numpy.broadcast_to(g, x.shape))
    return check_gradients(lambda x: total(x), {"x": data(3, 3)})


# --- wrong: norms ---


def norm_op(back, eps=1e-2, ddof=0, axes=(2, 3)):
    """An instance norm; back(g, y, std, axes) is its derivative."""

    def statistics(x):
        mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True, ddof=ddof)
        return mean, var

    def forward(x):
        mean, var = statistics(x)
        return (x - mean) / numpy.sqrt(var + eps)

    def vjp(ans, x):
        mean, var = statistics(x)
        return lambda g: back(g, ans, x - mean, var, eps)

    return op(forward, vjp)


def m(a, axes=(2, 3)):
    return a.mean(axes, keepdims=True)


@right
def instance_norm_primitive():
    def back(g, y, d, var, eps):
        return (g - m(g) - y * m(g * y)) / numpy.sqrt(var + eps)

    norm = norm_op(back)
    return check_gradients(lambda x: norm(x), {"x": data(2, 2, 3, 4)})


@wrong
def eps_outside_the_root_in_the_backward():
    def back(g, y, d, var, eps):
        return (g - m(g) - y * m(g * y)) / (numpy.sqrt(var) + eps)

    norm = norm_op(back)
    return check_gradients(lambda x: norm(x), {"x": data(2, 2, 3, 4)})


@wrong
def eps_forgotten_in_the_backward():
    # eps = 1e-5 beside a variance of about 1: wrong by 5e-6, a close call.
    def back(g, y, d, var, eps):
        y = d / numpy.sqrt(var)
        return (g - m(g) - y * m(g * y)) / numpy.sqrt(var)

    norm = norm_op(back, eps=1e-5)
    return check_gradients(lambda x: norm(x), {"x": data(2, 2, 3, 4)})


@wrong
def unbiased_variance_in_the_forward_only():
    def back(g, y, d, var, eps):
        return (g - m(g) - y * m(g * y)) / numpy.sqrt(var + eps)

    norm = norm_op(back, ddof=1)
    return check_gradients(lambda x: norm(x), {"x": data(1, 2, 3, 3)})


@wrong
def term_through_the_mean_left_out():
    norm = norm_op(lambda g, y, d, var, eps: (g - y * m(g * y)) / numpy.sqrt(var + eps))
    return check_gradients(lambda x: norm(x), {"x": data(2, 2, 3, 3)})


@wrong
def term_through_the_variance_left_out():
    norm = norm_op(lambda g, y, d, var, eps: (g - m(g)) / numpy.sqrt(var + eps))
    layer = Plain(lambda p, s, x, train, rng: norm(x) * p["w"], {"w": numpy.array(1.0)})
    return check_layer(layer, data(2, 2, 3, 3))


@wrong
def mean_over_the_batch_too_in_the_backward():
    a = (0, 2, 3)
    norm = norm_op(lambda g, y, d, var, eps: (g - m(g, a) - y * m(g * y, a)) / numpy.sqrt(var + eps))
    return check_gradients(lambda x: norm(x), {"x": data(2, 3, 3, 3)})


@wrong
def batch_norm_backward_per_image():
    def back(g, y, d, var, eps):
        return (g - m(g) - y * m(g * y)) / numpy.sqrt(var + eps)

    norm = norm_op(back, axes=(0, 2, 3))
    return check_layer(Plain(lambda p, s, x, train, rng: norm(x)), data(2, 2, 3, 3))


@wrong
def normalisation_without_its_projection():
    unit = op(
        lambda x: x / numpy.linalg.norm(x, axis=1, keepdims=True),
        lambda ans, x: lambda g: g / numpy.linalg.norm(x, axis=1, keepdims=True),
    )
    return check_gradients(lambda x: unit(x), {"x": data(3, 4)})


@wrong
def gamma_multiplies_x_not_its_norm():
    def call(params, state, x, train, rng):
        y = (x - np.mean(x, (2, 3), keepdims=True)) / np.std(x, (2, 3), keepdims=True)
        return scale(y, params["gamma"], getval(x))

    scale = op(
        lambda y, gamma, x: y * numpy.reshape(gamma, (1, -1, 1, 1)),
        lambda ans, y, gamma, x: lambda g: g * numpy.reshape(gamma, (1, -1, 1, 1)),
        lambda ans, y, gamma, x: lambda g: numpy.sum(g * x, axis=(0, 2, 3)),
    )
    return check_layer(Plain(call, {"gamma": numpy.ones(2)}), data(2, 2, 3, 3, shift=0.5))


# --- wrong: convolutions, pooling, upsampling ---


def conv_with(back_x=None, back_w=None):
    return op(
        convolve,
        lambda ans, x, w: lambda g: (back_x or (lambda g, x, w: convolve_back_x(g, w)))(g, x, w),
        lambda ans, x, w: lambda g: (back_w or (lambda g, x, w: convolve_back_w(g, x, w.shape[-1])))(g, x, w),
    )


@wrong
def kernel_not_flipped_by_x():
    conv = conv_with(back_x=lambda g, x, w: convolve_back_x(g, w[:, :, ::-1, ::-1]))
    return check_gradients(lambda x, w: conv(x, w), {"x": data(1, 2, 5, 5), "w": data(2, 2, 3, 3)})


@wrong
def kernel_flipped_in_its_own_gradient():
    conv = conv_with(back_w=lambda g, x, w: convolve_back_w(g, x, 3)[:, :, ::-1, ::-1])
    layer = Plain(lambda p, s, x, train, rng: conv(x, p["weight"]), {"weight": data(2, 2, 3, 3)})
    return check_layer(layer, data(1, 2, 5, 5))


@wrong
def kernel_channels_swapped():
    conv = conv_with(back_x=lambda g, x, w: convolve_back_x(g, numpy.swapaxes(w, 0, 1)))
    return check_gradients(lambda x, w: conv(x, w), {"x": data(1, 2, 4, 4), "w": data(2, 2, 3, 3)})


@wrong
def one_tap_of_the_kernel_left_out():
    # The kernel's last tap, "range(k - 1)"
    conv = conv_with(back_w=lambda g, x, w: spoilt(convolve_back_w(g, x, 3), (..., -1, -1), 0.0))
    return check_gradients(lambda x, w: conv(x, w), {"x": data(1, 2, 5, 5), "w": data(2, 2, 3, 3)})


@wrong
def border_off_by_one():
    # A shift by rolling: on the way back the border comes round again.
    def forward(x):
        y = numpy.roll(x, 1, axis=-1)
        y[..., 0] = 0
        return y

    shift = op(forward, lambda ans, x: lambda g: numpy.roll(g, -1, axis=-1))
    return check_gradients(lambda x: shift(x), {"x": data(1, 1, 4, 6)})


@wrong
def border_of_reflection_padding_lost():
    pad = op(lambda x: numpy.pad(x, 1, mode="reflect"), lambda ans, x: lambda g: g[1:-1, 1:-1])
    return check_gradients(lambda x: np.sum(pad(x) ** 2, axis=0), {"x": data(4, 4)})


@wrong
def dilation_forgotten_in_the_backward():
    def forward(x, w, d=2):
        return sum(w[k] * x[:, k * d : x.shape[1] - 2 * d + k * d] for k in range(3))

    def by_x(ans, x, w, d=2):
        def back(g):
            out = numpy.zeros_like(x)
            for k in range(3):
                out[:, k : k + g.shape[1]] += w[k] * g
            return out

        return back

    conv = op(
        forward,
        by_x,
        lambda ans, x, w, d=2: (
            lambda g: numpy.array([(g * x[:, k * d : k * d + g.shape[1]]).sum() for k in range(3)])
        ),
    )
    return check_gradients(lambda x, w: conv(x, w), {"x": data(2, 9), "w": data(3)})


@wrong
def stride_starts_at_one_in_the_backward():
    def back(g, x):
        out = numpy.zeros_like(x)
        out[..., 1::2, 1::2] = g
        return out

    stride = op(lambda x: x[..., ::2, ::2].copy(), lambda ans, x: lambda g: back(g, x))
    return check_gradients(lambda x: stride(x), {"x": data(1, 2, 4, 4)})


@wrong
def bias_gradient_forgets_the_width():
    bias = op(
        lambda x, b: x + b[:, None, None],
        lambda ans, x, b: lambda g: g,
        lambda ans, x, b: lambda g: g.sum(axis=(0, 2))[:, 0],
    )
    layer = Plain(lambda p, s, x, train, rng: bias(x, p["bias"]), {"bias": numpy.zeros(2)})
    return check_layer(layer, data(2, 2, 3, 4))


@wrong
def max_pooling_to_the_first_of_each_window():
    def back(g, x):
        out = numpy.zeros_like(x)
        out[:, ::2] = g
        return out

    pool = op(lambda x: x.reshape(len(x), -1, 2).max(2), lambda ans, x: lambda g: back(g, x))
    return check_gradients(lambda x: pool(x), {"x": data(3, 8)})


@wrong
def max_pooling_by_comparison_across_windows():
    # Everything as large as some window's maximum gets a gradient; x holds a second 0.5 in another window.
    x = numpy.array([0.5, 0.1, 0.9, 0.5, 0.3, 0.2])

    def back(g, ans, x):
        out = numpy.zeros_like(x)
        for value, part in zip(ans, g):
            out[x == value] += part
        return out

    pool = op(lambda x: x.reshape(3, 2).max(1), lambda ans, x: lambda g: back(g, ans, x))
    return check_gradients(lambda x: pool(x), {"x": x})


@wrong
def min_pooling_with_the_gradient_of_max():
    pool = op(
        lambda x: x.reshape(2, 2, 3).min(2),
        lambda ans, x: lambda g: ((r := x.reshape(2, 2, 3)) == r.max(2, keepdims=True)) * g[..., None] + 0.0,
    )
    return check_gradients(lambda x: pool(np.reshape(x, (2, 2, 3))), {"x": data(2, 6)})


@wrong
def upsampling_backward_by_mean():
    up = op(
        lambda x: x.repeat(2, axis=-1).repeat(2, axis=-2),
        lambda ans, x: lambda g: g.reshape(*x.shape[:-1], 2, x.shape[-1], 2).mean((-3, -1)),
    )
    return check_gradients(lambda x: up(x), {"x": data(1, 2, 3, 3)})


@wrong
def upsampling_backward_takes_every_second():
    class Up:
        op = staticmethod(op(lambda x: x.repeat(2, -1), lambda ans, x: lambda g: 2 * g[..., ::2]))

        def init(self, rng):
            return {}, {}

        def __call__(self, params, state, x, *, train=False, rng=None):
            return self.op(x), state

    return check_layer(Up(), data(1, 1, 3, 4))


@wrong
def bilinear_adjoint_with_other_corners():
    def matrix(n, aligned):
        at = (
            numpy.linspace(0, n - 1, 2 * n)
            if aligned
            else numpy.clip((numpy.arange(2 * n) + 0.5) / 2 - 0.5, 0, n - 1)
        )
        return numpy.maximum(0, 1 - numpy.abs(at[:, None] - numpy.arange(n)))

    up = op(lambda x: x @ matrix(5, False).T, lambda ans, x: lambda g: g @ matrix(5, True))
    return check_gradients(lambda x: up(x), {"x": data(2, 5)})


@wrong
def pixel_shuffle_with_its_factors_swapped():
    def forward(x):
        c, h, w = x.shape
        return x.reshape(c // 4, 2, 2, h, w).transpose(0, 3, 1, 4, 2).reshape(c // 4, 2 * h, 2 * w)

    def back(g, x):
        c, h, w = x.shape
        return g.reshape(c // 4, h, 2, w, 2).transpose(0, 4, 2, 1, 3).reshape(x.shape)

    shuffle = op(forward, lambda ans, x: lambda g: back(g, x))
    return check_gradients(lambda x: shuffle(x), {"x": data(4, 2, 3)})


@wrong
def gather_backward_assigns_instead_of_adding():
    index = numpy.array([0, 2, 2, 1])

    def back(g, x):
        out = numpy.zeros_like(x)
        out[index] += g  # of a repeated index, the last one counts
        return out

    take = op(lambda x: x[index], lambda ans, x: lambda g: back(g, x))
    return check_gradients(lambda x: take(x), {"x": data(4, 2)})


@wrong
def skip_connection_concatenated_the_other_way():
    cat = op(
        lambda a, b: numpy.concatenate([a, b], axis=1),
        lambda ans, a, b: lambda g: g[:, b.shape[1] :],
        lambda ans, a, b: lambda g: g[:, : b.shape[1]],
    )
    return check_gradients(lambda a, b: cat(a, b), {"a": data(1, 2, 2, 2), "b": data(1, 2, 2, 2, seed=1)})


# --- wrong: softmax and losses ---


@wrong
def softmax_with_its_diagonal_only():
    softmax = op(lambda x: scipy.special.softmax(x, 1), lambda ans, x: lambda g: g * ans * (1 - ans))
    return check_gradients(lambda x: softmax(x), {"x": data(3, 4)})


@wrong
def softmax_sum_over_the_wrong_axis():
    softmax = op(
        lambda x: scipy.special.softmax(x, 1),
        lambda ans, x: lambda g: ans * (g - (g * ans).sum(0, keepdims=True)),
    )
    return check_gradients(lambda x: softmax(x), {"x": data(3, 4)})


def cross_entropy_op(back):
    labels, weights = numpy.array([0, 2, 1, 2]), numpy.array([1.0, 2.0, 0.3])
    onehot, w = numpy.eye(3)[labels], weights[labels][:, None]

    def forward(z):
        return -numpy.sum(w * onehot * scipy.special.log_softmax(z, 1)) / w.sum()

    return op(forward, lambda ans, z: lambda g: g * back(scipy.special.softmax(z, 1), onehot, w))


@right
def cross_entropy_primitive():
    loss = cross_entropy_op(lambda p, t, w: w * (p - t) / w.sum())
    return check_gradients(lambda z: loss(z), {"z": data(4, 3)})


@wrong
def cross_entropy_without_one_over_n():
    loss = cross_entropy_op(lambda p, t, w: w * (p - t))
    return check_gradients(lambda z: loss(z), {"z": data(4, 3)})


@wrong
def cross_entropy_over_n_not_the_weights():
    loss = cross_entropy_op(lambda p, t, w: w * (p - t) / len(w))
    return check_gradients(lambda z: loss(z), {"z": data(4, 3)})


@wrong
def class_weights_left_out():
    loss = cross_entropy_op(lambda p, t, w: (p - t) / w.sum())
    return check_gradients(lambda z: loss(z), {"z": data(4, 3)})


@wrong
def cross_entropy_of_sure_predictions_without_weights():
    loss = cross_entropy_op(lambda p, t, w: (p - t) / w.sum())
    return check_gradients(lambda z: loss(z), {"z": 18 * numpy.eye(3)[[0, 2, 1, 2]] + 0.1 * data(4, 3)})


@wrong
def focal_factor_taken_for_a_constant():
    def loss(z):
        p = special.expit(z)
        return -np.sum(getval((1 - p) ** 2) * np.log(p))

    return check_gradients(loss, {"z": data(5)})


@wrong
def clipped_probability_in_the_forward_only():
    bce = op(
        lambda z: -numpy.log(numpy.clip(scipy.special.expit(z), 1e-3, 1 - 1e-3)),
        lambda ans, z: lambda g: g * (scipy.special.expit(z) - 1),
    )
    return check_gradients(lambda z: bce(z), {"z": numpy.array([-9.0, -1, 0.5, 2, 8.5])})


@wrong
def dice_denominator_taken_for_a_constant():
    t = (data(4, 4, seed=3) > 0) * 1.0

    def vjp(ans, p):
        return lambda g: -g * 2 * t / (p.sum() + t.sum() + 1)

    dice = op(lambda p: 1 - (2 * (p * t).sum() + 1) / (p.sum() + t.sum() + 1), vjp)
    return check_gradients(lambda z: dice(special.expit(z)), {"z": data(4, 4)})


@wrong
def huber_wrong_in_its_linear_part():
    huber = op(
        lambda x: numpy.where(numpy.abs(x) < 1, 0.5 * x**2, numpy.abs(x) - 0.5),
        lambda ans, x: lambda g: g * x,
    )
    return check_gradients(lambda x: huber(x), {"x": data(4, 4, scale=1.5)})


@wrong
def abs_with_derivative_one():
    absolute = op(numpy.abs, lambda ans, x: lambda g: g)
    return check_gradients(lambda x: absolute(x), {"x": data(3, 3)})


@wrong
def margin_of_a_hinge_forgotten():
    hinge = op(lambda s: numpy.maximum(0, 1 - s), lambda ans, s: lambda g: -g * (s < 0))
    return check_gradients(lambda s: hinge(s), {"s": numpy.array([-0.5, 0.3, 0.8, 2.0])})


@wrong
def leaky_slope_differs():
    leaky = op(
        lambda x: numpy.where(x > 0, x, 0.01 * x), lambda ans, x: lambda g: g * numpy.where(x > 0, 1, 0.1)
    )
    return check_gradients(lambda x: leaky(x), {"x": data(4, 3)})


@wrong
def gelu_with_the_derivative_of_its_approximation():
    def vjp(ans, x):
        t = numpy.tanh(numpy.sqrt(2 / numpy.pi) * (x + 0.044715 * x**3))
        inner = numpy.sqrt(2 / numpy.pi) * (1 + 3 * 0.044715 * x**2)
        return lambda g: g * (0.5 * (1 + t) + 0.5 * x * (1 - t**2) * inner)

    gelu = op(lambda x: 0.5 * x * (1 + scipy.special.erf(x / numpy.sqrt(2))), vjp)
    return check_gradients(lambda x: gelu(x), {"x": data(10)})


@wrong
def elu_derivative_without_alpha():
    elu = op(
        lambda x: numpy.where(x > 0, x, 0.3 * numpy.expm1(numpy.minimum(x, 0))),
        lambda ans, x: lambda g: g * numpy.where(x > 0, 1, ans + 1),
    )
    return check_gradients(lambda x: elu(x), {"x": data(4, 3)})


@wrong
def prelu_slope_counts_positive_x():
    prelu = op(
        lambda x, a: numpy.where(x > 0, x, a * x),
        lambda ans, x, a: lambda g: g * numpy.where(x > 0, 1, a),
        lambda ans, x, a: lambda g: numpy.sum(g * x),
    )
    layer = Plain(lambda p, s, x, train, rng: prelu(x, p["a"]), {"a": numpy.array(0.25)})
    return check_layer(layer, data(1, 2, 3, 3))


@wrong
def dropout_with_another_mask_in_the_backward():
    def call(params, state, x, train, rng):
        drop = op(
            lambda x: x * (rng.random(x.shape) < 0.5),
            lambda ans, x: lambda g: g * (rng.random(x.shape) < 0.5),
        )
        return drop(x)

    return check_layer(Plain(call), data(1, 2, 4, 4))


@wrong
def dropout_scaled_in_the_forward_only():
    def call(params, state, x, train, rng):
        keep = rng.random(x.shape) < 0.8
        return op(lambda x: x * keep / 0.8, lambda ans, x: lambda g: g * keep)(x)

    return check_layer(Plain(call), data(1, 2, 4, 4))


@wrong
def attention_scale_left_out_of_the_backward():
    scores = op(
        lambda q, k: q @ k.T / numpy.sqrt(q.shape[1]),
        lambda ans, q, k: lambda g: g @ k,
        lambda ans, q, k: lambda g: g.T @ q / numpy.sqrt(q.shape[1]),
    )
    return check_gradients(lambda q, k: scores(q, k), {"q": data(3, 4), "k": data(5, 4)})


# --- wrong: linear algebra, and what a vjp should not do ---


@wrong
def inverse_without_the_transposes():
    inv = op(numpy.linalg.inv, lambda ans, a: lambda g: -ans @ g @ ans)
    return check_gradients(lambda a: inv(a), {"a": numpy.eye(3) + 0.3 * data(3, 3)})


@wrong
def log_determinant_untransposed():
    logdet = op(lambda a: numpy.linalg.slogdet(a)[1], lambda ans, a: lambda g: g * numpy.linalg.inv(a))
    return check_gradients(lambda a: logdet(a), {"a": data(3, 3)})


@wrong
def solve_by_b_alone():
    solve = op(
        numpy.linalg.solve,
        lambda ans, a, b: lambda g: 0 * a,
        lambda ans, a, b: lambda g: numpy.linalg.solve(a.T, g),
    )
    return check_gradients(lambda a, b: solve(a, b), {"a": data(3, 3), "b": data(3)})


@wrong
def fourier_adjoint_without_conjugate():
    h = numpy.fft.fft(data(6, seed=2))
    blur = op(
        lambda x: numpy.fft.ifft(numpy.fft.fft(x) * h).real,
        lambda ans, x: lambda g: numpy.fft.ifft(numpy.fft.fft(g) * h).real,
    )
    return check_gradients(lambda x: blur(x), {"x": data(6)})


@wrong
def gradient_clipped_in_a_vjp():
    # By value at 1: only the largest entries suffer.
    f = op(lambda x: 2 * x, lambda ans, x: lambda g: numpy.clip(2 * g, -1, 1))
    return check_gradients(lambda x: f(x), {"x": data(6)})


@wrong
def gradient_norm_clipped_in_a_layer():
    def back(g):
        return g * min(1.0, 1.0 / numpy.linalg.norm(g))

    clip = op(lambda x: x * 1.0, lambda ans, x: back)
    return check_layer(Plain(lambda p, s, x, train, rng: clip(np.tanh(x))), data(1, 2, 4, 4))


@wrong
def gradient_reversal():
    reverse = op(lambda x: x.copy(), lambda ans, x: lambda g: -0.1 * g)
    layer = Plain(lambda p, s, x, train, rng: np.tanh(reverse(x) * p["w"]), {"w": numpy.array(1.0)})
    return check_layer(layer, data(1, 1, 3, 3))


@wrong
def weight_decay_in_a_vjp():
    decay = op(lambda w: w * 1.0, lambda ans, w: lambda g: g + 1e-4 * w)
    layer = Plain(lambda p, s, x, train, rng: x * channels(decay(p["w"])), {"w": data(2)})
    return check_layer(layer, data(2, 2, 3, 3))


@wrong
def loss_scaled_in_the_vjp():
    f = op(lambda x: np.sum(x**2), lambda ans, x: lambda g: 1024.0 * 2 * x * g)
    return check_gradients(lambda x: f(x), {"x": data(5)})


@wrong
def noise_added_to_the_gradient():
    rng = numpy.random.default_rng(0)
    f = op(lambda x: x**2, lambda ans, x: lambda g: 2 * x * g + 1e-3 * rng.normal(size=x.shape))
    return check_gradients(lambda x: f(x), {"x": data(4)})


@wrong
def gradient_sparsified():
    # The ten largest of a hundred; wrong in small entries.
    def vjp(ans, x):
        def back(g):
            d = numpy.cos(x) * g
            return d * (numpy.abs(d) >= numpy.sort(numpy.abs(d))[-10])

        return back

    f = op(numpy.sin, vjp)
    return check_gradients(lambda x: f(x), {"x": data(100)})


@wrong
def scalar_output_of_a_large_net_one_weight():
    x = data(20, 30)
    layer = op(
        lambda w: numpy.tanh(x @ w), lambda ans, w: lambda g: spoilt(x.T @ (g * (1 - ans**2)), (11, 3), 0.8)
    )
    return check_gradients(lambda w: np.mean(layer(w) ** 2), {"w": 0.3 * data(30, 10)})


@wrong
def convolution_of_tinyseg_with_a_dead_tap():
    def call(params, state, x, train, rng):
        w = params["w"]
        mask = numpy.ones((3, 2, 3, 3))
        mask[1, 0, 2, 0] = 0
        return ops.conv2d(x, w * mask + getval(w) * (1 - mask))

    return check_layer(Plain(call, {"w": data(3, 2, 3, 3)}), data(1, 2, 5, 5))


# --- kinks: right, exactly at a kink ---


@kink
def relu_of_zeros():
    return check_gradients(lambda x: np.maximum(x, 0.0), {"x": numpy.array([0.0, -1.0, 2.0])})


@kink
def absolute_at_its_target():
    t = data(5)
    return check_gradients(lambda x: np.sum(np.abs(x - t)), {"x": t + numpy.array([0, 0.1, 0, -0.2, 0])})


@kink
def max_pooling_of_equal_pixels():
    x = numpy.abs(data(1, 1, 4, 4))
    x[..., 2:, :2] = 0.7
    return check_gradients(lambda x: np.max(np.reshape(x, (2, 2, 2, 2)), axis=(1, 3)), {"x": x})


@kink
def hinge_exactly_at_its_margin():
    return check_gradients(lambda s: np.maximum(0, 1 - s), {"s": numpy.array([1.0, 0.5, 2.0])})


@kink
def clip_at_its_bounds():
    return check_gradients(lambda x: np.clip(x, 0, 1), {"x": numpy.array([0.0, 0.3, 1.0, 1.4])})


@kink
def leaky_relu_of_a_black_frame():
    x = numpy.pad(numpy.abs(data(1, 1, 3, 3)) + 0.1, ((0, 0), (0, 0), (2, 2), (2, 2)))

    def call(params, state, x, train, rng):
        y = x * params["w"]
        return np.where(y > 0, y, 0.1 * y)

    return check_layer(Plain(call, {"w": numpy.array(1.0)}), x)


@kink
def median_of_ties():
    return check_gradients(lambda x: np.sort(x)[2], {"x": numpy.array([0.3, 0.1, 0.3, 0.9, 0.2])})


@kink
def elementwise_maximum_of_equal_inputs():
    x = data(4)
    return check_gradients(lambda x, y: np.maximum(x, y), {"x": x, "y": x + [0, 1, 0, -1]})


@kink
def dead_relu_at_a_zero_bias():
    return check_gradients(
        lambda b, w: np.maximum(w * 0.0 + b, 0) * 2 + w, {"b": numpy.zeros(3), "w": data(3)}
    )


# --- vacuous: right, but nothing moves: a check that says nothing ---


@vacuous
def hinge_all_satisfied():
    return check_gradients(lambda s: np.sum(np.maximum(0, 1 - s)), {"s": 2 + numpy.abs(data(4))})


@vacuous
def dead_relu():
    return check_gradients(lambda x: np.maximum(x, 0) ** 2, {"x": -1 - numpy.abs(data(3, 3))})


@vacuous
def argument_without_influence():
    return check_gradients(lambda x, spare: x**2, {"x": data(3), "spare": data(3)})


@vacuous
def times_zero():
    def call(params, state, x, train, rng):
        return x + params["w"] * numpy.zeros((1, 2, 3, 3))

    return check_layer(Plain(call, {"w": numpy.ones((1, 2, 1, 1))}), data(1, 2, 3, 3))


@vacuous
def softmax_of_one_class():
    return check_gradients(lambda x: np.exp(x) / np.sum(np.exp(x), axis=1, keepdims=True), {"x": data(4, 1)})


@vacuous
def clipped_everywhere():
    return check_gradients(lambda x: np.clip(x, -1, 1), {"x": numpy.array([3.0, -4.0, 7.0])})


@vacuous
def rounded_away():
    floor = op(numpy.floor, lambda ans, x: lambda g: 0.0 * g)
    return check_gradients(lambda x: floor(x), {"x": numpy.array([0.3, 1.6, -2.4])})


@vacuous
def everything_dropped():
    def call(params, state, x, train, rng):
        return x * (rng.random(x.shape) < 0.0) * params["w"]

    return check_layer(Plain(call, {"w": numpy.array(1.0)}), data(1, 1, 3, 3))


@vacuous
def frozen_by_intent():
    # Detached, and the rest of the function does not depend on it either.
    return check_gradients(lambda x, frozen: x * 2 + 0 * np.sum(frozen), {"x": data(2), "frozen": data(2)})


@vacuous
def underflowed():
    return check_gradients(lambda x: np.exp(-x * x), {"x": numpy.array([40.0, -50.0])})


# --- what the new checker takes: nested parameters, several inputs, order=2, forward mode ---


class Nested:
    def __init__(self, scale=None):
        self.scale = scale or (lambda x, w: x * w)

    def init(self, rng):
        conv = {"w": rng.normal(size=(3, 2)), "b": numpy.zeros(3)}
        return {
            "conv": conv,
            "scales": [numpy.ones(3), numpy.array(0.5)],
            "norm": {"g": {"v": numpy.ones(3)}},
        }, {}

    def __call__(self, params, state, x, *, train=False, rng=None):
        y = np.einsum("oc,nchw->nohw", params["conv"]["w"], x) + channels(params["conv"]["b"])
        y = self.scale(y, channels(params["scales"][0])) * params["scales"][1]
        return np.tanh(y) * channels(params["norm"]["g"]["v"]), state


@right_with_options
def nested_parameters():
    return check_layer(Nested(), data(2, 2, 3, 3))


@wrong_with_options
def nested_parameters_wrong_in_a_list():
    scale = op(
        lambda x, w: x * w,
        lambda ans, x, w: lambda g: g * w,
        lambda ans, x, w: lambda g: (g * x)[:1].sum((0, 2, 3), keepdims=True),
    )
    return check_layer(Nested(scale), data(2, 2, 3, 3))


@right_with_options
def nested_arrays_of_a_function():
    x = data(4, 3)

    def mlp(params, scale):
        h = x
        for layer in params["layers"]:
            h = np.tanh(h @ layer["w"] + layer["b"])
        return h * params["out"] * scale

    layers = [{"w": data(3, 3, seed=k), "b": data(3, seed=k)} for k in range(2)]
    return check_gradients(mlp, {"params": {"layers": layers, "out": data(3)}, "scale": 0.5})


@wrong_with_options
def nested_arrays_of_a_function_wrong_in_one():
    shift = op(lambda x, b: x + b, lambda ans, x, b: lambda g: g, lambda ans, x, b: lambda g: g[0])

    def f(params):
        return shift(shift(params["x"], params["b"][1]) * 2 + params["b"][0], 0.0)

    return check_gradients(f, {"params": {"x": data(3, 2), "b": [data(2), data(2, seed=1)]}})


class Merge:
    """Two inputs: a skip connection and what comes from below."""

    def __init__(self, merge):
        self.merge = merge

    def init(self, rng):
        return {"gate": numpy.array(0.3)}, {}

    def __call__(self, params, state, x, y, *, train=False, rng=None):
        return self.merge(x, y) * params["gate"], state


@right_with_options
def two_inputs():
    up = Merge(lambda x, y: np.concatenate([x, np.repeat(np.repeat(y, 2, 2), 2, 3)], axis=1))
    return check_layer(up, data(1, 2, 4, 4), data(1, 3, 2, 2))


@right_with_options
def two_inputs_attention():
    return check_layer(
        Merge(lambda x, y: x * special.expit(np.mean(y, axis=(2, 3), keepdims=True))),
        data(1, 2, 3, 3),
        data(1, 2, 5, 5),
    )


@wrong_with_options
def two_inputs_the_second_wrong():
    product = op(lambda x, y: x * y, lambda ans, x, y: lambda g: g * y, lambda ans, x, y: lambda g: g * y)
    return check_layer(Merge(lambda x, y: product(x, y)), data(1, 1, 3, 3), data(1, 1, 3, 3, seed=1))


@right_with_options
def second_derivative_of_tanh():
    return check_gradients(lambda x: np.tanh(x) ** 2, {"x": data(3, 2)}, order=2)


@right_with_options
def second_derivative_of_a_layer():
    def call(params, state, x, train, rng):
        return np.exp(np.sin(x) * params["w"])

    return check_layer(Plain(call, {"w": numpy.array(0.8)}), data(1, 1, 2, 3), order=2)


@right_with_options
def second_derivative_of_a_linear_function():
    return check_gradients(lambda x, w: x @ w, {"x": data(2, 3), "w": data(3, 2)}, order=2)


@wrong_with_options
def second_derivative_detached():
    square = op(lambda x: x**2, lambda ans, x: lambda g: 2 * getval(x) * g)
    return check_gradients(lambda x: square(x), {"x": data(4)}, order=2)


@wrong_with_options
def second_derivative_by_g_missing():
    sine = op(numpy.sin, lambda ans, x: lambda g: np.cos(x) * getval(g))
    return check_gradients(lambda x: sine(x) ** 2, {"x": data(4)}, order=2)


@wrong_with_options
def second_derivative_through_a_wrong_primitive():
    slope = op(lambda ans: 1 - ans**2, lambda out, ans: lambda g: 2 * g * ans)  # sign
    tanh = op(numpy.tanh, lambda ans, x: lambda g: g * slope(ans))
    return check_gradients(lambda x: tanh(x), {"x": data(4)}, order=2)


@wrong_with_options
def second_derivative_in_numpy():
    exp = op(numpy.exp, lambda ans, x: lambda g: numpy.multiply(g, numpy.exp(getval(x))))
    return check_gradients(lambda x: exp(x), {"x": data(4)}, order=2)


def with_jvp(forward, vjp, jvp):
    made = op(forward, vjp)
    defjvp(made, jvp)
    return made


@right_with_options
def both_modes():
    cube = with_jvp(lambda x: x**3, lambda ans, x: lambda g: 3 * x**2 * g, lambda g, ans, x: 3 * x**2 * g)
    return check_gradients(lambda x: cube(x) + np.sin(x), {"x": data(4)}, modes=("reverse", "forward"))


@right_with_options
def forward_mode_of_two_arrays():
    return check_gradients(
        lambda x, w: np.tanh(x * w + 1), {"x": data(3), "w": data(3, seed=1)}, modes=("reverse", "forward")
    )


@wrong_with_options
def forward_mode_with_the_wrong_sign():
    cosine = with_jvp(numpy.cos, lambda ans, x: lambda g: -g * np.sin(x), lambda g, ans, x: g * np.sin(x))
    return check_gradients(lambda x: cosine(x), {"x": data(4)}, modes=("reverse", "forward"))


@wrong_with_options
def forward_mode_transposed():
    # The vjp's matrix used for the jvp.
    a = data(3, 3)
    linear = with_jvp(lambda x: a @ x, lambda ans, x: lambda g: a.T @ g, lambda g, ans, x: a.T @ g)
    return check_gradients(lambda x: linear(x), {"x": data(3)}, modes=("reverse", "forward"))


@wrong_with_options
def reverse_mode_wrong_forward_right():
    sine = with_jvp(numpy.sin, lambda ans, x: lambda g: g * np.sin(x), lambda g, ans, x: g * np.cos(x))
    return check_gradients(lambda x: sine(x), {"x": data(4)}, modes=("reverse", "forward"))


@wrong_with_options
def layer_with_a_wrong_second_derivative():
    # Wrong only across arrays: the mixed derivative by x and w is lost; by each alone it is right.
    scaled = op(
        lambda x, w: x * w,
        lambda ans, x, w: lambda g: g * getval(w),
        lambda ans, x, w: lambda g: np.sum(g * x),
    )
    layer = Plain(lambda p, s, x, train, rng: scaled(np.sin(x), p["w"]), {"w": numpy.array(1.0)})
    return check_layer(layer, data(1, 1, 2, 3), order=2)


@wrong_with_options
def layer_without_forward_mode_for_its_weights():
    scaled = op(
        lambda x, w: x * w, lambda ans, x, w: lambda g: g * w, lambda ans, x, w: lambda g: np.sum(g * x)
    )
    defjvp(scaled, lambda g, ans, x, w: g * w, lambda g, ans, x, w: 0 * x)
    layer = Plain(lambda p, s, x, train, rng: scaled(x, p["w"]), {"w": numpy.array(1.0)})
    return check_layer(layer, data(1, 1, 2, 3), modes=("reverse", "forward"))


# --- functions whose own scale is small against x, and other ways to hide from a ladder of steps ---


def wave(x, frequency, factor):
    sine = op(
        lambda x: numpy.sin(frequency * x),
        lambda ans, x: lambda g: factor * g * frequency * numpy.cos(frequency * x),
    )
    return check_gradients(lambda x: sine(x), {"x": x})


@right
def a_fast_wave():
    return wave(data(3), 700.0, 1.0)


@wrong
def a_fast_wave_off_by_a_thousandth():
    return wave(data(3), 700.0, 1.001)


@wrong
def many_fast_waves_off_by_a_hundredth():
    return wave(data(4000), 300.0, 1.01)


@wrong
def a_wave_far_from_zero_off_by_a_thousandth():
    return wave(numpy.array([2e3, 3e3]), 1.0, 1.001)


@wrong
def a_narrow_bump_off_by_a_thousandth():
    bump = op(
        lambda x: numpy.exp(-(((x - 3) / 1e-3) ** 2)),
        lambda ans, x: lambda g: -2.002 * g * ans * (x - 3) / 1e-6,
    )
    return check_gradients(lambda x: bump(x), {"x": 3 + 1e-3 * data(4)})


@right
def softmax_of_scores_around_1e8():
    return check_gradients(
        lambda z: np.exp(z - np.max(z)) / np.sum(np.exp(z - np.max(z))), {"z": 1e8 + data(5)}
    )


@right
def tanh_of_seconds_since_1970():
    return check_gradients(lambda t: np.tanh(0.02 * (t - 1.8e9)), {"t": 1.8e9 + 40 * data(4)})


def normalised(x, variance):
    def back(g, x):
        r = (x.var(axis=0) + 1e-5) ** -0.5
        y, g = r * (x - x.mean(axis=0)), g - g.mean(axis=0)
        return r * (g - (y * numpy.mean(y * g, axis=0) if variance else 0))

    norm = op(
        lambda x: (x - x.mean(axis=0)) / numpy.sqrt(x.var(axis=0) + 1e-5), lambda ans, x: lambda g: back(g, x)
    )
    return check_gradients(lambda x: norm(x), {"x": x})


@right
def norm_of_values_around_1e5():
    return normalised(1e5 + data(30, 3), variance=True)


@wrong
def norm_of_values_around_1e4_without_the_variance_term():
    return normalised(1e4 + data(30, 3), variance=False)


@right
def entropy_of_a_sum_that_misses_what_changes():
    def entropy(z):
        log_p = z - special.logsumexp(z, axis=1, keepdims=True)
        return -np.sum(np.exp(log_p) * log_p, axis=1)

    z, _ = sure_logits(4, 5, 26, 30)
    return check_gradients(entropy, {"z": z})


@wrong
def each_of_the_largest_gets_all():
    largest = op(lambda x: numpy.max(x, axis=1), lambda ans, x: lambda g: g[:, None] * (x == ans[:, None]))
    return check_gradients(lambda x: largest(x), {"x": numpy.array([[0.3, 2.0, 2.0], [1.0, 0.5, 0.1]])})


@wrong
def proportional_to_the_size_of_the_cotangent():
    squares = op(lambda x: numpy.sum(x**2), lambda ans, x: lambda g: 2 * numpy.abs(g) * x)
    check_gradients(lambda x: squares(x), {"x": data(4)})
    return check_gradients(lambda x: -squares(x), {"x": data(4)})


@wrong_with_options
def forward_mode_of_the_size_of_the_tangent():
    square = op(lambda x: x**2, lambda ans, x: lambda g: 2 * g * x)
    defjvp(square, lambda g, ans, x: 2 * numpy.abs(g) * x)
    return check_gradients(lambda x: square(x), {"x": 1 + data(4) ** 2}, modes=("reverse", "forward"))


@wrong
def one_number_for_an_array_of_gradients():
    mean = op(lambda x: numpy.mean(x), lambda ans, x: lambda g: g / x.size)
    return check_gradients(lambda x: mean(x), {"x": data(5)})


@wrong
def few_digits_left_by_a_constant_are_no_float32():
    square = op(lambda x: x**2, lambda ans, x: lambda g: -2 * g * x)
    return check_gradients(lambda x: (1e-7 * square(x) + 1e3) - 1e3, {"x": data(4)})


@kink
def absolute_values_of_zeros():
    return check_gradients(lambda w: np.sum(np.abs(w) + w**2), {"w": numpy.zeros(4)})


# --- kinks near by and at every distance ---


def scaled_back(factor):
    """The identity, whose vjp is off by a factor."""
    return op(lambda x: 1.0 * x, lambda ans, x: lambda g: factor * g)


def kinks_at_all_distances(factor):
    away = 10.0 ** -numpy.arange(1, 10, 0.25) * numpy.random.default_rng(2).choice([-1, 1], 36)
    same = scaled_back(factor)
    return check_gradients(
        lambda s: np.sum(np.abs(same(s) - 1 - away) * numpy.linspace(1, 2, 36)), {"s": 1.0}
    )


def nearly_fitted_pixels(factor):
    image, residual, same = data(2000), data(2000, seed=1, scale=1e-3), scaled_back(factor)
    return check_gradients(
        lambda gain, bias: np.mean(np.abs(gain * image + same(bias) - (image + residual))),
        {"gain": 1.0, "bias": 0.0},
    )


def sorted_and_clustered(factor, n):
    centres, same = data(n // 20, seed=4), scaled_back(factor)
    x, weights = numpy.repeat(centres, 20) + data(n, seed=5, scale=1e-6), data(n, seed=6)
    return check_gradients(lambda x: np.sum(np.sort(same(x)) * weights), {"x": x})


def sorted_and_saturated(factor):
    weights, same = data(1500, seed=7), scaled_back(factor)
    return check_gradients(lambda x: np.sum(np.sort(np.tanh(same(x))) * weights), {"x": data(1500, scale=3)})


@right
def absolute_values_with_kinks_at_all_distances():
    return kinks_at_all_distances(1.0)


@right
def absolute_residuals_of_nearly_fitted_pixels():
    return nearly_fitted_pixels(1.0)


@right
def clustered_values_sorted():
    return sorted_and_clustered(1.0, 2000)


@right
def saturated_values_sorted():
    return sorted_and_saturated(1.0)


@wrong
def sign_of_absolute_values_with_kinks_at_all_distances():
    return kinks_at_all_distances(-1.0)


@wrong
def hundredth_of_absolute_values_with_kinks_at_all_distances():
    return kinks_at_all_distances(0.01)


@wrong
def bias_of_nearly_fitted_pixels_off_by_two_percent():
    return nearly_fitted_pixels(0.98)


@wrong
def clustered_values_sorted_off_by_one_percent():
    return sorted_and_clustered(1.01, 400)


@wrong
def saturated_values_sorted_off_by_one_percent():
    return sorted_and_saturated(1.01)


@kink
def relu_by_a_mask_after_a_convolution_of_a_black_frame_of_two_channels():
    x = numpy.zeros((1, 2, 14, 14))
    x[:, :, 5:9, 5:9] = data(1, 2, 4, 4)

    def call(x, w):
        y = ops.conv2d(x, w)[:, :, 1:-1, 1:-1]
        return y * (y > 0)

    return check_gradients(call, {"x": x, "w": data(2, 2, 3, 3, seed=1)})


@kink
def clip_whose_values_lie_on_both_borders():
    x = numpy.array([1.0, -1.0, 0.3, 2.0])
    return check_gradients(lambda x: np.sum(np.clip(x, -1, 1) ** 3), {"x": x})


@right
def sharp_heatmap_whose_second_image_is_nearly_sure():
    def call(h):
        e = np.exp(25 * (h - np.max(h, axis=1, keepdims=True)))
        return np.dot(e / np.sum(e, axis=1, keepdims=True), numpy.arange(64.0))

    h = data(2, 64)
    h[1, 20] += 2.0
    return check_gradients(call, {"h": h})


@wrong
def maximum_of_equal_values_whose_gradient_goes_to_each():
    greatest = op(numpy.max, lambda ans, x: lambda g: g * (x == ans))
    return check_gradients(lambda x: greatest(x) + np.sum(x**2), {"x": numpy.array([0.5, 0.5, 0.5, 0.1])})


# --- what rounding hides, and what it does not ---


@right
def area_loss_with_a_pixel_that_is_lost_in_the_sum():
    z = numpy.concatenate([[-40.0], data(400, shift=6)])
    return check_gradients(lambda z: (np.sum(special.expit(z)) - 300.0) ** 2, {"z": z})


@right
def vjp_that_is_solved_for_step_by_step():
    a = data(4, 4, scale=0.15)

    def solved(g):
        v = numpy.zeros(4)
        for _ in range(200):
            v, last = g + a.T @ v, v
            if numpy.abs(v - last).max() < 1e-8:
                break
        return v

    inverse = op(lambda x: numpy.linalg.solve(numpy.eye(4) - a, x), lambda ans, x: lambda g: solved(g))
    return check_gradients(lambda x: inverse(x) ** 2, {"x": data(4)})


@wrong
def second_output_1e18_times_smaller_has_the_wrong_sign():
    a, b = data(4), data(4, seed=1)
    cosine = op(numpy.cos, lambda ans, x: lambda g: g * numpy.sin(x))
    return check_gradients(
        lambda x: np.array([1e9 * np.sin(np.dot(a, x)), 1e-9 * cosine(np.dot(b, x))]), {"x": data(4, seed=2)}
    )


@wrong
def clamped_logits_normalised_off_by_ten_percent():
    w, same = data(6, 100), scaled_back(1.1)

    def call(x):
        p = special.expit(x)
        y = np.dot(w, same(np.log(p + 1e-12) - np.log1p(-p + 1e-12)))
        return (y - np.mean(y)) / np.sqrt(np.var(y) + 1e-5)

    return check_gradients(call, {"x": data(100, seed=7, scale=1000.0)})


def single_sine(factor):
    return op(
        lambda x: numpy.sin(x.astype(numpy.float32)).astype(float),
        lambda ans, x: lambda g: factor * g * numpy.cos(x),
    )


@narrow
def float32_in_a_kernel_whose_result_is_blurred():
    sine = single_sine(1.0)
    return check_gradients(lambda x: np.tanh(0.3 * sine(x) + 0.1), {"x": data(6)})


@narrow
def complex64_inside():
    phase = numpy.exp(1j * numpy.arange(6.0))
    return check_gradients(
        lambda x: np.real(np.fft.ifft(np.fft.fft(x).astype(numpy.complex64) * phase)), {"x": data(6)}
    )


@wrong
def sign_of_float32_in_a_kernel_whose_result_is_blurred():
    sine = single_sine(-1.0)
    return check_gradients(lambda x: np.sum(np.tanh(0.3 * sine(x) + 0.1)), {"x": data(200)})


# --- what is exact, but looks like float32: the differences of nearly equal numbers ---


def flat_row(factor):
    """A row that is nearly flat, made a row of mean 0 and deviation 1."""
    same, x = scaled_back(factor), data(8, scale=5e-10, shift=0.3)
    return check_gradients(lambda x: same(x - np.mean(x)) / (np.std(x) + 1e-5), {"x": x})


@right
def nearly_flat_row():
    return flat_row(1.0)


@wrong
def sign_of_a_nearly_flat_row():
    return flat_row(-1.0)


@wrong
def one_percent_of_a_nearly_flat_row():
    return flat_row(1.01)


# --- sure predictions whose gradient rounds to 0, ties of three ---


@right
def softmax_of_a_sure_prediction():
    z = 45 * numpy.eye(3)[0][None, :, None] + data(1, 3, 36)
    return check_gradients(ops.softmax, {"z": z}, entries=200)


@right
def softmax_of_a_sure_prediction_averaged():
    z = 40 * numpy.eye(3)[0][None, :, None] + data(1, 3, 36)
    return check_gradients(lambda z: np.mean(ops.softmax(z), axis=(0, 2)), {"z": z}, entries=200)


@wrong
def softmax_of_a_sure_prediction_twice():
    same, z = scaled_back(2.0), 40 * numpy.eye(3)[0][None, :, None] + data(1, 3, 36)
    return check_gradients(lambda z: same(ops.softmax(z)), {"z": z}, entries=200)


@kink
def median_of_three_equal_numbers():
    return check_gradients(lambda x: np.sort(x)[2], {"x": numpy.array([1.0, 2, 2, 2, 3])})


@kink
def median_filter_of_a_flat_image():
    x = numpy.pad(numpy.full((3, 3), 0.8), 1, constant_values=0.5)

    def call(x):
        windows = [np.ravel(x[i : i + 3, j : j + 3]) for i in range(3) for j in range(3)]
        return np.stack([np.sort(window)[4] for window in windows])

    return check_gradients(call, {"x": x})


@wrong
def maximum_behind_a_relu_whose_gradient_goes_to_each():
    greatest = op(lambda x: numpy.max(x, -1), lambda ans, x: lambda g: g[:, None] * (x == ans[:, None]))
    x = numpy.array([[0.0, 0.0, 0.0, 0.0], [0.4, 0.0, 1.3, 0.0]])
    return check_gradients(lambda x: greatest(np.maximum(x, 0.0)), {"x": x})


# --- domains that end near by, layers that do not take every batch ---


@right
def probability_near_the_end_of_its_domain():
    def loss(p):
        if numpy.any(getval(p) >= 1):
            raise ValueError("probabilities must lie in (0, 1)")
        return -np.sum(np.log(p) + np.log1p(-p))

    return check_gradients(loss, {"p": numpy.array([0.3, 0.9996])})


@right
def cholesky_factor_of_a_kernel_that_is_nearly_singular():
    x = numpy.linspace(0, 1, 6)
    kernel = numpy.exp(-((x[:, None] - x) ** 2)) + 1e-6 * numpy.eye(6)
    return check_gradients(
        lambda k: np.sum(np.log(np.diag(np.linalg.cholesky((k + k.T) / 2)))), {"k": kernel}
    )


@right
def layer_of_pairs():
    return check_layer(Plain(lambda p, state, x, train, rng: x[0] * x[1]), data(2, 3))


@right
def logit_with_a_running_mean():
    def call(params, state, x, train, rng):
        y = np.log(x / (1 - x))
        mean = np.mean(y) if train else state["mean"]
        return y - mean, {"mean": 0.9 * state["mean"] + 0.1 * getval(mean)}

    x = numpy.random.default_rng(0).uniform(0.05, 0.95, (2, 1, 4, 4))
    return check_layer(Plain(call, state={"mean": numpy.zeros(())}), x)


@right
def state_of_none_so_far():
    def call(params, state, x, train, rng):
        return 3 * x, {"mean": numpy.mean(getval(x)) if train else state["mean"]}

    return check_layer(Plain(call, state={"mean": None}), data(2, 3))


@wrong
def training_from_another_state_than_the_first_lacks_a_factor():
    scaled = op(lambda x, k: x * k, lambda ans, x, k: lambda g: g, lambda ans, x, k: lambda g: np.sum(g * x))

    def call(params, state, x, train, rng):
        y = scaled(x, state["scale"]) if train else x * state["scale"]
        return y * params["w"], {"scale": 0.9 * state["scale"] + 0.1 * np.std(getval(x))}

    return check_layer(Plain(call, {"w": numpy.array(1.5)}, {"scale": numpy.ones(())}), data(2, 3))


@wrong
def solver_that_overwrites_its_matrix():
    inverse = op(
        lambda a, b: scipy.linalg.solve(a, b, overwrite_a=True),
        lambda y, a, b: lambda g: -numpy.outer(numpy.linalg.solve(a.T, g), y),
        lambda y, a, b: lambda g: numpy.linalg.solve(a.T, g),
    )
    a = numpy.asfortranarray(data(3, 3) + 3 * numpy.eye(3))
    return check_gradients(lambda a, b: inverse(a, b), {"a": a, "b": data(3)})


class Pair(NamedTuple):
    w: numpy.ndarray
    b: numpy.ndarray


@right
def parameters_in_a_named_tuple():
    pair = Pair(data(3), data(3, seed=1))
    return check_gradients(lambda p, x: np.tanh(p.w * x + p.b), {"p": pair, "x": data(3, seed=2)})


# --- run all ---


def outcome(example):
    """(the report or None, the exception or None)"""
    try:
        return example(), None
    except Exception as error:
        return None, error


def line(name, error):
    text = " | ".join(" ".join(part.split()) for part in str(error).splitlines())
    return f"  {name}: {type(error).__name__}: {text[:200]}"


def show(title, lines):
    print(f"\n{len(lines)} {title}", *lines, sep="\n")


def main():
    numpy.seterr(all="ignore")
    counts = []
    for right, wrong, new in (RIGHT, WRONG, ""), (RIGHT_OPTIONS, WRONG_OPTIONS, " (options)"):
        rights = {name: outcome(example) for name, example in right.items()}
        wrongs = {name: outcome(example)[1] for name, example in wrong.items()}
        rejected = {name: error for name, (_, error) in rights.items() if error is not None}
        caught = {name: error for name, error in wrongs.items() if error is not None}
        odd = {name for name, error in caught.items() if not isinstance(error, GradientError | ValueError)}
        show(f"wrong caught{new}", [line(n, e) for n, e in caught.items() if n not in odd])
        show(f"wrong that raise something else{new}", [line(n, caught[n]) for n in caught if n in odd])
        show(f"right rejected{new}", [line(name, error) for name, error in rejected.items()])
        show(f"wrong passed{new}", [f"  {name}" for name in wrongs if name not in caught])
        passed, all_wrong = len(wrongs) - len(caught), len(wrongs)
        counts.append(
            f"{len(rejected)} right rejected of {len(rights)}, {passed} wrong passed of {all_wrong}{new}"
        )
    for word, examples in ("kink", KINKS), ("vacuous", VACUOUS), ("float32", NARROW):
        results = {name: outcome(example) for name, example in examples.items()}
        rejected = [line(name, error) for name, (_, error) in results.items() if error is not None]
        silent = [
            f"  {name}" for name, (report, error) in results.items() if not error and word not in str(report)
        ]
        show(f"{word}: rejected", rejected)
        show(f"{word}: pass, and no row is called so", silent)
        counts.append(f"{len(rejected)} {word} rejected of {len(results)}, {len(silent)} not called so")
    print("", *counts, sep="\n")


if __name__ == "__main__":
    main()
