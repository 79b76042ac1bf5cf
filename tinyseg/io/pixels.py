"""What an image file holds, page by page, as the file means it.

Behind `read_pages` stand Pillow, always through imageio's plugin of that name; tifffile for what Pillow
misreads (tiff.py); pydicom and nibabel (medical.py). What none reads rightly is refused.

One rule keeps every file within bounds: see `check_bounds`. Its bytes on disk may not be more than `memory`,
nor may (pages + 3) x height x width x samples x bytes of a sample: decoding holds up to three copies of a
page. It may not have more than MOST_PAGES pages. The headers tell, before any pixel is decoded. Only regular
files are opened.
"""

from __future__ import annotations

import io
import logging
import re
import stat
import struct
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from math import prod
from pathlib import Path
from threading import RLock

import imageio.v3 as iio
import numpy as np
from PIL import Image, ImageFile, UnidentifiedImageError

from tinyseg.errors import InputError
from tinyseg.io import tiff
from tinyseg.io.medical import read_dicom, read_nifti

# The formats of which Pillow notices every truncated file (of JPEG 2000, for one, it does not).
FORMATS = ("BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
RASTER = (".bmp", ".gif", ".jfif", ".jpe", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
SUFFIXES = (*RASTER, ".npy", ".dcm", ".nii", ".nii.gz")
READ_LIMIT = 10**9  # bytes: what one file may take
COPIES = 3  # of a page, which decoding holds at most beside what it gives
MOST_PAGES = 10_000
MOST_CHANNELS = 16  # of a .npy file
BLACK_AND_WHITE = {(0, 0, 0), (255, 255, 255)}
INSTALL = {"tifffile": "tifffile"} | dict.fromkeys(("pydicom", "nibabel"), '-e ".[medical]"')
_LOCK = RLock()  # `_undisturbed` changes settings of Python and Pillow, which all threads share


@dataclass(frozen=True)
class Page:
    """One page of an image file, upright."""

    pixels: np.ndarray  # (H, W) or (H, W, channels) bool, uint8, uint16, int32 or float32; without alpha
    alpha: np.ndarray | None = None  # (H, W) of the same dtype, if the file has it
    turned: int = 0  # its orientation tag (EXIF), 2 to 8, if it was set upright by it
    palette: Mapping[int, tuple] | None = (
        None  # the pixels are numbers of a palette: the colours of those in use
    )
    axes: str = ""  # how the file lies in space, if it says so: files of one patient may lie differently


class NoReader(InputError):
    """A package that reads such files is not installed: what is wrong with no file, and with all of them."""


Bounds = Callable[[int, float], None]  # `check_bounds` of a certain file


def check_bounds(file: Path, memory: float, pages: int, taken: float) -> None:
    """Refuse a file of too many pages, or that takes more than `memory` bytes while it is read.

    Args:
        file: the file.
        memory: bytes.
        pages: how many it has; 0: it is not decoded, and `taken` is what it takes on disk.
        taken: bytes of all its pixels.

    Raises:
        InputError: it names what the file takes, what is allowed, and how to allow more.
    """
    if pages:
        taken *= 1 + COPIES / pages
    if taken > memory:
        raise InputError(
            f"{file}: expected an image that takes at most {memory / 1e9:.3g} GB to read, got one that "
            f"takes {taken / 1e9:.3g} GB; allow it by --memory GB, or split or shrink it"
        )
    if pages > MOST_PAGES:
        raise InputError(
            f"{file}: expected at most {MOST_PAGES} pages, got more; split it into several files"
        )


def read_pages(file: str | Path, *, memory: float = READ_LIMIT, mask: bool = False) -> list[Page]:
    """Every page of an image file, as the file means it.

    `.npy`, `.dcm`, `.nii` and `.nii.gz` go by their names. Of other files the content tells the format.

    Args:
        file: the file.
        memory: bytes, which neither the file nor its pixels may exceed: see `check_bounds`.
        mask: read numbers that stand for classes. Of a palette these are the palette's numbers, unless the
            entries in use are black and white, or different greys of a palette that is all grey: then the
            greys. Grey of few bits is not scaled to 8.

    Returns:
        Signed and 64-bit integers become int32 where it holds them, else float32, as do other floats.

    Raises:
        InputError: it cannot be read rightly, or takes too much; the message names the file and says why.
    """
    file = Path(file)
    try:
        data = _bytes(file, memory)
        bounds = partial(check_bounds, file, memory)
        with _undisturbed(block=min(len(data), 2**24)):
            match ending(file.name):
                case ".npy":
                    return [Page(_plain(pixels)) for pixels in _read_npy(data, bounds)]
                case ".nii" | ".nii.gz":
                    return [Page(_plain(pixels), axes=axes) for pixels, axes in read_nifti(data, bounds)]
                case end if end == ".dcm" or not end and data[128:132] == b"DICM":
                    return [
                        Page(_plain(pixels), palette={} if p else None)
                        for pixels, p in read_dicom(data, bounds, mask)
                    ]
                case _:
                    return _read_raster(data, bounds, mask)
    except InputError:
        raise
    except Exception as error:  # on a damaged file a decoder may raise anything
        if isinstance(error, ImportError) and error.name in INSTALL:
            raise NoReader(
                f"{file}: expected {error.name} to be there, which reads such files, got none; "
                f"pip install {INSTALL[error.name]}"
            ) from None
        reason = getattr(error, "strerror", None) or str(error.__cause__ or error) or type(error).__name__
        reason = reason.strip().partition("\n")[0][:200]  # some decoders quote the file
        raise InputError(
            f"{file}: expected an image, got a file that cannot be read as one ({reason})"
        ) from None


def ending(name: str) -> str:
    """The one of SUFFIXES with which a name ends, in lower case; "" if it is none of them."""
    # Longest first, so that .nii.gz is not taken for another ending.
    return next((end for end in sorted(SUFFIXES, key=len)[::-1] if name.lower().endswith(end)), "")


def stem_of(name: str) -> str:
    """The name of a file without its ending: `a.b` of `a.b.nii.gz`."""
    return name[: len(name) - len(ending(name))]


def has_image_suffix(name: str) -> bool:
    """Whether a file of this name can be an image: the name ends with one of SUFFIXES, in any case."""
    return bool(ending(name))


def _bytes(file: Path, memory: float) -> bytes:
    """All bytes of a regular file; whatever else bears the name stays closed, since it may never end."""
    status = file.stat()
    if not stat.S_ISREG(status.st_mode):
        kinds = {stat.S_IFDIR: "a folder", stat.S_IFIFO: "a pipe", stat.S_IFSOCK: "a socket"}
        raise InputError(
            f"{file}: expected an image file, got {kinds.get(stat.S_IFMT(status.st_mode), 'a device')}"
        )
    check_bounds(file, memory, 0, status.st_size)
    with open(file, "rb") as stream:
        return stream.read(status.st_size)


@contextmanager
def _undisturbed(block: int) -> Iterator[None]:
    """Without the readers' warnings and log lines, which are of metadata, and without Pillow's own limits.

    Pillow reads `block` bytes at a time. Each time it copies what it has of a line, so that by its own small
    blocks a very wide image takes minutes.
    """
    with _LOCK, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        limits, level = (Image.MAX_IMAGE_PIXELS, ImageFile.MAXBLOCK), logging.root.manager.disable
        Image.MAX_IMAGE_PIXELS, ImageFile.MAXBLOCK = None, max(block, ImageFile.MAXBLOCK)
        logging.disable(logging.CRITICAL)
        try:
            yield
        finally:
            Image.MAX_IMAGE_PIXELS, ImageFile.MAXBLOCK = limits
            logging.disable(level)


def _plain(pixels: np.ndarray) -> np.ndarray:
    """The pixels in a type of `Page`, (H, W) or (H, W, channels), of which there are at least two."""
    if pixels.ndim == 3 and pixels.shape[2] == 1:
        pixels = pixels[..., 0]  # (H, W, 1) -> (H, W)
    if not pixels.size or pixels.dtype.kind not in "biuf":
        raise ValueError(f"{pixels.dtype} of shape {pixels.shape}; expected pixels of numbers")
    kind = pixels.dtype.newbyteorder("=")
    if kind not in (bool, np.uint8, np.uint16, np.int32):
        limits = np.iinfo(np.int32)
        whole = kind.kind in "iu" and limits.min <= pixels.min() and pixels.max() <= limits.max
        kind = np.dtype(np.int32 if whole else np.float32)
    return np.require(pixels, kind, ["C", "W"])


def _upright(pixels: np.ndarray, orientation: int) -> np.ndarray:
    """An image as its orientation tag wants it shown, (H, W, ...) to (H, W, ...) or (W, H, ...).

    Source: EXIF 2.3, tag 274: where the first row and the first column of the stored image belong.
    """
    if orientation in (5, 6, 7, 8):  # the first row is a side
        pixels = pixels.swapaxes(0, 1)  # (H, W, ...) -> (W, H, ...)
    if orientation in (3, 4, 7, 8):
        pixels = pixels[::-1]
    return pixels[:, ::-1] if orientation in (2, 3, 6, 7) else pixels


def _page(pixels, alpha, orientation: int, colours, greys: bool, mask: bool, *, upright=False) -> Page:
    """A page from what a reader found.

    Args:
        pixels: (H, W) or (H, W, channels), as stored.
        alpha: (H, W) or None.
        orientation: the tag; anything but 2 to 8 says that the page is upright.
        colours: (H, W, 3), if the pixels are numbers of a palette; else None.
        greys: all that palette is grey, whether in use or not.
        mask: as of `read_pages`.
        upright: the reader has obeyed the tag by itself.
    """
    palette = None
    if colours is not None:
        palette = _in_use(pixels, colours) if mask else None
        seen = {*palette.values()} if palette else set()
        if palette is None or (greys or seen <= BLACK_AND_WHITE) and len(seen) == len(palette):
            pixels, palette = colours[..., 0] if mask else colours, None
    turn = 1 if upright else orientation
    alpha = None if alpha is None else _plain(_upright(alpha, turn))
    return Page(_plain(_upright(pixels, turn)), alpha, orientation * (orientation in range(2, 9)), palette)


def _in_use(numbers: np.ndarray, colours: np.ndarray) -> dict[int, tuple]:
    """{number in use: its colour} of a palette; numbers (H, W) or (H, W, 1), colours (H, W, 3)."""
    colour_of: dict[int, tuple] = {}
    for row, seen in zip(numbers.reshape(colours.shape[:2]), colours):  # row by row, which saves memory
        values, first = np.unique(row, return_index=True)
        colour_of |= dict(zip(values.tolist(), map(tuple, seen[first].tolist())))
    return colour_of


def _read_raster(data: bytes, bounds: Bounds, mask: bool) -> list[Page]:
    """The pages of one of FORMATS, by Pillow; of a TIFF file that Pillow misreads, by tifffile."""
    Image.init()  # else Pillow does not know all FORMATS
    if data[:4] in tiff.MAGIC:
        pages = tiff.count_pages(data, bounds)
        headers = tiff.headers(data, pages, bounds)
        if headers is None:
            return [_page(*found, mask) for found in tiff.read_tiff(data, pages, bounds)]
    else:
        headers = dict.fromkeys(range(_count_pages(data, bounds)))
    # Always Pillow, so that no file depends on which other readers imageio finds installed.
    with iio.imopen(data, "r", plugin="pillow") as image:
        return [_read_page(data, image, index, header, mask) for index, header in headers.items()]


def _count_pages(data: bytes, bounds: Bounds) -> int:
    """How many pages a file has that is no TIFF, from its headers."""
    try:
        image = Image.open(io.BytesIO(data), formats=FORMATS)
    except UnidentifiedImageError:
        raise ValueError(f"its content is none of {', '.join(FORMATS)}") from None
    with image:
        if image.format == "GIF":
            return _count_gif_pages(data, bounds)
        # A photograph's MPO holds previews and maps of the first page behind it.
        pages = 1 if image.format == "MPO" else getattr(image, "n_frames", 1)
        depth = 2 if image.mode.startswith("I;16") else {"I": 4, "F": 4, "P": 3}.get(image.mode, 1)
        bounds(pages, pages * prod(image.size) * len(image.getbands()) * depth)
        return pages


def _count_gif_pages(data: bytes, bounds: Bounds) -> int:
    """How many pages a GIF file has. Source: GIF89a specification."""
    width, height, flags = struct.unpack_from("<HHB", data, 6)
    pages, at = 0, 13 + (3 * 2 ** (flags % 8 + 1) if flags & 128 else 0)
    while data[at] != 0x3B:  # the trailer; without it pages may be lost
        if data[at] == 0x2C:  # a page
            left, top, across, down, flags = struct.unpack_from("<HHHHB", data, at + 1)
            width, height, pages = max(width, left + across), max(height, top + down), pages + 1
            bounds(pages, 0)
            at += 11 + (3 * 2 ** (flags % 8 + 1) if flags & 128 else 0)
        elif data[at] == 0x21:  # an extension
            at += 2
        else:  # readers pass over it
            at += 1
            continue
        while data[at]:  # blocks, each behind its length; one of length 0 is the last
            at += 1 + data[at]
        at += 1
    bounds(pages, 4 * pages * width * height)  # red, green, blue and alpha
    return pages


def _read_page(data: bytes, image, index: int, header: tuple[int, int] | None, mask: bool) -> Page:
    """One page by imageio's plugin `image`; `header` is (bits, orientation) of TIFF, else None."""
    tags = image.metadata(index=index, exclude_applied=False)
    mode, is_png = tags["mode"], data.startswith(b"\x89PNG")
    bits = header[0] if header else data[24] if is_png else 8
    white = 2**bits - 1  # the number that is stored for it
    # Of PGM, whose header says it, Pillow's mode is I or L.
    if pgm := re.match(rb"P[25](?:(?:\s|#[^\n]*\n)+(\d{1,9})){3}\s", data[:10_000]):
        white = int(pgm[1])
    elif mode not in tiff.RIGHT or (mode in ("I", "F") and not header):
        raise ValueError(f"mode {mode}; save it as RGB or grey")
    # A colour that stands for transparency becomes alpha.
    clear = "transparency" in tags and (is_png or mode == "P")
    wanted = {"L": "LA", "RGB": "RGBA", "P": "RGBA"}.get(mode) if clear else {"P": "RGB"}.get(mode)
    pixels, alpha, colours, greys = image.read(index=index, mode=wanted), None, None, False
    if pixels.ndim == 3 and pixels.shape[2] in (2, 4):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
    # Of deep colour Pillow keeps the high bytes: enough where all 16 bits are in use, next to nothing of 12.
    if bits == 16 and pixels.dtype == np.uint8 and pixels.max() < 128:
        raise ValueError("colour of 16 bits that are not all in use; save it as TIFF")
    if pgm and pixels.dtype == np.int32:
        pixels = pixels.astype(np.uint16)
    if mask and mode == "P":
        pixels, colours = image.read(index=index, mode="P"), pixels
        with Image.open(io.BytesIO(data), formats=FORMATS) as whole:
            table = np.reshape(whole.getpalette() or [], (-1, 3))  # (3 numbers) -> (numbers, 3)
        greys = bool((table == table[:, :1]).all())
    elif mask and mode in ("L", "I") and (pgm or bits < 8):
        most = np.iinfo(pixels.dtype).max  # to which Pillow scales; back to the numbers that are stored
        pixels = ((pixels.astype(np.uint32) * white + most // 2) // most).astype(pixels.dtype)
    turn = header[1] if header else tags.get("Orientation", 1)  # TIFF, Pillow turns by itself
    return _page(pixels, alpha, turn, colours, greys, mask, upright=header is not None)


def _read_npy(data: bytes, bounds: Bounds) -> list[np.ndarray]:
    """The pages of a `.npy` file of shape (H, W), (H, W, channels) or (pages, H, W).

    Three axes are told apart by this rule: the last one is channels if it is shorter than both others and at
    most MOST_CHANNELS long. Else the first one is pages.
    """
    stream = io.BytesIO(data)
    version = np.lib.format.read_magic(stream)
    read_header = {(1, 0): np.lib.format.read_array_header_1_0, (2, 0): np.lib.format.read_array_header_2_0}
    shape, in_columns, dtype = read_header[version](stream)
    if dtype.kind not in "biuf" or len(shape) not in (2, 3):
        raise ValueError(f"{dtype} of shape {shape}; expected (H, W), (H, W, channels) or (pages, H, W)")
    stack = len(shape) == 3 and not (shape[2] < min(shape[:2]) and shape[2] <= MOST_CHANNELS)
    depth = max(dtype.itemsize, 4 if dtype.kind in "if" else 1)  # as stored, or as read
    bounds(shape[0] if stack else 1, prod(shape) * depth)
    pixels = np.frombuffer(data, dtype, prod(shape), stream.tell())
    pixels = pixels.reshape(shape, order="F" if in_columns else "C")
    return list(pixels) if stack else [pixels]
