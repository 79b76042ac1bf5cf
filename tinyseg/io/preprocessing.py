"""What lies between a file's pixels and a network, both ways: a trained network is of no use without it.

On the way in, colour becomes grey, the image is resized, and its levels become numbers in [0, 1]. On the
way out, each class becomes the value that stands for it in a mask or a label map (masks.py).
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from numbers import Integral, Real

import numpy as np

from tinyseg.io.masks import MASK, Meaning
from tinyseg.ops import UNLABELLED

LUMA = np.array([299.0, 587.0, 114.0])  # Rec. 601 in thousandths: whole numbers keep white exactly white
MOST_ENLARGED = 2**22  # pixels of an image that is enlarged; one that is not may have as many as it has
AT_ONCE = 2**21  # entries of a float64 sum at most, so that resizing a large image takes little beside it


FINITE = (
    "expected finite levels, got NaN or an infinity; save it with a number there, such as the lowest level"
)


@dataclass(frozen=True)
class Preprocessing:
    """How the images of a training were made ready, so that others can be made ready alike.

    Raises:
        ValueError: a field makes no sense; the message names it.
    """

    size: int = 64  # the shorter side of an image is resized to so many pixels; 0: it stays as it is
    channels: int = 1  # 1: grey, for colour its luma; 3: red, green and blue; else as many as files have
    # Of files with more than 8 bits this level becomes 0, that one 1; None: training had none, see `for_file`
    window: tuple[float, float] | None = None
    masks: Meaning = Meaning(above=0)  # how masks are read, and written

    def __post_init__(self):
        for name, low in (("size", 0), ("channels", 1)):
            value = getattr(self, name)
            if not (isinstance(value, Integral) and not isinstance(value, bool) and low <= value <= 2**16):
                raise ValueError(f"{name}: expected a whole number from {low} to {2**16}, got {value!r}")
            object.__setattr__(self, name, int(value))  # JSON knows no NumPy
        if self.window is not None:
            window = tuple(self.window)
            if len(window) != 2 or not all(isinstance(end, Real) and np.isfinite(end) for end in window):
                raise ValueError(f"window: expected two finite numbers, got {self.window!r}")
            if window[0] >= window[1]:
                raise ValueError(f"window: expected the lower level before the higher, got {self.window!r}")
            object.__setattr__(self, "window", tuple(map(float, window)))
        if not isinstance(self.masks, Meaning):
            raise ValueError(f"masks: expected a Meaning, got {self.masks!r}")

    def __call__(self, pixels: np.ndarray, size: int | None = None) -> np.ndarray:
        """An image of any size as the network shall see it.

        Args:
            pixels: (H, W) or (H, W, channels): bool, uint8, or of more bits, whole or floating.
            size: of the shorter side, in place of the training's; 0 leaves the image at its own size.

        Returns:
            (channels, h, w) float32 in [0, 1].

        Raises:
            ValueError: the levels need a window, or there are other channels than the network's.
        """
        window = self.for_file([pixels]).window
        return in_window(self.resized(pixels, size), pixels.dtype, window)

    def resized(self, pixels: np.ndarray, size: int | None = None) -> np.ndarray:
        """The same with the file's own levels: (channels, h, w) float32."""
        shape = self.shape(pixels, size)
        if pixels.dtype.kind == "f" and not np.isfinite(pixels).all():
            raise ValueError(FINITE)
        if self.window:
            pixels = signed(pixels, self.window)
        return np.stack([resize(plane, shape) for plane in planes(pixels, self.channels)], dtype=np.float32)

    def shape(self, pixels: np.ndarray, size: int | None = None) -> tuple[int, int]:
        """(h, w) of an image as the network shall see it; arguments as of the call.

        Raises:
            ValueError: the image is long and thin, and would be enlarged beyond MOST_ENLARGED pixels.
        """
        size = self.size if size is None else size
        height, width = pixels.shape[:2]
        factor = size / min(height, width) if size else 1
        h, w = max(1, round(factor * height)), max(1, round(factor * width))
        if factor > 1 and h * w > MOST_ENLARGED:
            raise ValueError(
                f"expected an image that is not so long and thin, got {width} x {height} pixels, which would "
                f"be enlarged to {w} x {h}; a smaller --size, or 0, leaves it smaller"
            )
        return h, w

    def for_file(self, pages: list[np.ndarray]) -> Preprocessing:
        """The same; where training had no files of more than 8 bits, with a window that fits these pages.

        Raises:
            ValueError: no window can be told from them.
        """
        deep = [Levels.of(pixels) for pixels in pages if is_deep(pixels.dtype)]
        return self if self.window or not deep else replace(self, window=window_of(deep))


def is_deep(dtype: np.dtype) -> bool:
    """Whether levels have more than 8 bits, so that a window has to say what is black and white."""
    return dtype not in (np.dtype(bool), np.dtype(np.uint8))


@dataclass(frozen=True)
class Levels:
    """What a file of more than 8 bits tells of its levels."""

    kind: str  # of the dtype: "u" unsigned, "i" signed, "f" floating
    low: float
    high: float
    bright: float  # all but a thousandth of the pixels are below it
    wrapped: bool  # they look like signed numbers that were stored as unsigned ones

    @classmethod
    def of(cls, pixels: np.ndarray) -> Levels:
        """Those of an image (H, W, ...)."""
        shares = [0.0] * 4
        if pixels.dtype == np.uint16:  # the share of each quarter of the range
            shares = (np.bincount((pixels >> 14).ravel(), minlength=4) / pixels.size).tolist()
        wrapped = shares[1] == shares[2] == 0 and min(shares[0], shares[3]) > 0.01
        last = max(0, pixels.size - 1 - max(1, pixels.size // 1000))
        bright = np.partition(pixels, last, axis=None)[last]
        return cls(pixels.dtype.kind, float(pixels.min()), float(pixels.max()), float(bright), wrapped)


def window_of(files: list[Levels]) -> tuple[float, float]:
    """The window of files of more than 8 bits, where no flag says it.

    16-bit files often hold 10 or 12: from 0 to 2**bits - 1, with as many bits, 8 at least, as the brightest
    level of all needs. Floats in [0, 1] are taken as they are.

    Raises:
        ValueError: signed numbers, or floats beyond [0, 1], of which nobody knows what is black and white.
    """
    low, high = min(file.low for file in files), max(file.high for file in files)
    kinds = {file.kind for file in files}
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ValueError(FINITE)
    if kinds == {"f"} and low >= 0 and high <= 1:
        return 0.0, 1.0
    if kinds == {"u"} and not any(file.wrapped for file in files):
        return 0.0, float(2 ** max(8, int(high).bit_length()) - 1)
    if kinds == {"u"}:
        raise ValueError(
            f"expected levels without a gap, got some near 0, some near {high:.0f} and none between, as of "
            "signed numbers that were stored as unsigned ones; --window LOW,HIGH with LOW below 0 reads them "
            "as signed, --window 0,65535 as they are"
        )
    raise ValueError(
        f"expected to know which levels are black and white, got levels from {low:g} to {high:g}; "
        "--window LOW,HIGH says it, such as --window -1000,400 for lungs in CT, or --window 1%,99%"
    )


def signed(pixels: np.ndarray, window: tuple[float, float]) -> np.ndarray:
    """16-bit levels as signed numbers, where a window that begins below 0 says that they are."""
    return pixels.view(np.int16) if pixels.dtype == np.uint16 and window[0] < 0 else pixels


def in_window(levels: np.ndarray, dtype: np.dtype, window: tuple[float, float] | None) -> np.ndarray:
    """Levels of files of this dtype as numbers in [0, 1], float32; what lies beyond the window is 0 or 1."""
    if window is None or not is_deep(dtype):
        return levels / np.float32(1 if dtype.kind == "b" else 255)
    low, high = np.float32(window[0]), np.float32(window[1])
    return np.clip((levels - low) / (high - low), 0, 1)


def preprocessing_of(data) -> Preprocessing:
    """How a `Dataset`'s images were made ready; of one that came from no file, all that its arrays tell."""
    if data.preprocessing is not None:
        return data.preprocessing
    if data.classes == 2:
        masks = Meaning(MASK, data.class_names, above=0)
    else:
        masks = Meaning(tuple(range(data.classes)), data.class_names, ignore=UNLABELLED)
    size, channels = min(min(image.shape[1:]) for image in data.images), data.images[0].shape[0]
    return Preprocessing(size, channels, None, masks)


def planes(pixels: np.ndarray, channels: int) -> list[np.ndarray]:
    """Pixels (H, W) or (H, W, channels) as `channels` planes (H, W); grey and colour stand in for each other.

    Raises:
        ValueError: they have another number of channels.
    """
    there = 1 if pixels.ndim == 2 else pixels.shape[2]
    if there == 3 and channels == 1:
        return [grey(pixels)]
    if there == 1 and channels in (1, 3):
        return [pixels.reshape(pixels.shape[:2])] * channels  # (H, W) or (H, W, 1) -> (H, W)
    if there != channels:
        raise ValueError(
            f"expected an image of {channels} channels, got {there}; --channels {there} trains on such"
        )
    return list(np.moveaxis(pixels, -1, 0))  # (H, W, channels) -> channels x (H, W)


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
    pixels, width = image.shape
    whole, part = np.divmod(np.arange(cells + 1) * pixels, cells)  # where each new edge lies
    sums, strip = np.empty((cells, width)), max(1, AT_ONCE // (pixels + 1))
    for left in range(0, width, strip):  # columns know nothing of each other
        columns = image[:, left : left + strip]
        before = np.zeros((pixels + 1, columns.shape[1]))  # the sum of all pixels before each edge
        np.cumsum(columns, axis=0, out=before[1:])
        edges = cells * before[whole] + part[:, None] * columns[np.minimum(whole, pixels - 1)]
        sums[:, left : left + strip] = np.diff(edges, axis=0)
    return sums
