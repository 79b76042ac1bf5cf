"""Image files of every kind for the tests, some of which Pillow itself does not write."""

import struct
import zlib

import numpy as np
from PIL import Image

NOISE = np.random.default_rng(0).integers(0, 256, (12, 12), dtype=np.uint8)
COLOUR = np.random.default_rng(1).integers(0, 256, (12, 12, 3), dtype=np.uint8)
DEEP = np.random.default_rng(2).integers(0, 4096, (12, 12), dtype=np.uint16)
DEEP[6, 6] = 4095


def save(file, pixels, mode=None, **options):
    file.parent.mkdir(parents=True, exist_ok=True)
    image = Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(file, **options)


def png(file, pixels, colour_type, bits=16):
    """A PNG by its definition, of a depth that Pillow does not write: 16 bits in colour, 2 or 4 in grey."""

    def packed(row):
        lowest = np.unpackbits(row.astype(">u2")[..., None].view(np.uint8), axis=-1)[..., -bits:]
        return np.packbits(lowest).tobytes()

    chunks = [
        (b"IHDR", struct.pack(">IIBBBBB", pixels.shape[1], pixels.shape[0], bits, colour_type, 0, 0, 0)),
        (b"IDAT", zlib.compress(b"".join(b"\0" + packed(row) for row in pixels))),
        (b"IEND", b""),
    ]
    body = (
        struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        for kind, data in chunks
    )
    file.write_bytes(b"\x89PNG\r\n\x1a\n" + b"".join(body))


def tiff(file, pixels, order="<", photometric=1, sample_format=1):
    """An uncompressed TIFF by its definition: header, bits of each sample, pixels, directory of tags."""
    height, width, samples = *pixels.shape[:2], (pixels.shape[2] if pixels.ndim == 3 else 1)
    bits = struct.pack(f"{order}{samples}H", *samples * [8 * pixels.itemsize])
    data = pixels.astype(pixels.dtype.newbyteorder(order)).tobytes()
    tags = [(256, width), (257, height), (258, 8 if samples > 1 else 8 * pixels.itemsize), (259, 1)]
    tags += [(262, photometric), (273, 8 + len(bits)), (277, samples), (278, height), (279, len(data))]
    tags += [(339, sample_format)]
    entries = (
        struct.pack(f"{order}HHII", tag, 3, samples, value)  # shorts at offset 8
        if tag == 258 and samples > 1
        else struct.pack(f"{order}HHII", tag, 4, 1, value)
        for tag, value in tags
    )
    header = struct.pack(f"{order}2sHI", b"II" if order == "<" else b"MM", 42, 8 + len(bits) + len(data))
    directory = struct.pack(f"{order}H", len(tags)) + b"".join(entries) + b"\0\0\0\0"
    file.write_bytes(header + bits + data + directory)


def save_pages(file, **options):
    more = [Image.fromarray(255 - NOISE), Image.fromarray(NOISE.T)]
    save(file, NOISE, save_all=True, append_images=more, **options)


def many_pages(file, count):
    """A TIFF of `count` pages of one pixel, or a GIF, by their definitions, in a few bytes a page."""
    if file.suffix == ".gif":
        page = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + b"\2\2\x4c\1\0"  # LZW: clear, 1, end
        file.write_bytes(b"GIF89a\1\0\1\0\x80\0\0" + b"\0\0\0\xff\xff\xff" + count * page + b";")
        return
    tags = [(256, 1), (257, 1), (258, 8), (259, 1), (262, 1), (273, 8), (277, 1), (278, 1), (279, 1)]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags)
    size = len(directory) + 4
    offsets = [*(10 + size * page for page in range(1, count)), 0]
    directories = b"".join(directory + struct.pack("<I", offset) for offset in offsets)
    file.write_bytes(b"II*\0" + struct.pack("<I", 10) + b"\x07\0" + directories)
