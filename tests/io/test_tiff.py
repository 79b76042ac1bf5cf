"""TIFF files that Pillow misreads, by tifffile."""

import struct
import sys
import tracemalloc
from importlib.util import find_spec

import numpy as np
import pytest
from image_files import COLOUR, DEEP, NOISE, save_pages, tiff
from test_pixels import STORED, UPRIGHT, check_truncation, read, refusal

from tinyseg.io.pixels import read_pages

SPECTRUM = np.random.default_rng(3).integers(0, 256, (12, 12, 7), dtype=np.uint8)
FILES = {  # written by their definition: name, what to write, how, and what is read
    "int8": (NOISE.view(np.int8), {"sample_format": 2}, np.int32(NOISE.view(np.int8))),
    "uint32": (DEEP.astype(np.uint32), {}, np.int32(DEEP)),
    "large": (DEEP.astype(np.uint32) + 2**31, {}, np.float32(DEEP.astype(np.float64) + 2**31)),
    "colour": (
        np.dstack([DEEP, DEEP.T, DEEP // 2]),
        {"photometric": 2},
        np.dstack([DEEP, DEEP.T, DEEP // 2]),
    ),
    "big-endian": (
        np.dstack([DEEP, DEEP.T, DEEP]),
        {"photometric": 2, "order": ">"},
        np.dstack([DEEP, DEEP.T, DEEP]),
    ),
    "white is 0": (DEEP, {"photometric": 0}, 65535 - DEEP),
    "many channels": (SPECTRUM, {}, SPECTRUM),
    "five channels": (SPECTRUM[..., :5], {}, SPECTRUM[..., :5]),
    "float64": (NOISE / 8, {"sample_format": 3}, np.float32(NOISE / 8)),
    "float16": (DEEP.astype(np.float16), {"sample_format": 3}, np.float32(DEEP.astype(np.float16))),
}


@pytest.mark.parametrize("name", FILES)
def test_what_pillow_misreads_is_read_rightly(tmp_path, name):
    pytest.importorskip("tifffile")
    pixels, how, expected = FILES[name]
    tiff(tmp_path / "a.tif", pixels, **how)
    found = read(tmp_path / "a.tif")
    np.testing.assert_array_equal(found, expected)
    assert found.dtype == expected.dtype and found.dtype.isnative and found.flags.writeable


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"tile": (16, 16)}, {"bigtiff": True}])
def test_planes_are_channels(tmp_path, how):
    tifffile = pytest.importorskip("tifffile")
    planes = np.moveaxis(COLOUR, 2, 0)
    tifffile.imwrite(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate", **how)
    np.testing.assert_array_equal(read(tmp_path / "a.tif"), COLOUR)


def test_alpha_of_deep_colour_is_apart(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    deep = np.dstack([DEEP, DEEP.T, DEEP, DEEP[::-1]])
    tifffile.imwrite(tmp_path / "a.tif", deep, photometric="rgb", extrasamples=["unassalpha"])
    (page,) = read_pages(tmp_path / "a.tif")
    np.testing.assert_array_equal(page.pixels, deep[..., :3])
    np.testing.assert_array_equal(page.alpha, deep[..., 3])


def test_a_palette_beside_a_page_that_pillow_misreads(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    greys = np.uint16([0, 255, 7, *253 * [9]]) * 257
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(
            NOISE % 4, photometric="palette", colormap=np.stack([greys, greys // 2, greys]), metadata=None
        )
        file.write(NOISE % 3, photometric="palette", colormap=np.stack(3 * [greys]), metadata=None)
        file.write(DEEP.astype(np.uint32), metadata=None)
    red = np.uint8([0, 255, 7, 9])
    image, (numbers, grey, _) = read_pages(tmp_path / "a.tif"), read_pages(tmp_path / "a.tif", mask=True)
    np.testing.assert_array_equal(image[0].pixels[..., 0], red[NOISE % 4])
    assert image[0].pixels.dtype == np.uint8 and numbers.palette and not grey.palette
    np.testing.assert_array_equal(numbers.pixels, NOISE % 4)
    np.testing.assert_array_equal(grey.pixels, red[NOISE % 3])


@pytest.mark.parametrize("orientation", UPRIGHT)
def test_tifffiles_pages_are_set_upright_too(tmp_path, orientation):
    tifffile = pytest.importorskip("tifffile")
    tags = [(274, "H", 1, orientation, True)]
    tifffile.imwrite(tmp_path / "a.tif", STORED.astype(np.uint32), extratags=tags)
    (page,) = read_pages(tmp_path / "a.tif")
    np.testing.assert_array_equal(page.pixels, UPRIGHT[orientation])
    assert bool(page.turned) == (orientation != 1)


def test_every_page_is_there(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    stack = np.random.default_rng(0).integers(0, 2**31, (5, 6, 7)).astype(np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", stack, compression="zlib", photometric="minisblack")
    np.testing.assert_array_equal([page.pixels for page in read_pages(tmp_path / "a.tif")], stack)


def test_0_for_white_means_nothing_for_signed_numbers(tmp_path):
    pytest.importorskip("tifffile")
    tiff(tmp_path / "a.tif", DEEP.astype(np.int16), photometric=0, sample_format=2)
    assert "0 for white in int16; save it with 0 for black" in refusal(tmp_path / "a.tif")


def test_without_tifffile_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "tifffile", None)
    tiff(tmp_path / "a.tif", np.dstack(3 * [DEEP]), photometric=2)
    assert refusal(tmp_path / "a.tif").endswith("got none; pip install tifffile")
    save_pages(tmp_path / "b.tif")
    assert len(read_pages(tmp_path / "b.tif")) == 3  # Pillow reads it


@pytest.mark.skipif(find_spec("imagecodecs") is not None, reason="nothing is missing")
def test_a_codec_that_tifffile_lacks_is_named(tmp_path):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", DEEP.astype(np.uint32), compression="zlib")
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[259].overwrite(5)  # LZW
    assert "imagecodecs" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("how", [{}, {"compression": "zlib"}, {"compression": "lzma"}])
def test_a_truncated_file_of_tifffiles_never_loads_in_part(tmp_path, how):
    tifffile = pytest.importorskip("tifffile")
    stack = np.random.default_rng(0).integers(0, 2**31, (2, 9, 8)).astype(np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", stack, photometric="minisblack", rowsperstrip=4, **how)
    check_truncation(tmp_path / "a.tif")


@pytest.mark.parametrize("compression", ["zlib", "lzma"])
def test_a_strip_never_unpacks_to_more_than_its_pixels(tmp_path, compression):
    tifffile = pytest.importorskip("tifffile")
    zeros = np.zeros((1000, 5000), np.uint32)
    tifffile.imwrite(tmp_path / "a.tif", zeros, compression=compression, rowsperstrip=1000)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[256].overwrite(1)
        file.pages[0].tags[257].overwrite(1)
    tracemalloc.start()
    message = refusal(tmp_path / "a.tif")
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert "it unpacks to more than its pixels take" in message
    assert most < zeros.nbytes / 2


@pytest.mark.parametrize("kind", [np.uint8, np.uint32])  # Pillow's, tifffile's
def test_a_tile_larger_than_its_image_counts_whole(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.zeros((8, 8), kind), tile=(512, 512), compression="zlib")
    takes = 4 * 512 * 512 * np.dtype(kind).itemsize
    read_pages(tmp_path / "a.tif", memory=takes)
    assert "--memory GB" in refusal(tmp_path / "a.tif", memory=takes - 1)


def test_pages_that_share_their_pixels_are_counted_one_by_one(tmp_path):
    """A small file can hold many large pages, all with the same strip."""
    tags = [
        (256, 1000),
        (257, 1000),
        (258, 8),
        (259, 1),
        (262, 1),
        (273, 8),
        (277, 1),
        (278, 1000),
        (279, 10**6),
    ]
    directory = struct.pack("<H", len(tags)) + b"".join(struct.pack("<HHII", tag, 4, 1, v) for tag, v in tags)
    first, size = 8 + 10**6, len(directory) + 4
    offsets = [*(first + size * page for page in range(1, 2000)), 0]
    pages = b"".join(directory + struct.pack("<I", offset) for offset in offsets)
    (tmp_path / "a.tif").write_bytes(b"II*\0" + struct.pack("<I", first) + bytes(10**6) + pages)
    assert "got one that takes 2 GB" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint32])  # Pillow's, tifffile's
@pytest.mark.parametrize("how", [{"tile": (16, 16)}, {"rowsperstrip": 8}, {}])
def test_a_page_without_all_its_strips_is_refused(tmp_path, kind, how):
    tifffile = pytest.importorskip("tifffile")
    tifffile.imwrite(tmp_path / "a.tif", np.ones((32, 16), kind), compression="zlib", **how)
    with tifffile.TiffFile(tmp_path / "a.tif", mode="r+b") as file:
        file.pages[0].tags[257].overwrite(64)
        if not how:
            file.pages[0].tags[278].overwrite(32)
    assert "some of its pixels are missing" in refusal(tmp_path / "a.tif")


@pytest.mark.parametrize("kind", [np.uint8, np.uint32])  # Pillow's, tifffile's
def test_thumbnails_are_no_pages(tmp_path, kind):
    tifffile = pytest.importorskip("tifffile")
    pages = np.arange(2 * 12 * 16).reshape(2, 12, 16).astype(kind)
    with tifffile.TiffWriter(tmp_path / "a.tif") as writer:
        for page in pages:
            writer.write(page)
            writer.write(page[::4, ::4], subfiletype=1)
    np.testing.assert_array_equal([page.pixels for page in read_pages(tmp_path / "a.tif")], pages)
    tifffile.imwrite(tmp_path / "b.tif", pages[0], subfiletype=1)
    np.testing.assert_array_equal(read(tmp_path / "b.tif"), pages[0])
