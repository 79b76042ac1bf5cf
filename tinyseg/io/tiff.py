"""TIFF files: how many pages, which of them Pillow reads rightly, and the others by tifffile.

pixels.py calls these functions. They raise whatever the readers raise on a damaged file, and `ImportError`
without tifffile. `bounds(pages, taken)` is `check_bounds` there.
"""

from __future__ import annotations

import io
import lzma
import struct
import zlib
from collections.abc import Iterator
from math import ceil, prod

import numpy as np
from PIL import Image, UnidentifiedImageError

MAGIC = (b"II*\0", b"MM\0*", b"II+\0", b"MM\0+")  # how a TIFF file begins; +: BigTIFF
# Pillow's modes, and of which (bits, sample format) it reads each rightly. Format 1 is unsigned, 2 signed, 3
# floating point. It scales unsigned grey of 2 and 4 bits to 8.
RIGHT = {
    "1": {(1, 1)},
    "L": {(2, 1), (4, 1), (8, 1)},
    "P": {(1, 1), (2, 1), (4, 1), (8, 1)},
    **dict.fromkeys(("LA", "RGB", "RGBA"), {(8, 1)}),
    **dict.fromkeys(("I;16", "I;16B"), {(12, 1), (16, 1)}),
    "I": {(16, 2), (32, 2)},
    "F": {(32, 3), (64, 3)},
}
REDUCED = 1  # a bit of tag 254: the page is a thumbnail, or a level of a pyramid
MISSING = "some of its pixels are missing"
UNPACK = {
    8: zlib.decompressobj,
    32946: zlib.decompressobj,
    34925: lzma.LZMADecompressor,
}  # by compression tag


def count_pages(data: bytes, bounds) -> int:
    """How many pages a file has; one that leads out of the file, or round in a circle, is damaged.

    Source: TIFF 6.0, section 2.
    """
    order, big = ("<" if data.startswith(b"II") else ">"), 43 in data[2:4]
    count, entry, offset = (order + "Q", 20, order + "Q") if big else (order + "H", 12, order + "I")
    (at,), seen = struct.unpack_from(offset, data, 8 if big else 4), set()
    while at:
        if at in seen:
            raise ValueError("its pages go round in a circle")
        seen.add(at)
        bounds(len(seen), 0)
        (entries,) = struct.unpack_from(count, data, at)
        (at,) = struct.unpack_from(offset, data, at + struct.calcsize(count) + entry * entries)
    return len(seen)


def headers(data: bytes, pages: int, bounds) -> dict[int, tuple[int, int]] | None:
    """{page: (bits of a sample, orientation tag)} but for small copies of other pages.

    None, if Pillow does not read all pages rightly.
    """
    taken, found, copies, rightly = 0, {}, set(), True
    try:
        with Image.open(io.BytesIO(data), formats=("TIFF",)) as image:
            for page in range(pages):
                image.seek(page)
                tags, samples = image.tag_v2, len(image.getbands())
                bits, (width, height) = tags.get(258, (1,)), (tags[256], tags[257])
                tile = tags.get(322, width), tags.get(323, min(tags.get(278, height), height))
                area = _area(width, height, *tile)
                if len(tags.get(324, tags.get(273, ()))) * prod(tile) < area:
                    raise ValueError(MISSING)
                if 322 not in tags:
                    area = width * height
                taken += area * samples * (max(bits) // 8 or 1)
                rightly &= (
                    {(b, kind) for b in bits for kind in tags.get(339, (1,))} <= RIGHT.get(image.mode, set())
                    and tags.get(277, 1) == samples  # it passes over more
                    and (samples == 1 or tags.get(284, 1) == 1)  # it mistakes planes
                    and (
                        tags.get(259, 1) == 1 or data[:2] == b"II" or image.mode not in "IF"
                    )  # and byte orders
                    and (
                        tags.get(262) != 0 or image.mode in ("1", "L")
                    )  # it inverts 0 for white up to 8 bits
                )
                found[page] = max(bits), tags.get(274, 1)
                copies |= {page} if tags.get(254, 0) & REDUCED else set()
    except (UnidentifiedImageError, SyntaxError):  # it knows no mode for such pixels
        return None
    if not rightly:
        return None
    bounds(pages, taken)
    return {page: header for page, header in found.items() if page not in copies} or found


def _area(width: int, height: int, tile_width: int, tile_height: int) -> int:
    """Pixels of an image in whole tiles, which may be larger than the image."""
    return ceil(width / tile_width) * tile_width * ceil(height / tile_height) * tile_height


def read_tiff(data: bytes, pages: int, bounds) -> Iterator[tuple]:
    """Each page by tifffile, but for small copies of others: pixels, alpha, orientation tag, colours, greys.

    Pixels are (H, W, channels) as stored, but 0 is black. Alpha is (H, W) or None. Colours are (H, W, 3) of a
    palette whose numbers the pixels are, or None; whether all that palette is grey.
    """
    import tifffile

    with tifffile.TiffFile(io.BytesIO(data)) as stored:
        taken = 0
        for i in range(pages):
            page = stored.pages[i]
            if page.dtype is None:
                raise ValueError(f"{page.bitspersample} bits of sample format {page.sampleformat}")
            size = page.imagewidth, page.imagelength
            area = _area(*size, page.tilewidth or size[0], page.tilelength or size[1]) * page.imagedepth
            depth = max(page.dtype.itemsize, 4 if page.dtype.kind in "if" else 1)  # as stored, or as read
            taken += area * page.samplesperpixel * depth
        bounds(pages, taken)
        every = [stored.pages[i] for i in range(pages)]
        for page in [page for page in every if not page.subfiletype & REDUCED] or every:
            _check_segments(page, data)
            yield _page(page)


def _check_segments(page, data: bytes) -> None:
    """Refuse strips and tiles that are cut off, or that would unpack to more than their pixels take."""
    most = prod(page.chunks) * page.dtype.itemsize
    if len(page.dataoffsets) < prod(page.chunked):
        raise ValueError(MISSING)
    for offset, length in zip(page.dataoffsets, page.databytecounts, strict=True):
        if not (offset and length and offset + length <= len(data)):
            raise ValueError(MISSING)
        if page.compression in UNPACK:
            segment = UNPACK[page.compression]().decompress(data[offset : offset + length], most + 1)
            if len(segment) > most:
                raise ValueError("it unpacks to more than its pixels take")


def _page(page) -> tuple:
    pixels = page.asarray(squeeze=False, maxworkers=1)  # (planes, depth, H, W, samples)
    if pixels.shape[1] > 1 or page.photometric not in (0, 1, 2, 3):
        kind = getattr(page.photometric, "name", page.photometric)
        raise ValueError(f"{kind} of shape {page.shape}; save it as RGB or grey")
    # (planes, depth, H, W, samples) -> (H, W, channels)
    pixels = pixels[:, 0, ..., 0].transpose(1, 2, 0) if len(pixels) > 1 else pixels[0, 0]
    if page.photometric == 0:  # 0 is white
        if pixels.dtype.kind not in "bu":
            raise ValueError(f"0 for white in {pixels.dtype}; save it with 0 for black")
        pixels = ~pixels if pixels.dtype == bool else (2**page.bitspersample - 1) - pixels
    alpha, colours, greys = None, None, False
    if pixels.shape[2] > 1 and page.extrasamples and page.extrasamples[-1] in (1, 2):
        pixels, alpha = pixels[..., :-1], pixels[..., -1]
    if page.photometric == 3:
        colours = np.dstack([band[pixels[..., 0]] >> 8 for band in page.colormap]).astype(np.uint8)
        greys = bool((page.colormap == page.colormap[:1]).all())
    return pixels, alpha, page.tags[274].value if 274 in page.tags else 1, colours, greys
