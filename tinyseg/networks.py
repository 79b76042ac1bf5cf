"""The 13-layer dilated network of Anthimopoulos et al. 2018, and its three published forms.

                  +------> every output so far ------------------------------+
                  |                                                          v
    image -> x + norm(x) -> ten 3x3 blocks, dilations 1 1 2 3 5 8 ... -> concatenate -> dropout
          -> two 1x1 blocks -> 1x1 convolution

No pooling and no stride: the picture keeps its size, while each block's dilation widens what a pixel sees,
to 287 x 287 pixels in the end. Dilations that are Fibonacci numbers leave no hole in that window.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from numbers import Integral, Real

import autograd.numpy as np

from tinyseg.layers import BatchNorm, Block, Conv2d, InputBlock, InstanceNorm, by_layer, init_all, prefixed
from tinyseg.ops import UNLABELLED, concatenate, cross_entropy, dropout, mean_squared_error, softmax

FIBONACCI = (1, 1, 2, 3, 5, 8, 13, 21, 34, 55)


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
    conv: str = "gemm"  # how `ops.conv2d` computes: "gemm" or "scipy"

    def __post_init__(self):
        for name in ("channels", "classes", "maps"):
            self._set(name, _whole(name, getattr(self, name)))
        for name in ("dilations", "widths"):
            numbers = getattr(self, name)
            if not isinstance(numbers, tuple | list) or not numbers:
                raise ValueError(f"{name}: expected a tuple of whole numbers, got {numbers!r}")
            self._set(name, tuple(_whole(name, number) for number in numbers))
        choices = {"norm": ("batch", "instance"), "head": ("softmax", "linear"), "conv": ("gemm", "scipy")}
        choices |= {"running": (True, False), "residual": (True, False)}
        for name, allowed in choices.items():
            if getattr(self, name) not in allowed:
                raise ValueError(f"{name}: expected one of {allowed}, got {getattr(self, name)!r}")
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

    @cached_property
    def layers(self) -> dict[str, InputBlock | Block | Conv2d]:
        """All layers by name, in the order in which an image meets them."""
        layers = {"input": InputBlock(self._norm(self.channels))}
        seen = self.channels
        for i, dilation in enumerate(self.dilations, 1):
            layers[f"block{i}"] = self._block(seen, self.maps, 3, dilation)
            seen = self.maps
        seen = self.channels + len(self.dilations) * self.maps  # after the concatenation
        for i, width in enumerate(self.widths, 1):
            layers[f"head{i}"] = self._block(seen, width, 1, 1)
            seen = width
        outputs = self.classes if self.head == "softmax" else 1
        layers["output"] = Conv2d(seen, outputs, 1, 1, self.weight_std, self.conv)
        return layers

    def _norm(self, channels):
        if self.norm == "instance":
            return InstanceNorm(channels, self.eps)
        return BatchNorm(channels, self.eps, running=self.running)

    def _block(self, inward, outward, kernel, dilation):
        conv = Conv2d(inward, outward, kernel, dilation, self.weight_std, self.conv)
        return Block(conv, self._norm(outward), self.residual and inward in (1, outward))

    def init(self, rng):
        """Fresh float32 (params, state), each a flat dict keyed like `block3.conv.weight`."""
        return init_all(self.layers, rng)

    def __call__(self, params, state, x, *, train: bool = False, rng=None):
        """Run the network.

        Args:
            params, state: as `init` gives them; `params` may hold autograd's boxes.
            x: images, (N, channels, H, W), of the parameters' dtype.
            train: use the batch's own statistics and dropout, and move the running statistics.
            rng: `numpy.random.Generator` for dropout, when training.

        Returns:
            (y, state): the last convolution's output, (N, classes, H, W) logits for a softmax head and
            (N, 1, H, W) for a linear one (see `probabilities`), and the state, a new one when training.

        Raises:
            ValueError: arrays that do not fit; the message names the layer.
        """
        if x.ndim != 4 or x.shape[1] != self.channels:
            raise ValueError(f"input: expected images (N, {self.channels}, H, W), got {x.shape}")
        params, state, new_state, features = by_layer(params), by_layer(state), {}, []
        for name, layer in self.layers.items():
            if name == "head1":  # where the maps of all blocks meet
                x = concatenate(features)
                x = dropout(x, self.dropout, rng) if train and self.dropout else x
            try:
                x, its_state = layer(params.get(name, {}), state.get(name, {}), x, train=train)
            except KeyError as missing:
                raise ValueError(f"{name}: there is no array for {missing}") from None
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from None
            new_state |= prefixed(its_state, name)
            features.append(x)
        return x, new_state

    def probabilities(self, y):
        """The output y as probabilities in [0, 1]: (N, classes, H, W), or (N, 1, H, W) if linear.

        The last channel is the last class either way; of two, the one that is sought. A linear output
        estimates the mask itself and may leave [0, 1], so it is clipped.
        """
        return softmax(y) if self.head == "softmax" else np.clip(y, 0.0, 1.0)

    def loss(self, y, masks):
        """What training lowers, for the output y and masks (N, 1, H, W): class numbers, or 0 and 1.

        Label maps with unlabelled pixels have a loss of their own, `ops.semi_supervised`.
        """
        if self.head == "softmax":
            return cross_entropy(y, masks[:, 0].astype(np.int64))
        return mean_squared_error(y, masks)

    def summary(self, height: int = 64, width: int = 64) -> str:
        """A table for one image of height x width: layer, output shape, parameters, receptive field.

        The receptive field is that of the convolutions. In training, and with instance norm, the norms'
        statistics see the whole image.
        """
        params = by_layer(self.init(np.random.default_rng(0))[0])
        rows, field = [("layer", "output shape", "parameters", "receptive field")], 1
        for name, layer in self.layers.items():
            if name == "head1":
                depth = self.channels + len(self.dilations) * self.maps
                rows.append(("concatenate", f"1 x {depth} x {height} x {width}", "0", f"{field} x {field}"))
            conv = layer if isinstance(layer, Conv2d) else getattr(layer, "conv", None)
            field += (conv.kernel - 1) * conv.dilation if conv else 0
            shape = f"1 x {conv.out_channels if conv else self.channels} x {height} x {width}"
            count = sum(array.size for array in params[name].values())
            rows.append((name, shape, f"{count:,}", f"{field} x {field}"))
        total = sum(array.size for layer in params.values() for array in layer.values())
        rows.append(("total", "", f"{total:,}", ""))
        widths = [max(map(len, column)) for column in zip(*rows)]
        return "\n".join("  ".join(map(str.rjust, row, widths)) for row in rows)

    def __repr__(self):
        init = "He init" if self.weight_std is None else f"init std {self.weight_std}"
        lines = [f"{self.norm} norm, {init}", "input: x + norm(x)"]
        for name, layer in self.layers.items():
            if name == "head1":
                drop = f", dropout {self.dropout}" if self.dropout else ""
                lines.append(f"concatenate: input and {len(self.dilations)} blocks{drop}")
            if name == "input":
                continue
            conv = layer if name == "output" else layer.conv
            text = f"{name}: conv {conv.in_channels} -> {conv.out_channels}, {conv.kernel}x{conv.kernel}"
            text += f", dilation {conv.dilation}" if conv.kernel > 1 else ""
            text += "" if name == "output" else ", y + norm(y)"
            text += ", + its input" if getattr(layer, "residual", False) else ""
            text += "" if name == "output" else ", relu"
            lines.append(text)
        lines.append(self.head)
        return "DilatedFCN(\n  " + "\n  ".join(lines) + "\n)"


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
