"""A trained network on an image of any size: whole where memory allows, in tiles where not.

A pixel of the output depends on the input within `reach` pixels, 143 with the Fibonacci dilations. A tile
with that much around it gives its inner part what the whole image would have given it, but for rounding: at
the image's own border both see the same zeros, and what a tile's cut border spoils is thrown away. That holds
for batch norm with running statistics, which has a network see nothing else. Instance norm sees the whole
image's mean and variance, which no tile knows: such an image goes through whole or not at all.
"""

from __future__ import annotations

from bisect import bisect_right

import numpy as np
from scipy.ndimage import zoom

from tinyseg.errors import InputError
from tinyseg.io.preprocessing import Preprocessing, resize
from tinyseg.networks import DilatedFCN
from tinyseg.training import predict

GB = 10**9
SMALLEST_TILE = 32  # less than that to keep of a tile is not worth its surroundings


def probability_maps(
    net,
    params: dict,
    state: dict,
    preprocessing: Preprocessing,
    pixels: np.ndarray,
    *,
    size: int | None = None,
    memory: float = float("inf"),
) -> np.ndarray:
    """What a trained network makes of an image file's pixels, at the image's own size.

    Args:
        net, params, state, preprocessing: as `models.load` gives them.
        pixels: (H, W) bool, uint8 or uint16, or (H, W, 3) uint8.
        size: of the shorter side when the network sees it; None: as in training; 0: the image's own.
        memory: bytes that the network may take; beyond it the image is cut into tiles.

    Returns:
        float32 probabilities of two classes' last one, (1, H, W), or of all classes, (classes, H, W).

    Raises:
        InputError: the image needs tiles, and the network's norm or the memory does not allow them.
    """
    image = preprocessing(pixels, size)
    tile = tile_for(net, image.shape[1], image.shape[2], memory)
    p = in_tiles(net, params, state, image[None], tile)[0]  # (1, C, h, w) -> (classes, h, w)
    height, width = pixels.shape[:2]
    return np.stack([resized_to(plane, (height, width)) for plane in p])


def in_tiles(net, params: dict, state: dict, images: np.ndarray, tile: int | None) -> np.ndarray:
    """`predict` tile by tile: (N, C, H, W) to (N, 1 or classes, H, W); None: all at once.

    Each tile's side is `tile`, and what surrounds it within `reach` is seen as well.
    """
    if tile is None:
        return predict(net, params, state, images)
    if not has_fixed_norm(net):
        raise ValueError(f"in_tiles: expected batch norm with running statistics, got {net.norm} norm")
    (height, width), margin = images.shape[2:], reach(net)
    maps = 1 if net.classes == 2 else net.classes
    p = np.empty((len(images), maps, height, width), images.dtype)
    for top in range(0, height, tile):
        for left in range(0, width, tile):
            above, before = max(top - margin, 0), max(left - margin, 0)
            window = images[:, :, above : top + tile + margin, before : left + tile + margin]
            seen = predict(net, params, state, window)
            inner = seen[:, :, top - above : top - above + tile, left - before : left - before + tile]
            p[:, :, top : top + tile, left : left + tile] = inner
    return p


def has_fixed_norm(net) -> bool:
    """Whether the norms' statistics are known before an image is."""
    return net.norm == "batch" and net.running


def reach(net) -> int:
    """How far a pixel of the output sees in each direction: the sum of all dilations of the 3x3 layers."""
    return sum(net.dilations)


def bytes_needed(net, height: int, width: int) -> int:
    """What `predict` takes for one float32 image, at the moment when it takes most.

    Every block's maps are kept until they meet, and a block at work holds a few arrays of its own: its
    convolution, the norm, their sum. So the moment is in the last 3x3 block; in a 1x1 block, where in the
    first one the maps are there twice, each by itself and side by side; or in the softmax.
    """
    seen = net.channels + len(net.dilations) * net.maps
    heads = [seen + sum(net.widths[:i]) + 3 * width for i, width in enumerate(net.widths)]
    moments = seen + 3 * net.maps, seen + heads[0], *heads[1:], 3 * net.classes + 1
    return 4 * height * width * max(moments)


def tile_for(net, height: int, width: int, memory: float) -> int | None:
    """The side of the largest tile that `memory` (bytes) allows for an image; None: it goes through whole."""

    def need(tile):
        sides = (min(side, tile + 2 * reach(net)) for side in (height, width))
        return bytes_needed(net, *sides)

    if not isinstance(net, DilatedFCN):  # nobody knows how far it sees, nor what it takes
        return None
    whole = bytes_needed(net, height, width)
    if whole <= memory:
        return None
    pixels = f"{width} x {height} pixels"
    room = f"the network needs {whole / GB:.3g} GB at {pixels}, and {memory / GB:.3g} GB are allowed"
    if not has_fixed_norm(net):
        whose = "instance norm" if net.norm == "instance" else "batch norm without running statistics"
        raise InputError(f"{whose} takes its statistics from the whole image, which cannot be cut: {room}")
    tile = bisect_right(range(1, max(height, width)), memory, key=need)
    if tile < SMALLEST_TILE:
        raise InputError(f"{room}; tiles need at least {need(SMALLEST_TILE) / GB:.3g} GB")
    return tile


def free_memory() -> int:
    """Half of the memory that programs may still take, in bytes; 1 GB where the system does not say."""
    try:
        with open("/proc/meminfo") as lines:  # Linux; what it holds in caches counts as free
            return next(int(line.split()[1]) for line in lines if line.startswith("MemAvailable")) * 1024 // 2
    except (OSError, StopIteration, ValueError):
        return GB


def resized_to(plane: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """A map brought to another shape, float32: by area where it shrinks, else linearly between its pixels."""
    if plane.shape[0] >= shape[0]:
        return resize(plane, shape).astype(np.float32)
    factors = [new / old for old, new in zip(plane.shape, shape)]
    return zoom(plane, factors, order=1, mode="nearest", grid_mode=True)
