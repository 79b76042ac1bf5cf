"""What a network sees of an image: the same as in training, whatever the file's size and depth."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tinyseg.io.folder import load_folder
from tinyseg.io.masks import Meaning
from tinyseg.io.preprocessing import LUMA, Preprocessing, resize

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (30, 30), dtype=np.uint8)
DEEP = RNG.integers(0, 1000, (30, 30), dtype=np.uint16)
COLOUR = RNG.integers(0, 256, (30, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize(
    "pixels", [GREY, DEEP, COLOUR, GREY > 127], ids=["8-bit", "16-bit", "colour", "1-bit"]
)
def test_a_square_image_is_seen_as_in_training(pixels, channels, tmp_path):
    Image.fromarray(pixels).save(tmp_path / "1_1.png")
    Image.fromarray(np.zeros((30, 30), np.uint8)).save(tmp_path / "1_1_mask.png")
    data = load_folder(tmp_path, 12, channels=channels)
    assert data.preprocessing == Preprocessing(
        12, channels, (0, 1023) if pixels is DEEP else None, Meaning(above=0)
    )
    np.testing.assert_array_equal(data.preprocessing(pixels), data.images[0])


def test_all_of_an_image_is_seen_with_its_shorter_side_resized():
    wide = np.hstack([GREY, GREY])
    seen = Preprocessing(15)(wide)
    assert seen.shape == (1, 15, 30) and seen.dtype == np.float32
    np.testing.assert_array_equal(seen[:, :, :15], seen[:, :, 15:])
    np.testing.assert_allclose(seen[0, :, :15], GREY.reshape(15, 2, 15, 2).mean((1, 3)) / 255, atol=1e-6)
    assert Preprocessing(15)(wide.T).shape == (1, 30, 15)
    assert Preprocessing(15)(wide, 45).shape == (1, 45, 90)
    np.testing.assert_allclose(Preprocessing(15)(wide, 0)[0], wide / 255, atol=1e-7)


def test_16_bits_are_scaled_as_in_training_or_else_by_what_the_brightest_needs():
    bright = np.array([[100, 5000]], np.uint16)
    np.testing.assert_allclose(Preprocessing(1)(bright, 0)[0], bright / 8191)
    np.testing.assert_allclose(Preprocessing(1, window=(0, 16383))(bright, 0)[0], bright / 16383)
    np.testing.assert_allclose(Preprocessing(1, window=(50, 1050))(bright, 0)[0], [[0.05, 1]])
    np.testing.assert_allclose(Preprocessing(1, window=(0, 4095))(np.uint8([[51]]), 0)[0], [[0.2]])


def test_floats_from_0_to_1_are_taken_as_they_are():
    for dtype in (np.float32, np.float64):
        image = RNG.random((20, 30)).astype(dtype)
        np.testing.assert_allclose(Preprocessing(1)(image, 0)[0], image, rtol=1e-6)


@pytest.mark.parametrize(
    "image",
    [np.float32([[-1000, 400]]), np.int32([[-1000, 400]]), np.int16([[0, 400]]), np.float32([[0, 1.5]])],
)
def test_of_other_levels_somebody_has_to_say_what_is_black_and_white(image):
    with pytest.raises(
        ValueError, match="which levels are black and white, got levels from .*--window LOW,HIGH"
    ):
        Preprocessing(1)(image, 0)
    seen = Preprocessing(1, window=(-1000, 1000))(image, 0)[0]
    np.testing.assert_allclose(seen, np.clip((image + 1000.0) / 2000, 0, 1), rtol=1e-6)


def test_levels_that_are_not_finite_are_refused():
    for level in (np.nan, np.inf):
        with pytest.raises(ValueError, match="expected finite levels"):
            Preprocessing(1)(np.float32([[0, level]]), 0)


def test_signed_levels_that_were_stored_as_unsigned_are_noticed_and_read_by_a_window_below_0():
    hounsfield = RNG.integers(-1000, 3000, (40, 40)).astype(np.int16)
    with pytest.raises(ValueError, match="none between, as of signed .*--window LOW,HIGH with LOW below 0"):
        Preprocessing(1)(hounsfield.view(np.uint16), 0)
    seen = Preprocessing(1, window=(-1000, 400))(hounsfield.view(np.uint16), 0)[0]
    np.testing.assert_allclose(seen, np.clip((hounsfield + 1000.0) / 1400, 0, 1), atol=1e-6)
    whole = Preprocessing(1, window=(0, 65535))(hounsfield.view(np.uint16), 0)[0]
    np.testing.assert_allclose(whole, hounsfield.view(np.uint16) / 65535, atol=1e-6)
    dark_and_bright = np.where(hounsfield < 0, 65000, hounsfield).astype(np.uint16)
    dark_and_bright[0] = np.linspace(0, 65535, 40)  # what lies between makes them unsigned
    assert Preprocessing(1).for_file([dark_and_bright]).window == (0, 65535)


def test_grey_for_colour_and_colour_for_grey():
    np.testing.assert_allclose(Preprocessing(30)(COLOUR)[0], COLOUR @ LUMA / 255e3, atol=1e-6)
    np.testing.assert_array_equal(Preprocessing(30, 3)(GREY), np.stack([Preprocessing(30)(GREY)[0]] * 3))
    np.testing.assert_allclose(Preprocessing(30, 3)(COLOUR), COLOUR.transpose(2, 0, 1) / 255, atol=1e-6)


def test_any_number_of_channels_that_the_network_takes():
    for channels in (2, 4, 7):
        image = RNG.integers(0, 256, (20, 30, channels), dtype=np.uint8)
        np.testing.assert_allclose(
            Preprocessing(20, channels)(image), image.transpose(2, 0, 1) / 255, atol=1e-6
        )
        with pytest.raises(
            ValueError, match=f"expected an image of {channels} channels, got 1; --channels 1"
        ):
            Preprocessing(20, channels)(GREY)
    with pytest.raises(ValueError, match="expected an image of 1 channels, got 4"):
        Preprocessing(20)(image[..., :4])
    np.testing.assert_array_equal(Preprocessing(30)(GREY[..., None]), Preprocessing(30)(GREY))


def test_resize_of_a_rectangle_is_the_mean_over_area():
    image = RNG.random((4, 9))
    parts = image.repeat(5, axis=0).repeat(2, axis=1)  # each pixel as 5 x 2 equal parts
    np.testing.assert_allclose(resize(image, (5, 2)), parts.reshape(5, 4, 2, 9).mean((1, 3)))


def test_resize_of_a_long_thin_image_takes_no_more_than_that(monkeypatch):
    image = RNG.integers(0, 256, (20, 6000), dtype=np.uint8)
    tracemalloc.start()
    small = resize(image, (64, 19200))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 10 * small.nbytes
    np.testing.assert_allclose(small.mean(), image.mean())


@pytest.mark.parametrize(
    ("field", "words"),
    [
        ({"size": -1}, "size: expected a whole number from 0 to 65536, got -1"),
        ({"size": 65537}, "size: expected a whole number from 0 to 65536"),
        ({"size": 1.5}, "size: expected a whole number"),
        ({"channels": True}, "channels: expected a whole number"),
        ({"channels": 0}, "channels: expected a whole number from 1 to 65536, got 0"),
        ({"window": (0,)}, "window: expected two finite numbers"),
        ({"window": (0, float("inf"))}, "window: expected two finite numbers"),
        ({"window": ("0", 1)}, "window: expected two finite numbers"),
        ({"window": (5, 5)}, "window: expected the lower level before the higher"),
        ({"masks": (0, 255)}, "masks: expected a Meaning"),
    ],
)
def test_fields_that_make_no_sense(field, words):
    with pytest.raises(ValueError, match=words):
        Preprocessing(**field)


def test_fields_become_plain_values():
    how = Preprocessing(np.int64(9), np.uint8(3), np.array([0, 4095]))
    assert how == Preprocessing(9, 3, (0.0, 4095.0))
    assert [type(value) for value in (how.size, how.channels, *how.window)] == [int, int, float, float]


def test_defaults_are_those_of_a_mask():
    """Whoever saved a model without a word on it counts on them."""
    how = Preprocessing()
    assert (how.size, how.channels, how.window) == (64, 1, None)
    assert (how.masks.values, how.masks.names) == ((0, 255), ("background", "structure"))


def test_for_a_file_the_window_is_that_of_training_or_else_one_for_all_pages():
    pages = [np.uint16([[100]]), np.uint16([[5000]]), np.uint8([[7]])]
    assert Preprocessing().for_file(pages).window == (0, 8191)
    assert Preprocessing(window=(0, 1023)).for_file(pages).window == (0, 1023)
    assert Preprocessing().for_file(pages[2:]).window is None


def test_a_large_image_is_resized_in_strips_with_the_same_sums(monkeypatch):
    image = RNG.integers(0, 256, (57, 41), dtype=np.uint8)
    whole = [resize(image, shape) for shape in ((20, 13), (80, 90))]
    monkeypatch.setattr("tinyseg.io.preprocessing.AT_ONCE", 58 * 4)
    for one, shape in zip(whole, ((20, 13), (80, 90))):
        np.testing.assert_array_equal(resize(image, shape), one)


def test_resizing_takes_little_beside_the_image():
    image = np.zeros((3000, 4000), np.uint8)
    tracemalloc.start()
    resize(image, (64, 85))
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 5 * image.nbytes
