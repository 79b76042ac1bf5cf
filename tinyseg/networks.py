"""The 13-layer dilated network of Anthimopoulos et al. 2018, and its three published forms.

                  +------> every output so far ------------------------------+
                  |                                                          v
    image -> x + norm(x) -> ten 3x3 blocks, dilations 1 1 2 3 5 8 ... -> concatenate -> dropout
          -> two 1x1 blocks -> 1x1 convolution

No pooling and no stride: the picture keeps its size, while each block's dilation widens what a pixel sees,
to 287 x 287 pixels in the end. A block joins three copies of the window so far, shifted by -d, 0 and d. They
leave no hole if d is no larger than that window, and Fibonacci numbers never are: 1 <= 1, 1 <= 3, 2 <= 5, ...
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real
from typing import Any

import autograd.numpy as np

from tinyseg.layers import (
    BatchNorm,
    Block,
    Calls,
    Conv2d,
    Dropout,
    InstanceNorm,
    engine_field,
    init_all,
)
from tinyseg.ops import UNLABELLED, Engine, add, concatenate, cross_entropy, mean_squared_error, softmax
from tinyseg.ops.check import floats

FIBONACCI = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)


class SoftmaxHead:
    """The loss and the probabilities of a network whose output is logits (N, classes, H, W)."""

    def loss(self, y, labels):
        """Cross-entropy of the output and labels (N, H, W), integers; every pixel must be a class."""
        return cross_entropy(y, labels)

    def probabilities(self, y):
        """The output y as probabilities in [0, 1], (N, classes, H, W)."""
        return softmax(y)


class LinearHead:
    """The loss and the probabilities of a network whose output (N, 1, H, W) estimates the mask itself."""

    def loss(self, y, labels):
        """The squared error of the output and labels (N, H, W), 0 or 1.

        Raises:
            ValueError: a label is neither; an unlabelled pixel has no squared error.
        """
        if labels.size and not 0 <= labels.min() <= labels.max() <= 1:
            raise ValueError(
                f"a linear head: expected labels 0 and 1, "
                f"got {labels.min()} to {labels.max()}; a softmax head takes more"
            )
        return mean_squared_error(y, labels[:, None].astype(y.dtype))  # (N, H, W) -> (N, 1, H, W)

    def probabilities(self, y):
        """The output y clipped to [0, 1], (N, 1, H, W): that of the second class."""
        return np.clip(y, 0, 1)


HEADS = {"softmax": SoftmaxHead(), "linear": LinearHead()}


@dataclass(frozen=True)
class DilatedFCN:
    """The network as a value: every published difference is a field, so that any mixture can be built.

    Raises:
        ValueError: a field makes no sense; the message names it.
    """

    channels: int = 1  # of the input image
    classes: int = 2  # the background is one
    maps: int = 3  # channels of each dilated block
    dilations: tuple[int, ...] = FIBONACCI
    widths: tuple[int, ...] = (12, 3)  # of the 1x1 blocks
    norm: str = "batch"  # "batch" or "instance"
    running: bool = True  # batch norm: running statistics in evaluation, rather than the batch at hand
    eps: float = 1e-5  # of the norms
    residual: bool = False  # a connection around every block, wherever the channels allow one
    dropout: float = 0.0  # share of the concatenated maps' entries dropped in training
    head: str = "softmax"  # "softmax" into cross-entropy, or "linear": one map into mean squared error
    weight_std: float | None = None  # of the initial weights; None: He
    engine: Engine = engine_field()

    @cached_property
    def layers(self) -> dict[str, Any]:
        """All layers by name, in the order in which an image meets them."""
        layers: dict[str, Any] = {"input": self._norm(self.channels)}
        seen = self.channels
        for i, dilation in enumerate(self.dilations, 1):
            layers[f"block{i}"] = self._block(seen, self.maps, 3, dilation)
            seen = self.maps
        layers["dropout"] = Dropout(self.dropout)
        seen = self.channels + len(self.dilations) * self.maps  # after the concatenation
        for i, width in enumerate(self.widths, 1):
            layers[f"head{i}"] = self._block(seen, width, 1, 1)
            seen = width
        outputs = self.classes if self.head == "softmax" else 1
        layers["output"] = Conv2d(seen, outputs, 1, 1, self.weight_std, engine=self.engine)
        return layers

    def _norm(self, channels):
        if self.norm == "instance":
            return InstanceNorm(channels, self.eps, engine=self.engine)
        return BatchNorm(channels, self.eps, running=self.running, engine=self.engine)

    def _block(self, inward, outward, kernel, dilation):
        conv = Conv2d(inward, outward, kernel, dilation, self.weight_std, engine=self.engine)
        residual = self.residual and inward in (1, outward)
        return Block(conv, self._norm(outward), residual, engine=self.engine)

    def init(self, rng):
        """Fresh float32 (params, state), each a flat dict keyed like `block3.conv.weight`."""
        return init_all(self.layers, rng)

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """Run the network.

        Args:
            params, state: as `init` gives them; `params` may hold autograd's boxes.
            x: images, (N, channels, H, W), of the parameters' dtype.
            train: use the batch's own statistics and dropout, and update the running statistics.
            rng: `numpy.random.Generator` for dropout, when training.

        Returns:
            (y, state): the last convolution's output, (N, classes, H, W) logits for a softmax head and
            (N, 1, H, W) for a linear one (see `probabilities`), and the state, a new one when training.

        Raises:
            ValueError: arrays that do not fit; the message names the layer.
        """
        outputs, state = self._run(params, state, x, train=train, rng=rng)
        return outputs["output"], state

    def features(self, params, state, x) -> dict[str, Any]:
        """What each layer makes of the images, in evaluation: the feature maps.

        Args:
            params, state, x: as of a call.

        Returns:
            by the name of each layer, "input", "block1" to "block10", "head1", "head2" and "output", its
            result (N, its channels, H, W). The last one is that of a call.
        """
        return self._run(params, state, x, train=False, rng=None)[0]

    def _run(self, params, state, x, *, train, rng):
        """(every layer's result by its name, state)."""
        (images,) = floats("input", images=x)
        if images.ndim != 4 or images.shape[1] != self.channels:
            raise ValueError(f"input: expected images (N, {self.channels}, H, W), got {images.shape}")
        run = Calls(self.layers, params, state, train=train, rng=rng)
        x = add(x, run("input", x))  # the paper's input block, x + norm(x)
        outputs = {"input": x}
        for i in range(1, len(self.dilations) + 1):
            x = outputs[f"block{i}"] = run(f"block{i}", x)
        x = concatenate(list(outputs.values()))  # (N, channels + 10 * maps, H, W)
        x = run("dropout", x)
        for i in range(1, len(self.widths) + 1):
            x = outputs[f"head{i}"] = run(f"head{i}", x)
        outputs["output"] = run("output", x)
        return outputs, run.state

    @property
    def receptive_field(self) -> int:
        """How many pixels of the image an output sees through the kernels, across.

            1 + 2 * (sum of the dilations)

        Each block adds two of its dilations. A norm that takes mean and variance of the image at hand, which
        is instance norm or `running=False`, lets these in besides: two numbers a channel, of all pixels.
        """
        return 1 + 2 * sum(self.dilations)

    def loss(self, y, labels):
        """What training lowers, of the output y and labels (N, H, W), by `SoftmaxHead` or `LinearHead`."""
        return HEADS[self.head].loss(y, labels)

    def probabilities(self, y):
        """The output y as probabilities in [0, 1]: (N, classes, H, W), or (N, 1, H, W) of a linear head."""
        return HEADS[self.head].probabilities(y)

    def __post_init__(self):
        for name in ("channels", "classes", "maps"):
            self._set(name, _whole(name, getattr(self, name)))
        for name in ("dilations", "widths"):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple | list) or not numbers:
                raise ValueError(f"{name}: expected a tuple of whole numbers, got {numbers!r}")
            self._set(name, tuple(_whole(name, number) for number in numbers))
        choices = {"norm": ("batch", "instance"), "head": tuple(HEADS)}
        choices |= {"running": (True, False), "residual": (True, False)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, got {getattr(self, name)!r}")
        for name in ("running", "residual"):
            self._set(name, bool(getattr(self, name)))  # of NumPy's bool, too
        self._set("dropout", _number("dropout (the share dropped)", self.dropout, 0, 1))
        self._set("eps", _number("eps", self.eps, 0, 1))
        if self.weight_std is not None:
            self._set("weight_std", _number("weight_std", self.weight_std, 0, np.inf))
        if self.classes != 2 and (self.head == "linear" or not 2 <= self.classes <= UNLABELLED):
            raise ValueError(
                f"classes: expected 2 (with a softmax head up to {UNLABELLED}), got {self.classes}"
            )

    def _set(self, name, value):
        object.__setattr__(self, name, value)  # the one moment at which a frozen dataclass may change


def _whole(name, value) -> int:
    if not isinstance(value, Integral) or isinstance(value, bool) or value < 1:
        raise ValueError(f"{name}: expected a whole number of at least 1, got {value!r}")
    return int(value)


def _number(name, value, low, high) -> float:
    if not isinstance(value, Real) or not low <= value < high:
        raise ValueError(f"{name}: expected a number from {low} to below {high}, got {value!r}")
    return float(value)


# Where the article and the paper do not say (widths of the 1x1 blocks of the article's networks, their
# initial weights), we chose. Keyword arguments change any field.


def original(**changes) -> DilatedFCN:
    """The network as the article first rebuilt it, with batch norm, 3 maps, dropout and cross-entropy."""
    return replace(DilatedFCN(dropout=0.5, weight_std=0.05), **changes)


def modified(**changes) -> DilatedFCN:
    """The network as the article changed it: residual connections, no dropout, mean squared error.

    The article has a residual connection around every layer; here around the 3x3 blocks, whose channels fit.
    """
    return replace(DilatedFCN(residual=True, head="linear", weight_std=0.05), **changes)


def lungnet(**changes) -> DilatedFCN:
    """The network as the paper has it: 32 maps, instance norm, 1x1 blocks of 128 and 32 channels."""
    paper = DilatedFCN(maps=32, widths=(128, 32), norm="instance", eps=1e-3, dropout=0.5)
    return replace(paper, **changes)
