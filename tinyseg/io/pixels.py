"""What an image file holds, read as it is stored or refused: pixels, masks, label maps."""

from __future__ import annotations

import warnings
from pathlib import Path

import imageio.v3 as iio
import numpy as np

from tinyseg.errors import InputError, listed
from tinyseg.io.preprocessing import MASK
from tinyseg.ops import UNLABELLED

# The formats of which Pillow notices every truncated file (of JPEG 2000, for one, it does not).
SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
LOSSLESS = (".bmp", ".pgm", ".png", ".tif", ".tiff")  # of values; GIF numbers its grey levels anew
MODES = ("1", "L", "LA", "P", "RGB", "RGBA", "I", "I;16", "I;16B")  # Pillow's names for grey, palette, colour


def read_pixels(file: Path, *, indices: bool = False) -> np.ndarray:
    """The pixels of an image file of one page as they are stored, without alpha.

    Args:
        file: the file.
        indices: of a palette, rather than its colours: label maps often come with one.

    Returns:
        (H, W) bool, uint8 or uint16, or (H, W, 3) uint8.

    Raises:
        InputError: it cannot be read rightly; the message names the file and says why.
    """
    (pixels,) = _read(file, 1, indices)
    return pixels


def read_pages(file: Path, *, indices: bool = False) -> list[np.ndarray]:
    """The pixels of every page of an image file, each as `read_pixels` returns them."""
    return _read(file, None, indices)


def _read(file: Path, expected: int | None, indices: bool) -> list[np.ndarray]:
    try:
        data = file.read_bytes()
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of metadata that we do not use
            # Always Pillow, so that no file depends on which other readers imageio finds installed.
            with iio.imopen(data, "r", plugin="pillow") as image:
                pages = image.properties(index=...).n_images
                read = []
                for page in range(pages if expected is None else 1):
                    tags = image.metadata(index=page, exclude_applied=False)
                    mode = "P" if indices and tags["mode"] == "P" else None
                    read.append((image.read(index=page, mode=mode), tags))
    except Exception as error:  # on a damaged file a decoder may raise anything
        reason = str(error.__cause__ or error).partition("\n")[0]
        raise InputError(
            f"{file}: expected an image, got a file that cannot be read as one ({reason})"
        ) from None
    what = "upright pages" if expected is None else "one upright page"
    for pixels, tags in read:
        flaws = [f"{pages} pages"] if expected not in (None, pages) else []
        if flaws := flaws + _flaws(data, pixels, tags, indices):
            raise InputError(
                f"{file}: expected {what} of 8- or 16-bit unsigned grey or of 8-bit colour, "
                f"got {', '.join(flaws)} ({pixels.dtype} of shape {pixels.shape})"
            )
    return [_without_alpha(pixels) for pixels, _ in read]


def _flaws(data: bytes, pixels: np.ndarray, tags: dict, indices: bool) -> list[str]:
    """What Pillow passes over in silence, so that a page's pixels are not what the file means."""
    # PNG keeps the bits of a sample in byte 24, TIFF in a tag; the others have 8, or come scaled to 8.
    bits = data[24] if data.startswith(b"\x89PNG") else int(np.max(tags.get("BitsPerSample", 8)))
    flaws = {
        f"mode {tags['mode']}": tags["mode"] not in MODES or pixels.dtype == np.int32,
        # Of deep colour it keeps the high bytes: enough where all 16 bits are in use, next to nothing of 12.
        f"{bits}-bit colour": bits > 8 and pixels.dtype == np.uint8 and pixels.max() < 128,
        f"{bits}-bit grey": indices and 1 < bits < 8 and tags["mode"] == "L",  # its values scaled to 8 bits
        "signed bytes": tags.get("SampleFormat") == 2 and pixels.dtype == np.uint8,
        "0 for white": tags.get("PhotometricInterpretation") == 0 and bits == 16,  # inverted up to 8 bits
        "a turned image": tags.get("Orientation", 1) not in (0, 1),  # set upright in TIFF, but not in JPEG
    }
    return [flaw for flaw, present in flaws.items() if present]


def _without_alpha(pixels: np.ndarray) -> np.ndarray:
    """(H, W), (H, W, 2), (H, W, 3) or (H, W, 4) to (H, W) or (H, W, 3), in the machine's byte order."""
    if pixels.ndim == 3:
        pixels = pixels[..., 0] if pixels.shape[2] == 2 else pixels[..., :3]
    return pixels.astype(pixels.dtype.newbyteorder("="), copy=False)


def binary(pixels: np.ndarray, file: Path) -> np.ndarray:
    """A mask, (H, W) or (H, W, 3) with equal channels, as (H, W) bool; `file` is what an error names."""
    levels = _levels(pixels)
    if levels is not None:
        top = levels.max()
        if top in (0, 1, 255, 65535) and ((levels == 0) | (levels == top)).all():
            return levels > 0
    found = (np.unique(pixels.reshape(-1, 3), axis=0) if levels is None else np.unique(levels)).tolist()
    raise InputError(f"{file}: expected a grey mask of 0 and 1, or of 0 and 255, got {listed(found)}")


def label_values(pixels: np.ndarray, file: Path) -> np.ndarray:
    """A label map, (H, W) or (H, W, 3) with equal channels, as its values (H, W) from 0 to 65535.

    One of 1 bit is a mask, whose values are 0 and 255.
    """
    levels = _levels(pixels)
    if levels is None:
        found = np.unique(pixels.reshape(-1, 3), axis=0).tolist()
        raise InputError(
            f"{file}: expected a grey or palette label map, a number a class, got {listed(found)}"
        )
    if file.suffix.lower() not in LOSSLESS:
        raise InputError(
            f"{file}: expected a label map as {' '.join(LOSSLESS)}: others may change its values"
        )
    return levels.astype(np.uint16) * (255 if levels.dtype == bool else 1)


def class_numbers(pixels: np.ndarray, values: tuple[int, ...], file: Path) -> np.ndarray:
    """A mask or label map as numbers of classes, (H, W) uint8, by the value of each; 255 is UNLABELLED.

    Of two classes, a file of nothing but 0 and 255 is a mask, as in `load_folder`.
    """
    if values == MASK:
        return binary(pixels, file).astype(np.uint8)
    found = label_values(pixels, file)
    if values == (0, 1) and set(np.unique(found).tolist()) == {0, 255}:
        return (found > 0).astype(np.uint8)
    if others := sorted(set(np.unique(found).tolist()) - {*values, UNLABELLED}):
        raise InputError(f"{file}: expected a label map of the values {listed(values)}, got {listed(others)}")
    number_of = np.full(2**16, UNLABELLED, np.uint8)
    number_of[list(values)] = range(len(values))
    return number_of[found]


def _levels(pixels: np.ndarray) -> np.ndarray | None:
    """The one channel of grey pixels, stored once or three times; None of colour."""
    if pixels.ndim == 2:
        return pixels
    return pixels[..., 0] if (pixels == pixels[..., :1]).all() else None


def centre_square(image: np.ndarray) -> np.ndarray:
    """The largest square around the centre of an image, (H, W, ...) to (S, S, ...) with S = min(H, W)."""
    side = min(image.shape[:2])
    top, left = ((extent - side) // 2 for extent in image.shape[:2])
    return image[top : top + side, left : left + side]
