"""Two shelves: which version of an op the layers call.

`tinyseg.ops` has definitions, written to be read. Of two of them, `conv2d` and `normalize`, `tinyseg.fast`
has twins, written to be fast: the same arguments, the same results. A third twin does in one go what a block
does after its convolution: norm, add, relu (see layers.py, next). Layers call the twins, unless they are
told otherwise: `modified(engine=DEFINITIONS)`, or `using(layer, DEFINITIONS)` for any layer. The
choice changes no result, so it is no part of an architecture: networks that differ in their engine alone
are equal, and a model file does not say which one it was trained with.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from tinyseg.ops.conv import conv2d, conv2d_scipy
from tinyseg.ops.norm import normalize


@dataclass(frozen=True)
class Engine:
    """The ops of which there is more than one version."""

    conv2d: Callable
    normalize: Callable
    norm_add_relu: Callable | None = None  # relu(x + y + norm(y)) in one go; None: from its parts


DEFINITIONS = Engine(conv2d, normalize)
SCIPY = Engine(conv2d_scipy, normalize)  # not even the convolution's derivatives are by hand
