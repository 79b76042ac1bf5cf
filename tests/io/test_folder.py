import re
import struct
import tracemalloc
import warnings

import numpy as np
import pytest
from image_files import COLOUR, DEEP, NOISE, save, tiff
from PIL import Image

from tinyseg.errors import InputError
from tinyseg.io.folder import load_folder
from tinyseg.io.preprocessing import resize

COLOUR_LUMA = COLOUR[..., 0] * 0.299 + COLOUR[..., 1] * 0.587 + COLOUR[..., 2] * 0.114
MASK = np.where(NOISE > 127, 255, 0).astype(np.uint8)


def save_pair(folder, name="1_1", image=NOISE, mask=None, suffix=".png", mask_suffix=".png"):
    """One pair in Kaggle's layout, with an empty mask of the right size unless told otherwise."""
    save(folder / f"{name}{suffix}", image)
    save(folder / f"{name}_mask{mask_suffix}", np.zeros(image.shape[:2], np.uint8) if mask is None else mask)


def refusal(folder, size=4):
    """The message with which a folder is refused: always a single line, with no deeper error behind it."""
    with pytest.raises(InputError) as caught:
        load_folder(folder, size)
    message = str(caught.value)
    assert "\n" not in message and str(folder) in message and caught.value.__cause__ is None
    return message


# Layouts and names


def test_kaggles_layout(tmp_path):
    for level, name in enumerate(["10_1", "2_10", "2_9", "1_1"]):
        save_pair(tmp_path, name, np.full((6, 8), 10 * level, np.uint8), suffix=".tif", mask_suffix=".tif")
    data = load_folder(tmp_path, 4)
    assert data.names == ("1_1", "2_9", "2_10", "10_1")
    assert data.subjects == ("1", "2", "2", "10")
    assert data.images.shape == (4, 1, 4, 5) and data.labels.shape == (4, 4, 5)
    assert data.images.dtype == np.float32 and data.labels.dtype == np.uint8
    assert data.class_names == ("background", "structure")
    assert np.allclose(data.images.mean((1, 2, 3)) * 255, [30, 20, 10, 0])


def test_images_and_masks_in_folders_of_their_own_in_any_mixture_of_formats(tmp_path):
    (tmp_path / "README.txt").write_text("what lies above the two folders is no business of ours")
    for name, suffix, mask_suffix in [
        ("7_2", ".png", ".tif"),
        ("b", ".TIF", ".bmp"),
        ("a10", ".jpg", ".png"),
    ]:
        save(tmp_path / "images" / f"{name}{suffix}", np.full((5, 5), 100, np.uint8))
        save(tmp_path / "masks" / f"{name}{mask_suffix}", np.full((5, 5), 255 * (name == "b"), np.uint8))
    data = load_folder(str(tmp_path), 5)
    assert data.names == ("7_2", "a10", "b")
    assert data.subjects == ("7", "a10", "b")
    assert np.allclose(data.images, 100 / 255, atol=1e-6)
    assert data.labels.mean((1, 2)).tolist() == [0, 0, 1]


def test_the_subject_stands_before_the_last_underscore(tmp_path):
    names = {"1_2": "1", "01_2": "01", "1_2_3": "1_2", "PA_1": "PA", "PA_x": "PA", "scan": "scan"}
    for name in names:
        save_pair(tmp_path, name)
    data = load_folder(tmp_path, 2)
    assert dict(zip(data.names, data.subjects, strict=True)) == names


@pytest.mark.parametrize(("beginning", "patient"), [("img", False), ("P01", True), ("7", True)])
@pytest.mark.parametrize("flat", [True, False])
def test_what_stands_before_all_names_is_a_patient_if_it_has_a_digit_else_a_collection(
    flat, beginning, patient, tmp_path
):
    names = (f"{beginning}_1", f"{beginning}_2")
    for name in names:
        save(tmp_path / (f"{name}.png" if flat else f"images/{name}.png"), NOISE)
        save(tmp_path / (f"{name}_mask.png" if flat else f"masks/{name}.png"), MASK)
    assert load_folder(tmp_path, 2).subjects == ((beginning,) * 2 if patient else names)


def test_clutter_is_passed_over(tmp_path):
    save_pair(tmp_path)
    for name in (".DS_Store", "._1_1.png", "Thumbs.db", "desktop.ini"):
        (tmp_path / name).write_bytes(b"clutter")
    (tmp_path / "notes").mkdir()
    (tmp_path / "album.png").mkdir()
    assert load_folder(tmp_path, 2).names == ("1_1",)


def test_images_may_differ_in_size_from_each_other(tmp_path):
    save_pair(tmp_path, "1_1", np.full((5, 9), 255, np.uint8))
    save_pair(tmp_path, "1_2", np.full((3, 2), 51, np.uint8))
    data = load_folder(tmp_path, 4)
    assert np.all(data.images[0] == 1) and np.allclose(data.images[1], 0.2)


# Pixels

READABLE = {
    "grey.png": (lambda f: save(f, NOISE), NOISE),
    "grey.bmp": (lambda f: save(f, NOISE), NOISE),
    "grey.pgm": (lambda f: save(f, NOISE), NOISE),
    "grey.gif": (lambda f: save(f, NOISE), NOISE),
    "grey.webp": (lambda f: save(f, NOISE, lossless=True), NOISE),
    "grey.tif": (lambda f: save(f, NOISE), NOISE),
    "lzw.tif": (lambda f: save(f, NOISE, compression="tiff_lzw"), NOISE),
    "deflate.tiff": (lambda f: save(f, NOISE, compression="tiff_adobe_deflate"), NOISE),
    "white_is_0.tif": (lambda f: tiff(f, NOISE, photometric=0), 255 - NOISE),
    "grey_alpha.png": (lambda f: save(f, np.stack([NOISE, NOISE.T], -1)), NOISE),
    "colour.png": (lambda f: save(f, COLOUR), COLOUR_LUMA),
    "colour.ppm": (lambda f: save(f, COLOUR), COLOUR_LUMA),
    "colour.tif": (lambda f: save(f, COLOUR, compression="tiff_lzw"), COLOUR_LUMA),
    "colour_big_endian.tif": (lambda f: tiff(f, COLOUR, ">", photometric=2), COLOUR_LUMA),
    "colour_alpha.png": (lambda f: save(f, np.dstack([COLOUR, NOISE])), COLOUR_LUMA),
    "colour_alpha.tif": (lambda f: save(f, np.dstack([COLOUR, NOISE])), COLOUR_LUMA),
    "palette.png": (lambda f: save_palette(f), [[76.245, 255.0], [29.07, 149.685]]),  # luma of the primaries
    "palette_alpha.png": (
        lambda f: save_palette(f, transparency=b"\0\x80\0\0"),
        [[76.245, 255], [29.07, 149.685]],
    ),
    "palette.tif": (lambda f: save_palette(f), [[76.245, 255.0], [29.07, 149.685]]),
    "one_bit.png": (lambda f: save(f, MASK > 0), MASK),
    "one_bit.tif": (lambda f: save(f, MASK > 0, compression="group4"), MASK),
}


def save_palette(file, **options):
    image = Image.new("P", (2, 2))
    image.putpalette([255, 0, 0, 255, 255, 255, 0, 0, 255, 0, 255, 0])
    image.putdata([0, 1, 2, 3])
    image.save(file, **options)


@pytest.mark.parametrize("name", READABLE)
def test_grey_levels_of_8_bits_and_less(tmp_path, name):
    write, levels = READABLE[name]
    levels = np.array(levels, float)
    write(tmp_path / name)
    save(tmp_path / f"{name.split('.')[0]}_mask.png", np.zeros(levels.shape, np.uint8))
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # Pillow warns of transparency in a palette, for one
        data = load_folder(tmp_path, len(levels))
    assert np.allclose(data.images[0, 0], levels / 255, rtol=0, atol=1e-6)
    assert data.images.min() >= 0 and data.images.max() <= 1


def test_jpeg_to_within_its_losses(tmp_path):
    smooth = np.add.outer(np.arange(32), np.arange(32)).astype(np.uint8)
    save_pair(tmp_path, image=smooth, suffix=".jpeg")
    assert np.allclose(load_folder(tmp_path, 32).images[0, 0], smooth / 255, atol=0.02)


def test_10_bit_colour_in_ppm_comes_scaled(tmp_path):
    levels = COLOUR.astype(np.uint16) * 4
    (tmp_path / "1_1.ppm").write_bytes(b"P6 12 12 1023\n" + levels.astype(">u2").tobytes())
    save(tmp_path / "1_1_mask.png", MASK)
    assert np.allclose(load_folder(tmp_path, 12).images[0, 0], COLOUR_LUMA * 4 / 1023, atol=0.003)


DEEP_WRITERS = {
    "deep.png": lambda f, x: save(f, x),
    "deep.tif": lambda f, x: save(f, x),
    "lzw.tif": lambda f, x: save(f, x, compression="tiff_lzw"),
    "deflate.tif": lambda f, x: save(f, x, compression="tiff_adobe_deflate"),
    "big_endian.tif": lambda f, x: tiff(f, x, ">"),
}


@pytest.mark.parametrize("name", DEEP_WRITERS)
@pytest.mark.parametrize("factor, white", [(1, 4095), (16, 65535), (1 / 4, 1023), (1 / 64, 255)])
def test_16_bit_files_are_scaled_by_the_bits_in_use(tmp_path, name, factor, white):
    pixels = (DEEP * factor).astype(np.uint16)
    DEEP_WRITERS[name](tmp_path / name, pixels)
    save(tmp_path / f"{name.split('.')[0]}_mask.png", MASK)
    images = load_folder(tmp_path, 12).images
    assert np.allclose(images[0, 0], pixels / white, rtol=0, atol=1e-6)
    assert images.max() <= 1


def test_16_bit_files_share_one_scale_and_8_bit_files_keep_theirs(tmp_path):
    save_pair(tmp_path, "1_1", np.full((4, 4), 600, np.uint16))
    save_pair(tmp_path, "1_2", np.full((4, 4), 2000, np.uint16), suffix=".tif")
    save_pair(tmp_path, "1_3", np.full((4, 4), 300, np.uint16))
    save_pair(tmp_path, "1_4", np.full((4, 4), 102, np.uint8))
    save_pair(tmp_path, "1_5", np.ones((4, 4), bool))
    expected = [600 / 2047, 2000 / 2047, 300 / 2047, 0.4, 1]
    assert np.allclose(load_folder(tmp_path, 2).images[:, 0, 0, 0], expected)


# Masks


@pytest.mark.parametrize(
    "mask, suffix",
    [
        (MASK, ".png"),
        (MASK, ".tif"),
        (MASK // 255, ".png"),
        (MASK > 0, ".png"),
        (MASK.astype(np.uint16) * 257, ".png"),
        (MASK.astype(np.uint16) * 257, ".tif"),
        (MASK.astype(np.uint16), ".png"),
        (np.dstack(3 * [MASK]), ".png"),
        (np.dstack([MASK, MASK, MASK, NOISE]), ".png"),
        (MASK * 0, ".png"),
        (MASK | 255, ".png"),
    ],
)
def test_masks_of_every_kind(tmp_path, mask, suffix):
    save_pair(tmp_path, mask=mask, mask_suffix=suffix)
    first_channel = mask if mask.ndim == 2 else mask[..., 0]
    assert np.array_equal(load_folder(tmp_path, 12).labels[0], first_channel > 0)


def test_each_mask_has_its_own_white(tmp_path):
    save_pair(tmp_path, "1_1", mask=MASK)
    save_pair(tmp_path, "1_2", mask=MASK // 255)
    labels = load_folder(tmp_path, 12).labels
    assert np.array_equal(labels[0], labels[1]) and set(np.unique(labels)) == {0, 1}


def test_a_mask_pixel_is_1_from_half_its_area_on(tmp_path):
    quarters = np.zeros((2, 10), np.uint8).reshape(2, 5, 2)
    for covered, cell in enumerate(quarters.swapaxes(0, 1)):
        cell.flat[:covered] = 255  # 0 to 4 of 4 pixels
    mask = np.vstack([quarters.reshape(2, 10), np.zeros((8, 10), np.uint8)])
    save_pair(tmp_path, image=mask, mask=mask)
    data = load_folder(tmp_path, 5)
    assert data.images[0, 0, 0].tolist() == [0, 0.25, 0.5, 0.75, 1]
    assert data.labels[0, 0].tolist() == [0, 0, 1, 1, 1]


@pytest.mark.parametrize("covered, expected", [(199, 0), (200, 1)])
def test_a_mask_pixel_is_0_just_below_half_its_area(tmp_path, covered, expected):
    save_pair(tmp_path, image=np.zeros((20, 20), np.uint8), mask=np.arange(400).reshape(20, 20) < covered)
    assert load_folder(tmp_path, 1).labels.item() == expected


# Resizing


@pytest.mark.parametrize(("shape", "seen"), [((40, 90), (20, 45)), ((90, 40), (45, 20)), ((7, 30), (20, 86))])
def test_the_shorter_side_is_resized_and_nothing_is_cut_off(shape, seen, tmp_path):
    edges = np.zeros(shape, np.uint8)
    edges[:, :4] = edges[:, -4:] = 255
    save_pair(tmp_path, image=edges, mask=edges)
    data = load_folder(tmp_path, 20)
    assert data.images.shape == (1, 1, *seen) and data.labels.shape == (1, *seen)
    assert np.all(data.images[0, 0][:, [0, -1]] == 1) and np.all(data.labels[0][:, [0, -1]] == 1)
    assert np.isclose(data.images.mean(), edges.mean() / 255, rtol=1e-6)
    assert np.array_equal(data.own_labels[0], edges > 0)


def test_size_0_leaves_images_as_they_are(tmp_path):
    save_pair(tmp_path, "1_1", NOISE[:7], MASK[:7])
    save_pair(tmp_path, "2_1", NOISE[:, :5], MASK[:, :5])
    data = load_folder(tmp_path, 0)
    for image, labels, rows in zip(data.images, data.labels, (np.s_[:7], np.s_[:, :5])):
        assert np.allclose(image[0], NOISE[rows] / 255) and np.array_equal(labels, MASK[rows] > 0)
    assert data.own_labels is None


def test_labels_at_the_files_own_size_are_those_of_their_images_in_any_order(tmp_path):
    masks = [np.random.default_rng(i).random((9 + i, 14)) > 0.5 for i in range(5)]
    for i, mask in enumerate(masks):
        save_pair(tmp_path, f"p_{i}", np.zeros(mask.shape, np.uint8), mask)
    own = load_folder(tmp_path, 6).take([3, 1, 4]).own_labels
    assert len(own) == 3
    for labels, i in zip(own, (3, 1, 4)):
        assert np.array_equal(labels, masks[i])


@pytest.mark.parametrize(
    "side, size", [(12, 12), (12, 4), (12, 1), (4, 12), (1, 5), (12, 5), (5, 12), (12, 7)]
)
def test_resize_is_the_mean_over_area(side, size):
    """Split each pixel into size x size equal parts: a new cell is then a block of side x side of them."""
    square = np.random.default_rng(3).random((side, side))
    parts = square.repeat(size, axis=0).repeat(size, axis=1)
    assert np.allclose(
        resize(square, (size, size)), parts.reshape(size, side, size, side).mean((1, 3)), rtol=1e-12
    )


@pytest.mark.parametrize("side, size", [(420, 64), (420, 96), (37, 64)])
def test_resize_keeps_the_mass_and_a_constant(side, size):
    square = np.random.default_rng(4).random((side, side))
    assert np.isclose(resize(square, (size, size)).sum() / size**2, square.sum() / side**2, rtol=1e-12)
    assert np.array_equal(resize(np.full((side, side), 255), (size, size)), np.full((size, size), 255.0))


def test_resize_is_exact_at_one_half():
    """Of 420 / 70 = 6 x 6 pixels 18 are set: with weights of 1/6 rounding would decide."""
    halves = np.random.default_rng(5).permuted(np.tile(np.arange(36) % 2, (70 * 70, 1)), axis=1)
    square = halves.reshape(70, 70, 6, 6).swapaxes(1, 2).reshape(420, 420)
    assert np.all(resize(square, (70, 70)) == 0.5)


# What is refused


def test_a_folder_that_is_missing_or_a_file(tmp_path):
    assert refusal(tmp_path / "nowhere").endswith(
        "nowhere: expected a folder of images, got: No such file or directory"
    )
    save_pair(tmp_path)
    assert refusal(tmp_path / "1_1.png").endswith(
        "1_1.png: expected a folder of images, got: Not a directory"
    )


def test_a_size_below_0(tmp_path):
    save_pair(tmp_path)
    assert refusal(tmp_path, -3).endswith(
        "expected a size of at least 1 pixel, or 0 for the images' own, got -3"
    )


def test_a_mask_of_another_size_than_its_image(tmp_path):
    save_pair(tmp_path, image=np.zeros((6, 8), np.uint8), mask=np.zeros((8, 6), np.uint8))
    image, mask = tmp_path / "1_1.png", tmp_path / "1_1_mask.png"
    assert (
        refusal(tmp_path)
        == f"{mask}: expected the size of {image}, 8x6, got 6x8; save the mask at the image's size"
    )


WHOLE = {
    "png": (COLOUR, {}),
    "tif": (COLOUR, {}),
    "jpg": (COLOUR, {}),
    "bmp": (COLOUR, {}),
    "ppm": (COLOUR, {}),
    "gif": (NOISE, {}),
    "webp": (COLOUR, {}),
    "png (grey)": (DEEP, {}),
    "tif (lzw)": (DEEP, {"compression": "tiff_lzw"}),
    "tif (deflate)": (DEEP, {"compression": "tiff_adobe_deflate"}),
    "jpg (progressive)": (COLOUR, {"progressive": True}),
}


@pytest.mark.parametrize("kind", WHOLE)
def test_a_truncated_file_never_loads_in_part(tmp_path, kind):
    """Cut anywhere, a file is refused, unless its pixels are all there and only what follows was lost."""
    pixels, options = WHOLE[kind]
    file = tmp_path / f"1_1.{kind.split()[0]}"
    save(file, pixels, **options)
    save(tmp_path / "1_1_mask.png", MASK)
    whole, expected = file.read_bytes(), load_folder(tmp_path, 12).images
    refused = 0
    for length in {*range(0, len(whole), 1 + len(whole) // 60), *range(len(whole) - 16, len(whole))}:
        file.write_bytes(whole[:length])
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("error")
                images = load_folder(tmp_path, 12).images
        except InputError as error:
            assert re.fullmatch(
                rf"{re.escape(str(file))}: expected an image, got a file that cannot be read as one \(.+\)",
                str(error),
            )
            refused += 1
        else:
            assert np.array_equal(images, expected)
    assert refused >= 50


@pytest.mark.parametrize("suffix", [".png", ".tif", ".jpg"])
@pytest.mark.parametrize("content", [b"", b"just a line of text\n"])
def test_a_text_that_calls_itself_an_image(tmp_path, suffix, content):
    (tmp_path / f"1_1{suffix}").write_bytes(content)
    save(tmp_path / "1_1_mask.png", MASK)
    assert refusal(tmp_path).startswith(
        f"{tmp_path / '1_1'}{suffix}: expected an image, got a file that cannot be read as one"
    )


def test_a_file_that_cannot_be_opened(tmp_path):
    save_pair(tmp_path)
    (tmp_path / "1_1_mask.png").unlink()
    (tmp_path / "1_1_mask.png").symlink_to(tmp_path / "gone.png")
    assert "1_1_mask.png: expected an image, got a file that cannot be read as one (No such file" in refusal(
        tmp_path
    )


@pytest.mark.parametrize("error", [ValueError, SyntaxError, struct.error, EOFError, MemoryError])
def test_whatever_a_decoder_raises_is_one_line(tmp_path, monkeypatch, error):
    def raise_it(*args, **options):
        raise error("first line\nsecond line")

    save_pair(tmp_path)
    monkeypatch.setattr("tinyseg.io.pixels.iio.imopen", raise_it)
    assert refusal(tmp_path).endswith("expected an image, got a file that cannot be read as one (first line)")


def test_the_content_counts_and_not_the_suffix(tmp_path):
    save_pair(tmp_path)
    (tmp_path / "1_1.png").rename(tmp_path / "1_1.jpg")
    assert np.allclose(load_folder(tmp_path, 12).images[0, 0], NOISE / 255)


def test_only_a_few_files_at_a_time_are_in_memory(tmp_path):
    """A few: what a decoder drops waits for Python's garbage collector."""
    image, count = np.zeros((300, 300), np.uint16), 60
    for i in range(count):
        save_pair(tmp_path, f"1_{i}", image, suffix=".tif")
    load_folder(tmp_path, 8)  # what is imported and kept at the first time does not count
    tracemalloc.start()
    load_folder(tmp_path, 8)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < count * image.nbytes / 2
