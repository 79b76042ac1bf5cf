"""What lies between a file's pixels and a network, both ways: a trained network is of no use without it.

On the way in, colour becomes grey, the picture is resized, and its levels become numbers in [0, 1]. On the
way out, each class becomes the value that stands for it in a mask or a label map.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral

import numpy as np

MASK = (0, 255)  # what stands for the two classes in an ordinary mask
LUMA = np.array([299.0, 587.0, 114.0])  # Rec. 601 in thousandths: whole numbers keep white exactly white


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a training were made ready, so that others can be made ready alike.

    Raises:
        ValueError: a field makes no sense; the message names it.
    """

    size: int = 64  # the shorter side of an image is resized to so many pixels
    channels: int = 1  # 1: grey, for colour its luma; 3: red, green and blue
    bits: int | None = (
        None  # 16-bit levels are divided by 2**bits - 1; None: training had none, see `for_file`
    )
    values: tuple[int, ...] = MASK  # for each class, what stands for it in a mask or label map
    names: tuple[str, ...] = ("background", "structure")  # of the classes

    def __post_init__(self):
        for name, high in (("size", 2**16), ("channels", 2**16), ("bits", 16)):
            value = getattr(self, name)
            whole = isinstance(value, Integral) and not isinstance(value, bool) and 1 <= value <= high
            if not whole and (name, value) != ("bits", None):
                raise ValueError(f"{name}: expected a whole number from 1 to {high}, got {value!r}")
            object.__setattr__(self, name, value if value is None else int(value))  # JSON knows no NumPy
        values, names = tuple(self.values), tuple(self.names)
        if not all(isinstance(value, Integral) and 0 <= value < 2**16 for value in values):
            raise ValueError(f"values: expected whole numbers from 0 to 65535, got {values}")
        if len(set(values)) < len(values) or len(names) != len(values):
            raise ValueError(f"names: expected one for each of different values {values}, got {names}")
        object.__setattr__(self, "values", tuple(map(int, values)))  # plain tuples, where JSON had lists
        object.__setattr__(self, "names", tuple(map(str, names)))

    def __call__(self, pixels: np.ndarray, size: int | None = None) -> np.ndarray:
        """An image of any size as the network shall see it.

        Args:
            pixels: (H, W) bool, uint8 or uint16, or (H, W, 3) uint8.
            size: of the shorter side, in place of the training's; 0 leaves the image at its own size.

        Returns:
            (channels, h, w) float32 in [0, 1].
        """
        shape = self.shape(pixels, size)
        bits = self.bits if self.bits and pixels.dtype == np.uint16 else bits_in_use(pixels)
        scaled = np.stack([resize(plane, shape) for plane in planes(pixels, self.channels)], dtype=np.float32)
        return np.minimum(scaled / np.float32(2**bits - 1), 1)  # brighter than any in training is white

    def shape(self, pixels: np.ndarray, size: int | None = None) -> tuple[int, int]:
        """(h, w) of an image as the network shall see it; arguments as of the call."""
        size = self.size if size is None else size
        height, width = pixels.shape[:2]
        factor = size / min(height, width) if size else 1
        return round(factor * height), round(factor * width)

    def for_file(self, pages: list[np.ndarray]) -> Preprocessing:
        """The same; where training had no 16-bit files, the brightest of these pages scales them all."""
        deep = [bits_in_use(pixels) for pixels in pages if pixels.dtype == np.uint16]
        return self if self.bits or not deep else replace(self, bits=max(deep))


def preprocessing_of(data) -> Preprocessing:
    """How a `Dataset`'s images were made ready; of one that came from no file, all that its arrays tell."""
    if data.preprocessing is not None:
        return data.preprocessing
    values = MASK if data.classes == 2 else tuple(range(data.classes))
    return Preprocessing(min(data.images.shape[2:]), data.images.shape[1], None, values, data.class_names)


def bits_in_use(pixels: np.ndarray) -> int:
    """1 for bool, 8 for uint8; uint16 often holds 10 or 12: what its brightest pixel needs, at least 8."""
    return {"bool": 1, "uint8": 8}.get(pixels.dtype.name) or max(8, int(pixels.max()).bit_length())


def planes(pixels: np.ndarray, channels: int) -> list[np.ndarray]:
    """Pixels (H, W) or (H, W, 3) as `channels` planes (H, W): one of grey, or red, green and blue."""
    if channels not in (1, 3):
        raise ValueError(f"channels: expected 1 or 3 for an image file, got {channels}")
    if channels == 1:
        return [grey(pixels)]
    return [pixels] * 3 if pixels.ndim == 2 else list(np.moveaxis(pixels, -1, 0))  # (H, W, 3) -> 3 x (H, W)


def grey(pixels: np.ndarray) -> np.ndarray:
    """The luma of a colour image, (H, W, 3) to (H, W); grey stays as it is."""
    return pixels if pixels.ndim == 2 else pixels @ LUMA / LUMA.sum()


def resize(image: np.ndarray, shape: tuple[int, int]) -> np.ndarray:
    """Each new cell gets the mean of what it covers of the old pixels, by area: (H, W) to `shape`, float64.

    Where there are more cells than pixels, a pixel becomes a block.

    A mean over a rectangle is a mean over rows of means over columns. Both count a pixel in whole parts and
    divide at the end, so that sums of whole levels are exact: a mask that covers just half a cell does so on
    every machine.
    """
    if image.shape == shape:
        return image
    height, width = image.shape
    return _sums(_sums(image, shape[0]).T, shape[1]).T / (height * width)


def _sums(image: np.ndarray, cells: int) -> np.ndarray:
    """The sum of what each cell covers of each column, a pixel having `cells` parts: (H, W) to (cells, W)."""
    pixels = len(image)
    before = np.zeros((pixels + 1, image.shape[1]))  # the sum of all pixels before each edge
    np.cumsum(image, axis=0, out=before[1:])
    whole, part = np.divmod(np.arange(cells + 1) * pixels, cells)  # where each new edge lies
    edges = cells * before[whole] + part[:, None] * image[np.minimum(whole, pixels - 1)]
    return np.diff(edges, axis=0)
