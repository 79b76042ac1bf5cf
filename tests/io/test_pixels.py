"""Files of many pages, deep colour, orientation, what a file may take, and what masks are."""

import io
import os
import re
import socket
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import imageio.v3 as iio
import numpy as np
import pytest
from image_files import COLOUR, DEEP, NOISE, many_pages, png, save, save_pages, tiff
from PIL import Image

from tinyseg.errors import InputError
from tinyseg.io.pixels import (
    SUFFIXES,
    has_image_suffix,
    read_pages,
    stem_of,
)

FULL = np.random.default_rng(0).integers(0, 65536, (12, 12, 3), dtype=np.uint16)


def read(file, **options):
    """The pixels of a file of one page."""
    (page,) = read_pages(file, **options)
    return page.pixels


def refusal(file, **options):
    """The message with which a file is refused: always a single line, with no deeper error behind it."""
    with pytest.raises(InputError) as caught:
        read_pages(file, **options)
    message = str(caught.value)
    assert "\n" not in message and message.startswith(f"{file}: ") and caught.value.__cause__ is None
    return message


# Names


def test_nii_gz_is_one_ending():
    names = {
        "a.b.nii.gz": "a.b",
        "A.NII.GZ": "A",
        "a.nii": "a",
        "x.TIF": "x",
        "1_2.dcm": "1_2",
        "a.b.npy": "a.b",
    }
    assert {name: stem_of(name) for name in names} == names


def test_every_suffix_in_any_case_is_an_images():
    assert all(has_image_suffix(f"a{end}") and has_image_suffix(f"a{end.upper()}") for end in SUFFIXES)
    assert not any(has_image_suffix(name) for name in ("a.gz", "tif", "a.tif.txt", "png", "a"))


# Pixels

LEVELS = np.uint8(NOISE // 86)
READABLE = {
    "grey.png": (lambda f: save(f, NOISE), NOISE),
    "grey.bmp": (lambda f: save(f, NOISE), NOISE),
    "grey.pgm": (lambda f: save(f, NOISE), NOISE),
    "grey.gif": (lambda f: save(f, NOISE), np.dstack(3 * [NOISE])),
    "grey.webp": (lambda f: save(f, NOISE, lossless=True), np.dstack(3 * [NOISE])),
    "lzw.tif": (lambda f: save(f, NOISE, compression="tiff_lzw"), NOISE),
    "white_is_0.tif": (lambda f: tiff(f, NOISE, photometric=0), 255 - NOISE),
    "colour.ppm": (lambda f: save(f, COLOUR), COLOUR),
    "colour.tif": (lambda f: tiff(f, COLOUR, ">", photometric=2), COLOUR),
    "one_bit.png": (lambda f: save(f, NOISE > 99), NOISE > 99),
    "one_bit.tif": (lambda f: save(f, NOISE > 99, compression="group4"), NOISE > 99),
    "deep.png": (lambda f: save(f, DEEP), DEEP),
    "deep.tif": (lambda f: tiff(f, DEEP, ">"), DEEP),
    "deep_lzw.tif": (lambda f: save(f, DEEP, compression="tiff_lzw"), DEEP),
    "deep.pgm": (lambda f: f.write_bytes(b"P5 12 12 65535\n" + DEEP.astype(">u2").tobytes()), DEEP),
    "float.tif": (lambda f: save(f, NOISE / np.float32(9)), NOISE / np.float32(9)),
    "int32.tif": (lambda f: save(f, NOISE - np.int32(99)), NOISE - np.int32(99)),
    "int16.tif": (lambda f: tiff(f, DEEP - np.int16(99), ">", sample_format=2), DEEP - np.int32(99)),
}


@pytest.mark.parametrize("name", READABLE)
def test_pixels_are_those_of_the_file(tmp_path, name):
    write, expected = READABLE[name]
    write(tmp_path / name)
    pixels = read(tmp_path / name)
    np.testing.assert_array_equal(pixels, expected)
    assert pixels.dtype == expected.dtype and pixels.dtype.isnative and pixels.flags.writeable


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.webp"])
def test_alpha_is_apart(tmp_path, name):
    save(
        tmp_path / name,
        np.dstack([COLOUR, NOISE]),
        **({"lossless": True, "exact": True} if name == "a.webp" else {}),
    )
    (page,) = read_pages(tmp_path / name)
    np.testing.assert_array_equal(page.pixels, COLOUR)
    np.testing.assert_array_equal(page.alpha, NOISE)


def test_alpha_of_grey(tmp_path):
    save(tmp_path / "a.png", np.dstack([NOISE, NOISE.T]))
    (page,) = read_pages(tmp_path / "a.png")
    np.testing.assert_array_equal([page.pixels, page.alpha], [NOISE, NOISE.T])


@pytest.mark.parametrize(("pixels", "colour"), [(NOISE, 7), (COLOUR, (7, 8, 9))])
def test_a_colour_that_stands_for_transparency_is_alpha(tmp_path, pixels, colour):
    pixels = pixels.copy()
    pixels[3, 4] = colour
    save(tmp_path / "a.png", pixels, transparency=colour)
    (page,) = read_pages(tmp_path / "a.png")
    np.testing.assert_array_equal(page.pixels, pixels)
    hit = pixels == colour
    np.testing.assert_array_equal(page.alpha == 0, hit if pixels.ndim == 2 else hit.all(-1))


@pytest.mark.parametrize("name", ["print.jpg", "lab.tif", "float.pfm"])
def test_other_colour_spaces_are_refused_with_a_way_out(tmp_path, name):
    file = tmp_path / name
    if name == "float.pfm":
        file.write_bytes(b"Pf 1 1 -1.0\n\0\0\0\0")
    else:
        save(file, COLOUR, "CMYK" if name == "print.jpg" else "LAB")
    if name == "lab.tif":
        pytest.importorskip("tifffile")
    assert refusal(file).endswith("save it as RGB or grey)")


def test_colour_of_16_bits_that_are_all_in_use_is_read_by_its_high_bytes(tmp_path):
    png(tmp_path / "a.png", FULL, 2)
    pixels = read(tmp_path / "a.png")
    assert pixels.dtype == np.uint8
    assert np.abs(pixels / 255 - FULL / 65535).max() < 1 / 250


@pytest.mark.parametrize(("brightest", "used"), [(0x7FFF, False), (0x8000, True)])
def test_deep_colour_is_read_from_the_highest_bit_on(tmp_path, brightest, used):
    png(tmp_path / "a.png", np.minimum(FULL, brightest), 2)
    if used:
        assert read(tmp_path / "a.png").max() == 0x80
    else:
        assert refusal(tmp_path / "a.png").endswith(
            "(colour of 16 bits that are not all in use; save it as TIFF)"
        )


def test_the_reader_is_pillow_whatever_else_is_installed(tmp_path, monkeypatch):
    opened, imopen = [], iio.imopen
    monkeypatch.setattr(iio, "imopen", lambda *args, **how: opened.append(how) or imopen(*args, **how))
    save(tmp_path / "a.png", NOISE)
    read_pages(tmp_path / "a.png")
    assert opened == [{"plugin": "pillow"}]


def test_the_content_counts_and_not_the_suffix(tmp_path):
    save(tmp_path / "a.png", NOISE)
    (tmp_path / "a.png").rename(tmp_path / "a.tif")
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), NOISE)


def test_a_format_of_which_pillow_overlooks_truncation_is_none_of_ours(tmp_path):
    buffer = io.BytesIO()
    Image.fromarray(NOISE).save(buffer, "ICO")
    (tmp_path / "a.png").write_bytes(buffer.getvalue())
    assert "its content is none of BMP, GIF, JPEG, PNG, PPM, TIFF, WEBP" in refusal(tmp_path / "a.png")


# Pages


@pytest.mark.parametrize("name", ["a.tif", "a.png", "a.gif", "a.webp"])
def test_every_page_is_read(tmp_path, name):
    save_pages(tmp_path / name, **({"lossless": True} if name == "a.webp" else {}))
    pages = read_pages(tmp_path / name)
    for page, expected in zip(pages, (NOISE, 255 - NOISE, NOISE.T), strict=True):
        levels = page.pixels if page.pixels.ndim == 2 else page.pixels[..., 0]
        np.testing.assert_array_equal(levels, expected)


def test_pages_of_different_sizes_and_depths(tmp_path):
    more = [Image.fromarray(DEEP[:5]), Image.fromarray(COLOUR[:, :7])]
    save(tmp_path / "a.tif", NOISE, save_all=True, append_images=more)
    for page, expected in zip(read_pages(tmp_path / "a.tif"), (NOISE, DEEP[:5], COLOUR[:, :7]), strict=True):
        np.testing.assert_array_equal(page.pixels, expected)


def test_of_a_photograph_with_previews_the_photograph_is_read(tmp_path):
    save(
        tmp_path / "a.jpg",
        COLOUR,
        format="MPO",
        save_all=True,
        append_images=[Image.fromarray(COLOUR[:6, :6])],
    )
    assert read(tmp_path / "a.jpg").shape == COLOUR.shape


@pytest.mark.parametrize("shape", [(9, 12), (9, 12, 3), (20, 18, 16), (1, 9, 12), (3, 12, 12), (40, 30, 17)])
def test_npy_has_channels_where_the_last_axis_is_short(tmp_path, shape):
    array = np.random.default_rng(0).integers(0, 9, shape, dtype=np.uint8)
    np.save(tmp_path / "a.npy", array)
    pages = [page.pixels for page in read_pages(tmp_path / "a.npy")]
    stack = shape in ((1, 9, 12), (3, 12, 12), (40, 30, 17))
    np.testing.assert_array_equal(pages, array if stack else array[None])


@pytest.mark.parametrize(("stored", "read_as"), [
    ("?", "?"), ("u1", "u1"), (">u2", "u2"), ("i1", "i4"), ("i2", "i4"), (">i4", "i4"), ("u4", "i4"),
    ("i8", "i4"), ("f2", "f4"), (">f4", "f4"), ("f8", "f4"),
])  # fmt: skip
def test_npy_of_any_numbers(tmp_path, stored, read_as):
    np.save(tmp_path / "a.npy", np.asfortranarray(LEVELS.astype(stored)))
    pixels = read(tmp_path / "a.npy")
    assert pixels.dtype == np.dtype(read_as) and pixels.dtype.isnative and pixels.flags.writeable
    np.testing.assert_array_equal(pixels, LEVELS.astype(stored))


def test_whole_numbers_beyond_int32_become_floats(tmp_path):
    np.save(tmp_path / "a.npy", np.int64([[0, 2**40]]))
    pixels = read(tmp_path / "a.npy")
    assert pixels.dtype == np.float32 and pixels.tolist() == [[0, 2**40]]


@pytest.mark.parametrize(
    "array", [np.array([[None]]), np.zeros((2, 2), complex), np.zeros(3), np.zeros((0, 3))]
)
def test_npy_of_anything_else_is_refused(tmp_path, array):
    np.save(tmp_path / "a.npy", array, allow_pickle=True)
    assert f"of shape {array.shape}; expected" in refusal(tmp_path / "a.npy")


# Orientation

STORED = np.uint8([[1, 2, 3], [4, 5, 6]])
UPRIGHT = {  # by EXIF's definition: which sides the stored image's first row and first column are
    1: [[1, 2, 3], [4, 5, 6]],  # top, left
    2: [[3, 2, 1], [6, 5, 4]],  # top, right
    3: [[6, 5, 4], [3, 2, 1]],  # bottom, right
    4: [[4, 5, 6], [1, 2, 3]],  # bottom, left
    5: [[1, 4], [2, 5], [3, 6]],  # left, top
    6: [[4, 1], [5, 2], [6, 3]],  # right, top
    7: [[6, 3], [5, 2], [4, 1]],  # right, bottom
    8: [[3, 6], [2, 5], [1, 4]],  # left, bottom
}


def oriented(orientation):
    exif = Image.Exif()
    exif[274] = orientation
    return exif


@pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.tif", "a.webp"])
@pytest.mark.parametrize("orientation", UPRIGHT)
def test_an_image_is_set_upright(tmp_path, name, orientation):
    blocks = np.kron(40 * STORED, np.ones((16, 16), np.uint8))
    options = {"lossless": True} if name == "a.webp" else {"quality": 100} if name == "a.jpg" else {}
    save(tmp_path / name, blocks, exif=oriented(orientation), **options)
    (page,) = read_pages(tmp_path / name)
    levels = page.pixels if page.pixels.ndim == 2 else page.pixels[..., 0]
    np.testing.assert_array_equal(np.rint(levels / 40), np.kron(UPRIGHT[orientation], np.ones((16, 16))))
    assert bool(page.turned) == (orientation != 1)


@pytest.mark.parametrize("orientation", [0, 9])
def test_an_orientation_that_says_nothing_turns_nothing(tmp_path, orientation):
    save(tmp_path / "a.png", STORED, exif=oriented(orientation))
    (page,) = read_pages(tmp_path / "a.png")
    np.testing.assert_array_equal(page.pixels, STORED)
    assert not page.turned


def test_each_page_of_a_tiff_has_an_orientation_of_its_own(tmp_path):
    first, second = (Image.fromarray(STORED) for _ in range(2))
    second.encoderinfo = {"tiffinfo": {274: 6}}
    first.save(tmp_path / "a.tif", save_all=True, append_images=[second], tiffinfo={274: 3})
    pages = read_pages(tmp_path / "a.tif")
    for page, orientation in zip(pages, (3, 6), strict=True):
        np.testing.assert_array_equal(page.pixels, UPRIGHT[orientation])
        assert page.turned


def test_alpha_is_turned_with_its_image(tmp_path):
    save(tmp_path / "a.png", np.dstack([STORED, 9 * STORED]), exif=oriented(6))
    (page,) = read_pages(tmp_path / "a.png")
    np.testing.assert_array_equal(page.alpha, 9 * np.array(UPRIGHT[6]))


# Palettes, and grey of few bits


def save_palette(file, palette, **options):
    image = Image.fromarray(LEVELS)
    image.putpalette(palette)
    image.save(file, **options)


@pytest.mark.parametrize("name", ["a.png", "a.tif", "a.bmp", "a.gif"])
def test_a_palette_is_read_as_colours_and_of_a_mask_as_numbers(tmp_path, name):
    save_palette(
        tmp_path / name, [9, 8, 7, 1, 2, 3, 4, 5, 6], **({"optimize": False} if name == "a.gif" else {})
    )
    np.testing.assert_array_equal(read(tmp_path / name), np.uint8([[9, 8, 7], [1, 2, 3], [4, 5, 6]])[LEVELS])
    (mask,) = read_pages(tmp_path / name, mask=True)
    np.testing.assert_array_equal(mask.pixels, LEVELS)
    assert mask.palette[1] == (1, 2, 3)


@pytest.mark.parametrize("name", ["a.png", "a.gif"])
def test_a_mask_by_a_palette_of_different_greys_is_its_greys(tmp_path, name):
    save_palette(tmp_path / name, [255, 255, 255, 0, 0, 0, 7, 7, 7, 9, 9, 9])  # nothing uses the last entry
    (mask,) = read_pages(tmp_path / name, mask=True)
    np.testing.assert_array_equal(mask.pixels, np.uint8([255, 0, 7])[LEVELS])
    assert mask.palette is None


def test_a_grey_that_one_entry_of_a_coloured_palette_happens_to_have_counts_by_its_number(tmp_path):
    """As of class 7 in Pascal VOC's palette."""
    save_palette(tmp_path / "a.png", [0, 0, 0, 128, 128, 128, 7, 7, 7, 9, 8, 7])
    np.testing.assert_array_equal(read(tmp_path / "a.png", mask=True), LEVELS)
    two = np.minimum(LEVELS, 1)
    image = Image.fromarray(two, "P")
    image.putpalette([255, 255, 255, 0, 0, 0, 9, 8, 7])
    image.save(tmp_path / "b.png")
    np.testing.assert_array_equal(read(tmp_path / "b.png", mask=True), np.uint8([255, 0])[two])


def test_a_mask_by_a_palette_of_equal_greys_is_its_numbers(tmp_path):
    save_palette(tmp_path / "a.png", [255, 255, 255, 0, 0, 0, 0, 0, 0])
    np.testing.assert_array_equal(read(tmp_path / "a.png", mask=True), LEVELS)


def test_a_palette_may_have_alpha(tmp_path):
    save_palette(tmp_path / "a.png", [9, 8, 7, 1, 2, 3, 4, 5, 6], transparency=b"\0\x80\xff")
    (page,) = read_pages(tmp_path / "a.png")
    np.testing.assert_array_equal(page.alpha, np.uint8([0, 128, 255])[LEVELS])
    np.testing.assert_array_equal(page.pixels, np.uint8([[9, 8, 7], [1, 2, 3], [4, 5, 6]])[LEVELS])


@pytest.mark.parametrize("bits", [2, 4])
def test_grey_of_few_bits_is_scaled_in_an_image_and_not_in_a_mask(tmp_path, bits):
    stored = np.arange(2**bits, dtype=np.uint8)[None]
    png(tmp_path / "a.png", stored, 0, bits=bits)
    np.testing.assert_array_equal(read(tmp_path / "a.png"), 255 // (2**bits - 1) * stored)
    np.testing.assert_array_equal(read(tmp_path / "a.png", mask=True), stored)


@pytest.mark.parametrize("brightest", [1, 5, 100, 254, 255, 256, 4095, 65535])
def test_pgm_has_a_white_of_its_own(tmp_path, brightest):
    stored = np.linspace(0, brightest, 12).astype(">u2" if brightest > 255 else "u1")
    (tmp_path / "a.pgm").write_bytes(b"P5\n# 1 2 3\n12 1 %d\n" % brightest + stored.tobytes())
    np.testing.assert_array_equal(read(tmp_path / "a.pgm", mask=True), stored[None])
    full = 65535 if brightest > 255 else 255
    np.testing.assert_allclose(read(tmp_path / "a.pgm"), stored[None] / brightest * full, atol=0.51)


def test_deep_grey_of_a_mask_is_not_scaled(tmp_path):
    tiff(tmp_path / "a.tif", DEEP)
    np.testing.assert_array_equal(read(tmp_path / "a.tif", mask=True), DEEP)


# Bounds

PLAIN = np.zeros((60, 50), np.uint8)
TAKES = {  # bytes for each pixel of three pages
    "a.tif": (lambda f: save(f, PLAIN, save_all=True, append_images=2 * [Image.fromarray(PLAIN)]), 3),
    "rgb.tif": (lambda f: save(f, np.dstack(3 * [PLAIN]), compression="tiff_lzw"), 3),
    "a.gif": (lambda f: many_pages(f, 3), 12 / 3000),
    "a.png": (
        lambda f: save(f, PLAIN, save_all=True, append_images=[Image.fromarray(PLAIN + n) for n in (1, 2)]),
        3,
    ),
    "deep.png": (lambda f: save(f, PLAIN.astype(np.uint16)), 2),
    "rgb.webp": (lambda f: save(f, np.dstack(3 * [PLAIN])), 3),
}


@pytest.mark.parametrize("name", TAKES)
def test_what_pixels_take_is_known_to_the_byte(tmp_path, name):
    write, each = TAKES[name]
    write(tmp_path / name)
    pages = 3 if name in ("a.png", "a.tif") else 3000 if name == "a.gif" else 1
    takes = max(round(each * PLAIN.size * (1 + 3 / pages)), (tmp_path / name).stat().st_size)
    read_pages(tmp_path / name, memory=takes)
    assert "--memory GB" in refusal(tmp_path / name, memory=takes - 1)


def test_a_header_that_claims_too_much_is_refused_before_pixels_are_decoded(tmp_path):
    png(tmp_path / "a.png", PLAIN[:1], 0, bits=8)
    data = bytearray((tmp_path / "a.png").read_bytes())
    data[16:24] = (40_000).to_bytes(4, "big") * 2
    data[29:33] = zlib.crc32(data[12:29]).to_bytes(4, "big")
    (tmp_path / "a.png").write_bytes(data)
    tracemalloc.start()
    message = refusal(tmp_path / "a.png")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "takes at most 1 GB to read, got one that takes 6.4 GB; allow it by --memory GB" in message
    assert most < 10**6


def test_the_bytes_on_disk_count(tmp_path):
    (tmp_path / "a.png").write_bytes(bytes(1001))
    assert "--memory GB" in refusal(tmp_path / "a.png", memory=1000)


def test_pillows_own_limit_does_not_count_and_stays_as_it_was(tmp_path, monkeypatch):
    save(tmp_path / "a.png", NOISE)
    for limit in (NOISE.size - 1, NOISE.size // 3):  # a warning, an error
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", limit)
        np.testing.assert_array_equal(read(tmp_path / "a.png"), NOISE)
        assert limit == Image.MAX_IMAGE_PIXELS


@pytest.mark.parametrize("name", ["a.tif", "a.gif"])
def test_no_file_has_more_than_10000_pages(tmp_path, name):
    many_pages(tmp_path / name, 3)
    assert len(read_pages(tmp_path / name)) == 3
    many_pages(tmp_path / name, 500_000)
    start = time.monotonic()
    assert "expected at most 10000 pages, got more; split it" in refusal(tmp_path / name)
    assert time.monotonic() - start < 3


def test_pages_that_go_round_in_a_circle(tmp_path):
    many_pages(tmp_path / "a.tif", 2)
    data = bytearray((tmp_path / "a.tif").read_bytes())
    data[-4:] = (10).to_bytes(4, "little")  # the last page's next one is the first
    (tmp_path / "a.tif").write_bytes(data)
    assert "in a circle" in refusal(tmp_path / "a.tif")


def test_what_is_no_file_is_not_opened(tmp_path):
    (tmp_path / "album.png").mkdir()
    assert refusal(tmp_path / "album.png").endswith("expected an image file, got a folder")


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps these elsewhere")
def test_pipes_sockets_and_devices_are_refused_at_once(tmp_path, monkeypatch):
    os.mkfifo(tmp_path / "a.png")
    assert refusal(tmp_path / "a.png").endswith("got a pipe")
    assert refusal(Path("/dev/null")).endswith("got a device")
    monkeypatch.chdir(tmp_path)  # a socket's name is short
    with socket.socket(socket.AF_UNIX) as one:
        one.bind("b.png")
        assert refusal(Path("b.png")).endswith("got a socket")


def test_decoding_takes_little_more_than_the_pixels(tmp_path):
    np.save(tmp_path / "a.npy", np.zeros((20, 200, 200), np.float32))
    tracemalloc.start()
    read_pages(tmp_path / "a.npy")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 2.1 * 20 * 200 * 200 * 4


def test_a_wide_image_takes_no_minutes(tmp_path):
    wide = np.tile(NOISE[:1], 4_000_000)
    save(tmp_path / "a.ppm", wide)
    start = time.monotonic()
    np.testing.assert_array_equal(read(tmp_path / "a.ppm"), wide)
    assert time.monotonic() - start < 3


LARGE = np.zeros((2000, 2000), np.uint8)
FILES = {  # name: (how it is written, bytes of a pixel)
    "a.png": (save, 1),
    "rgb.png": (lambda f, x: save(f, np.dstack(3 * [x])), 3),
    "rgb.jpg": (lambda f, x: save(f, np.dstack(3 * [x])), 3),
    "deep.png": (lambda f, x: save(f, x.astype(np.uint16)), 2),
    "deep.tif": (lambda f, x: save(f, x.astype(np.uint16)), 2),
    "palette.png": (lambda f, x: Image.fromarray(x).convert("P").save(f), 3),
    "a.npy": (np.save, 1),
}
MEASURE = """
import sys
from tinyseg.io.pixels import read_pages

def highest():
    with open("/proc/self/status") as file:
        return 1024 * next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))

for name in sys.argv[1:]:
    read_pages(f"small/{name}")  # what is imported at the first time does not count
    with open("/proc/self/clear_refs", "w") as file:
        file.write("5")  # the highest use begins anew
    before = highest()
    read_pages(name)
    print(highest() - before)
"""


@pytest.mark.skipif(not os.access("/proc/self/clear_refs", os.W_OK), reason="needs Linux")
def test_a_file_takes_no_more_while_it_is_read_than_the_rule_counts(tmp_path):
    (tmp_path / "small").mkdir()
    for name, (write, _) in FILES.items():
        write(tmp_path / name, LARGE)
        write(tmp_path / "small" / name, PLAIN)
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, *FILES],
        capture_output=True,
        text=True,
        check=True,
        cwd=tmp_path,
        # What is freed goes back at once; and the program finds the package as this one does.
        env=os.environ | {"MALLOC_MMAP_THRESHOLD_": "65536", "PYTHONPATH": os.pathsep.join(sys.path)},
    )
    for taken, (name, (_, depth)) in zip(map(int, done.stdout.split()), FILES.items(), strict=True):
        assert LARGE.size < taken < 4 * LARGE.size * depth + 2e6, name


# Damaged files

WHOLE = {
    "png": (COLOUR, {}),
    "jpg": (COLOUR, {}),
    "bmp": (COLOUR, {}),
    "ppm": (COLOUR, {}),
    "webp": (COLOUR, {}),
    "tif": (DEEP, {"compression": "tiff_lzw"}),
    "gif": (NOISE, {"save_all": True, "append_images": [Image.fromarray(NOISE.T)]}),
    "pages.tif": (NOISE, {"save_all": True, "append_images": [Image.fromarray(NOISE.T)]}),
    "pages.png": (NOISE, {"save_all": True, "append_images": [Image.fromarray(NOISE.T)]}),
    "pages.webp": (COLOUR, {"save_all": True, "append_images": [Image.fromarray(COLOUR[::-1])]}),
    "npy": (NOISE, None),
}


def check_truncation(file, least=50):
    """Cut anywhere, a file is refused, unless its pixels are all there and only what follows was lost."""
    whole, expected, refused = file.read_bytes(), read_pages(file), 0
    for length in {*range(0, len(whole), 1 + len(whole) // 60), *range(len(whole) - 16, len(whole))}:
        file.write_bytes(whole[:length])
        try:
            pages = read_pages(file)
        except InputError as error:
            pattern = (
                rf"{re.escape(str(file))}: expected an image, got a file that cannot be read as one \(.+\)"
            )
            assert re.fullmatch(pattern, str(error))
            refused += 1
        else:
            for page, other in zip(pages, expected, strict=True):
                np.testing.assert_array_equal(page.pixels, other.pixels)
    assert refused >= least


@pytest.mark.parametrize("kind", WHOLE)
def test_a_truncated_file_never_loads_in_part(tmp_path, kind):
    pixels, options = WHOLE[kind]
    file = tmp_path / f"a.{kind}"
    np.save(file, pixels) if options is None else save(file, pixels, **options)
    check_truncation(file)


@pytest.mark.parametrize("suffix", SUFFIXES)
@pytest.mark.parametrize("content", [b"", b"just a line of text\n"])
def test_a_text_that_calls_itself_an_image(tmp_path, suffix, content):
    if needed := {".dcm": "pydicom", ".nii": "nibabel", ".nii.gz": "nibabel"}.get(suffix):
        pytest.importorskip(needed)
    (tmp_path / f"a{suffix}").write_bytes(content)
    assert "expected an image, got a file that cannot be read as one (" in refusal(tmp_path / f"a{suffix}")


@pytest.mark.parametrize("error", [ValueError, SyntaxError, EOFError, MemoryError, RecursionError])
def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch, error):
    def raise_it(*args, **options):
        raise error("first line\nsecond line")

    save(tmp_path / "a.png", NOISE)
    monkeypatch.setattr("tinyseg.io.pixels.iio.imopen", raise_it)
    assert refusal(tmp_path / "a.png").endswith("got a file that cannot be read as one (first line)")


def test_names_that_lead_to_no_file(tmp_path):
    assert refusal(tmp_path / "gone.png").endswith("(No such file or directory)")
    assert "cannot be read as one (" in refusal(tmp_path / (5000 * "a" + ".png"))
    assert "cannot be read as one (" in refusal(Path("a\0.png"))


def test_a_circle_of_links_leads_to_no_file(tmp_path):
    try:
        (tmp_path / "a.png").symlink_to(tmp_path / "b.png")
        (tmp_path / "b.png").symlink_to(tmp_path / "a.png")
    except OSError:
        pytest.skip("no links here")
    assert "cannot be read as one (" in refusal(tmp_path / "a.png")


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="whoever may read all")
def test_a_file_that_one_may_not_read(tmp_path):
    save(tmp_path / "a.png", NOISE)
    (tmp_path / "a.png").chmod(0)
    assert refusal(tmp_path / "a.png").endswith("(Permission denied)")
