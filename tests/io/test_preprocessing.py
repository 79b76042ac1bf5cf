"""What a network sees of an image: the same as in training, whatever the file's size and depth."""

import tracemalloc

import numpy as np
import pytest
from PIL import Image

from tinyseg.io.folder import load_folder
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
    assert data.preprocessing == Preprocessing(12, channels, 10 if pixels is DEEP else None)
    np.testing.assert_array_equal(data.preprocessing(pixels), data.images[0])


def test_all_of_an_image_is_seen_at_the_scale_of_the_centre_square():
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
    np.testing.assert_allclose(Preprocessing(1, bits=14)(bright, 0)[0], bright / 16383)
    np.testing.assert_allclose(Preprocessing(1, bits=10)(bright, 0)[0], [[100 / 1023, 1]])
    np.testing.assert_allclose(Preprocessing(1, bits=12)(np.uint8([[51]]), 0)[0], [[0.2]])


def test_grey_for_colour_and_colour_for_grey():
    np.testing.assert_allclose(Preprocessing(30)(COLOUR)[0], COLOUR @ LUMA / 255e3, atol=1e-6)
    np.testing.assert_array_equal(Preprocessing(30, 3)(GREY), np.stack([Preprocessing(30)(GREY)[0]] * 3))
    np.testing.assert_allclose(Preprocessing(30, 3)(COLOUR), COLOUR.transpose(2, 0, 1) / 255, atol=1e-6)
    with pytest.raises(ValueError, match="channels: expected 1 or 3 for an image file, got 2"):
        Preprocessing(30, 2)(GREY)


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
        ({"size": 0}, "size: expected a whole number from 1 to 65536, got 0"),
        ({"size": 1.5}, "size: expected a whole number"),
        ({"channels": True}, "channels: expected a whole number"),
        ({"bits": 17}, "bits: expected a whole number from 1 to 16, got 17"),
        ({"values": (0, 70000)}, "values: expected whole numbers from 0 to 65535"),
        ({"values": (0, "1")}, "values: expected whole numbers"),
        ({"values": (0, 1, 2)}, "names: expected one for each of different values"),
        ({"values": (1, 1)}, "names: expected one for each of different values"),
    ],
)
def test_fields_that_make_no_sense(field, words):
    with pytest.raises(ValueError, match=words):
        Preprocessing(**field)


def test_fields_become_plain_values():
    how = Preprocessing(values=np.array([3, 7]), names=["a", "b"])
    assert how == Preprocessing(values=(3, 7), names=("a", "b"))
    assert all(type(value) is int for value in how.values)
    how = Preprocessing(np.int64(9), np.uint8(3), np.int32(12))
    assert how == Preprocessing(9, 3, 12)
    assert [type(value) for value in (how.size, how.channels, how.bits)] == [int, int, int]
    how = Preprocessing(values=iter([3, 7]), names=iter("ab"))  # which can be read but once
    assert (how.values, how.names) == ((3, 7), ("a", "b"))


def test_defaults_are_those_of_a_mask():
    """Whoever saved a model without a word on it counts on them."""
    how = Preprocessing()
    assert (how.size, how.channels, how.bits) == (64, 1, None)
    assert (how.values, how.names) == ((0, 255), ("background", "structure"))


@pytest.mark.parametrize(
    ("field", "least", "most"), [("size", 1, 65536), ("channels", 1, 65536), ("bits", 1, 16)]
)
def test_fields_reach_to_their_bounds_and_no_further(field, least, most):
    for value in (least, most):
        assert getattr(Preprocessing(**{field: value}), field) == value
    for value in (least - 1, most + 1):
        with pytest.raises(ValueError, match=f"{field}: expected a whole number from {least} to {most}, got"):
            Preprocessing(**{field: value})


def test_values_reach_to_their_bounds_and_no_further():
    assert Preprocessing(values=(0, 65535)).values == (0, 65535)
    for values in ((0, 65536), (-1, 0)):
        with pytest.raises(ValueError, match="values: expected whole numbers from 0 to 65535, got"):
            Preprocessing(values=values)


def test_for_a_file_the_scale_is_that_of_training_or_else_one_for_all_pages():
    pages = [np.uint16([[100]]), np.uint16([[5000]]), np.uint8([[7]])]
    assert Preprocessing().for_file(pages).bits == 13
    assert Preprocessing(bits=10).for_file(pages).bits == 10
    assert Preprocessing().for_file(pages[2:]).bits is None
