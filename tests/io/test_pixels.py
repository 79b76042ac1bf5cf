"""Files of many pages, deep colour, and what belongs to an image beside it."""

import numpy as np
import pytest
from image_files import COLOUR, DEEP, NOISE, png, save, save_pages, tiff
from PIL import Image

from tinyseg.errors import InputError
from tinyseg.io.folder import images_in, truth_of
from tinyseg.io.pixels import class_numbers, read_pages, read_pixels

FULL = np.random.default_rng(0).integers(0, 65536, (12, 12, 3), dtype=np.uint16)


@pytest.mark.parametrize("name", ["stack.tif", "animation.png"])
def test_every_page_is_read(tmp_path, name):
    save_pages(tmp_path / name)
    pages = read_pages(tmp_path / name)
    for page, expected in zip(pages, (NOISE, 255 - NOISE, NOISE.T), strict=True):
        np.testing.assert_array_equal(page, expected)
    with pytest.raises(InputError, match="expected one upright page of .* got 3 pages"):
        read_pixels(tmp_path / name)


def test_pages_of_different_sizes_and_depths(tmp_path):
    more = [Image.fromarray(DEEP[:5]), Image.fromarray(COLOUR[:, :7])]
    save(tmp_path / "a.tif", NOISE, save_all=True, append_images=more)
    for page, expected in zip(read_pages(tmp_path / "a.tif"), (NOISE, DEEP[:5], COLOUR[:, :7]), strict=True):
        np.testing.assert_array_equal(page, expected)


def test_a_page_that_would_be_misread_is_refused(tmp_path):
    save(tmp_path / "a.tif", NOISE, save_all=True, append_images=[Image.fromarray(np.float32(NOISE))])
    with pytest.raises(InputError, match="a.tif: expected upright pages of .* got mode F"):
        read_pages(tmp_path / "a.tif")


@pytest.mark.parametrize("write", [
    lambda file: png(file.with_suffix(".png"), FULL, 2),
    lambda file: tiff(file.with_suffix(".tif"), FULL, photometric=2),
    lambda file: tiff(file.with_suffix(".tif"), FULL, ">", photometric=2),
], ids=["png", "tif", "big-endian"])  # fmt: skip
def test_colour_of_16_bits_that_are_all_in_use(tmp_path, write):
    write(tmp_path / "a")
    (file,) = tmp_path.iterdir()
    pixels = read_pixels(file)
    assert pixels.dtype == np.uint8
    assert np.abs(pixels / 255 - FULL / 65535).max() < 1 / 250


def test_images_of_a_folder_are_not_its_masks(tmp_path):
    for name in ("1_10", "1_2", "1_2_mask", "odd_mask", ".hidden"):
        save(tmp_path / f"{name}.png", NOISE)
    (tmp_path / "notes.txt").write_text("passed over")
    (tmp_path / "album.png").mkdir()
    assert [f.name for f in images_in(tmp_path)] == ["1_2.png", "1_10.png", "odd_mask.png"]
    assert images_in(tmp_path / "1_2_mask.png") == [tmp_path / "1_2_mask.png"]
    save(tmp_path / "images" / "a.png", NOISE)
    assert images_in(tmp_path) == [tmp_path / "images" / "a.png"]
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="empty: expected images"):
        images_in(tmp_path / "empty")


def test_the_true_mask_beside_an_image(tmp_path):
    (tmp_path / "1_1_mask.bmp").mkdir(parents=True)
    for name in ("1_1.tif", "1_1_mask.PNG", "images/a.jpg", "images/b.jpg", "masks/a.tiff"):
        save(tmp_path / name, NOISE)
    assert truth_of(tmp_path / "1_1.tif") == tmp_path / "1_1_mask.PNG"
    assert truth_of(tmp_path / "images/a.jpg") == tmp_path / "masks/a.tiff"
    assert truth_of(tmp_path / "images/b.jpg") is None


def test_values_of_a_label_map_as_classes(tmp_path):
    labels = np.uint8([[9, 2, 255], [2, 4, 9]])
    found = class_numbers(labels, (9, 2, 4), tmp_path / "a.png")
    np.testing.assert_array_equal(found, [[0, 1, 255], [1, 2, 0]])
    np.testing.assert_array_equal(
        class_numbers(labels * 0 + 255, (0, 255), tmp_path / "a.png"), np.ones((2, 3))
    )
    with pytest.raises(InputError, match="a.png: expected a label map of the values 2, 4, got 9"):
        class_numbers(labels, (2, 4), tmp_path / "a.png")
