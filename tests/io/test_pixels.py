"""Files of many pages, deep colour, and what belongs to an image beside it."""

import imageio.v3 as iio
import numpy as np
import pytest
from image_files import COLOUR, DEEP, NOISE, png, save, save_pages, tiff
from PIL import Image

from tinyseg.errors import InputError
from tinyseg.io.folder import images_in, truth_of
from tinyseg.io.pixels import class_numbers, label_values, read_pages, read_pixels

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
    mask = 255 * (labels > 9).astype(np.uint8)
    np.testing.assert_array_equal(class_numbers(mask, (0, 1), tmp_path / "a.PNG"), mask > 0)
    for pixels, values in ((labels, (9, 2, 4)), (mask, (0, 255)), (mask, (0, 1))):
        assert class_numbers(pixels, values, tmp_path / "a.PNG").dtype == np.uint8
    both = np.uint8([[0, 1, 255]])  # no mask, since there is a 1
    np.testing.assert_array_equal(class_numbers(both, (0, 1), tmp_path / "a.png"), both)
    with pytest.raises(InputError, match="a.png: expected a label map of the values 2, 4, got 0"):
        class_numbers(255 * (both > 1), (2, 4), tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png: expected a label map of the values 2, 4, got 1, 8$"):
        class_numbers(np.uint8([[8, 1, 2]]), (2, 4), tmp_path / "a.png")
    with pytest.raises(InputError, match="a.png: expected a label map of the values 2, 4, got 9"):
        class_numbers(labels, (2, 4), tmp_path / "a.png")


def test_pixels_of_a_big_endian_file_are_in_the_machines_byte_order(tmp_path):
    tiff(tmp_path / "a.tif", DEEP, ">")
    pixels = read_pixels(tmp_path / "a.tif")
    assert pixels.dtype == np.uint16 and pixels.dtype.isnative
    np.testing.assert_array_equal(pixels, DEEP)


def test_a_palette_is_read_as_colours_unless_its_indices_are_wanted(tmp_path):
    image = Image.fromarray(NOISE % 3)
    image.putpalette([9, 8, 7, 1, 2, 3, 4, 5, 6])
    image.save(tmp_path / "a.png")
    colours = np.uint8([[9, 8, 7], [1, 2, 3], [4, 5, 6]])[NOISE % 3]
    for read in (read_pixels, lambda file, **options: read_pages(file, **options)[0]):
        np.testing.assert_array_equal(read(tmp_path / "a.png"), colours)
        np.testing.assert_array_equal(read(tmp_path / "a.png", indices=True), NOISE % 3)


def test_the_reader_is_pillow_whatever_else_is_installed(tmp_path, monkeypatch):
    opened, imopen = [], iio.imopen
    monkeypatch.setattr(iio, "imopen", lambda *args, **how: opened.append(how) or imopen(*args, **how))
    save(tmp_path / "a.png", NOISE)
    read_pixels(tmp_path / "a.png")
    assert opened == [{"plugin": "pillow"}]


def test_the_reason_is_the_decoders_own(tmp_path):
    (tmp_path / "a.png").write_text("just a line of text")
    with pytest.raises(InputError, match=r"read as one \(Pillow can not read the provided bytes"):
        read_pixels(tmp_path / "a.png")


@pytest.mark.parametrize(("brightest", "used"), [(0x7FFF, False), (0x8000, True)])
def test_deep_colour_is_read_from_the_highest_bit_on(tmp_path, brightest, used):
    png(tmp_path / "a.png", np.minimum(FULL, brightest), 2)
    if used:
        assert read_pixels(tmp_path / "a.png").max() == 0x80
    else:
        with pytest.raises(InputError, match="got 16-bit colour"):
            read_pixels(tmp_path / "a.png")


def test_grey_of_2_bits_is_scaled_in_an_image_and_refused_for_its_values(tmp_path):
    png(tmp_path / "a.png", np.uint8([[0, 1, 2, 3]]), 0, bits=2)
    np.testing.assert_array_equal(read_pixels(tmp_path / "a.png"), [[0, 85, 170, 255]])
    with pytest.raises(InputError, match="got 2-bit grey"):
        read_pixels(tmp_path / "a.png", indices=True)


@pytest.mark.parametrize(("orientation", "upright"), [(0, True), (1, True), (2, False), (8, False)])
def test_which_images_are_upright(tmp_path, orientation, upright):
    exif = Image.Exif()
    exif[274] = orientation
    save(tmp_path / "a.jpg", NOISE, exif=exif)
    if upright:
        assert read_pixels(tmp_path / "a.jpg").shape == NOISE.shape
    else:
        with pytest.raises(InputError, match="got a turned image"):
            read_pixels(tmp_path / "a.jpg")


def test_what_is_no_label_map_is_listed(tmp_path):
    colours = np.uint8([[[4, 5, 6], [1, 2, 3], [4, 5, 6]]])
    with pytest.raises(InputError, match=r"got \[1, 2, 3\], \[4, 5, 6\]$"):
        label_values(colours, tmp_path / "a.png")


def test_values_of_a_label_map_are_uint16(tmp_path):
    for pixels, factor in ((NOISE, 1), (DEEP, 1), (NOISE > 99, 255)):
        values = label_values(pixels, tmp_path / "a.png")
        assert values.dtype == np.uint16
        np.testing.assert_array_equal(values, pixels * factor)
