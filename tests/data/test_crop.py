"""Crops: the same square of image and labels, anywhere, and often enough where something rare is."""

import numpy as np
import pytest

from tinyseg import modified
from tinyseg.data import Dataset, random_crop
from tinyseg.training import begin, fit

RNG = np.random.default_rng(0)


def numbered(height, width, channels=1):
    """An image in which each pixel tells its place, and labels that tell it too (modulo 251)."""
    places = np.arange(height * width).reshape(height, width)
    return np.stack([places] * channels).astype(np.float32), (places % 251).astype(np.uint8)


def test_image_and_labels_are_cut_at_the_same_place_without_a_change():
    image, labels = numbered(20, 31, channels=3)
    images, label_maps = random_crop(7)(image[None], labels[None], np.random.default_rng(1))
    assert images.shape == (1, 3, 7, 7) and label_maps.shape == (1, 7, 7)
    assert images.dtype == np.float32 and label_maps.dtype == np.uint8
    np.testing.assert_array_equal(images[0, 0] % 251, label_maps[0])
    top, left = divmod(int(images[0, 0, 0, 0]), 31)
    np.testing.assert_array_equal(images[0], image[:, top : top + 7, left : left + 7])


def test_all_squares_within_the_image_are_equally_likely():
    image, labels = numbered(6, 5)
    crop, rng, corners = random_crop(4, share=0), np.random.default_rng(2), np.zeros(30)
    for _ in range(6000):
        corners[int(crop(image[None], labels[None], rng)[0][0, 0, 0, 0])] += 1
    there = [row * 5 + column for row in range(3) for column in range(2)]
    assert corners.sum() == corners[there].sum()
    assert np.all(np.abs(corners[there] - 1000) < 5 * np.sqrt(1000))


@pytest.mark.parametrize("share", [0.0, 0.25, 1.0])
def test_a_share_of_the_squares_holds_a_rare_class(share):
    """Two pixels of a rare class, far apart in a large image: else a square holds one of them hardly ever."""
    labels = np.zeros((1, 400, 400), np.uint8)
    labels[0, 3, 396] = labels[0, 200, 200] = 1
    crop, rng = random_crop(8, share), np.random.default_rng(3)
    found = [crop(labels[:, None].astype(np.float32), labels, rng)[1].any() for _ in range(600)]
    assert abs(np.mean(found) - share) < 0.06


def test_rare_classes_take_turns_whatever_their_size():
    labels = np.zeros((1, 90, 90), np.uint8)
    labels[0, :20], labels[0, 80, 80], labels[0, 50:60] = 1, 2, 255
    crop, rng = random_crop(9, 1), np.random.default_rng(4)
    held = [np.unique(crop(labels[:, None].astype(np.float32), labels, rng)[1]) for _ in range(400)]
    assert 0.4 < np.mean([1 in values for values in held]) < 0.65
    assert 0.4 < np.mean([2 in values for values in held]) < 0.6


def test_every_place_of_a_rare_pixel_within_the_square_is_equally_likely():
    labels = np.zeros((1, 50, 50), np.uint8)
    labels[0, 25, 25] = 1
    crop, rng = random_crop(3, 1), np.random.default_rng(5)
    held = sum(crop(labels[:, None].astype(np.float32), labels, rng)[1][0].astype(int) for _ in range(9000))
    assert np.all(np.abs(held - 1000) < 5 * np.sqrt(1000))


def test_an_image_of_one_class_or_without_annotation_is_cut_anywhere():
    for value in (0, 1, 255):
        labels = np.full((2, 9, 12), value, np.uint8)
        assert random_crop(9, 1)(np.zeros((2, 1, 9, 12)), labels, RNG)[1].shape == (2, 9, 9)


def test_images_of_different_sizes_train_by_crops():
    sizes = [(20, 31), (16, 16), (40, 18)]
    data = Dataset([RNG.random((1, *size)) for size in sizes], [np.ones(size, int) for size in sizes])
    net = modified(dilations=(1, 2))
    (last,) = fit(net, data, begin(net), epochs=1, batch=2, augment=random_crop(16))
    assert last.step == 2 and np.isfinite(last.loss)


def test_a_square_that_makes_no_sense():
    for size, share in ((0, 0.5), (4, -0.1), (4, 1.5)):
        with pytest.raises(ValueError, match="random_crop: expected a size of at least 1 and a share from 0"):
            random_crop(size, share)
    with pytest.raises(ValueError, match=r"images of at least 9 x 9, got one \(8, 20\)"):
        random_crop(9)(np.zeros((1, 1, 8, 20)), np.zeros((1, 8, 20), np.uint8), RNG)
