import numpy as np
import pytest
from scipy.ndimage import gaussian_filter

from tinyseg.data import annotate, lung_ct
from tinyseg.data.lung import (
    CLASSES,
    CONSOLIDATION,
    GROUND_GLASS,
    HEALTHY,
    HONEYCOMBING,
    OUTSIDE,
    RETICULATION,
)
from tinyseg.errors import InputError
from tinyseg.io.masks import Meaning
from tinyseg.io.preprocessing import Preprocessing, preprocessing_of
from tinyseg.ops import UNLABELLED

DATA = lung_ct(60)
SPARSE = annotate(DATA)


def test_shapes_types_and_names():
    data = lung_ct(3, size=50)
    assert data.images.shape == (3, 1, 50, 50) and data.labels.shape == (3, 50, 50)
    assert data.images.dtype == np.float32 and data.labels.dtype == np.uint8
    assert data.names == data.subjects == ("lung_0000", "lung_0001", "lung_0002")
    assert data.class_names == CLASSES and data.preprocessing is None
    assert preprocessing_of(data) == Preprocessing(
        50, 1, None, Meaning((0, 1, 2, 3, 4, 5), CLASSES, ignore=255)
    )


def test_images_hold_8_bit_grey_levels():
    assert DATA.images.min() >= 0 and DATA.images.max() <= 1
    levels = np.rint(DATA.images * 255).astype(np.uint8)
    np.testing.assert_array_equal(levels.astype(np.float32) / 255, DATA.images)
    assert len(np.unique(levels)) > 200


def test_a_slice_depends_on_its_seed_and_number_alone():
    few, again, other = lung_ct(2, seed=7), lung_ct(4, seed=7), lung_ct(2, seed=8)
    assert few.images.tobytes() == again.images[:2].tobytes()
    assert few.labels.tobytes() == again.labels[:2].tobytes()
    everything = np.concatenate([again.images, other.images])
    assert len({image.tobytes() for image in everything}) == len(everything)
    marks = annotate(few, seed=3).labels, annotate(again, seed=3).labels, annotate(few, seed=4).labels
    np.testing.assert_array_equal(marks[0], marks[1][:2])
    assert (marks[0] != marks[2]).any()


@pytest.mark.parametrize("size", [48, 96, 160])
def test_two_lungs_in_every_chest_at_any_size(size):
    lung = lung_ct(12, size).labels != OUTSIDE
    for half in (lung[..., : size // 2], lung[..., size // 2 :]):
        share = half.mean((1, 2))
        assert share.min() > 0.12 and share.max() < 0.5
    assert not lung[..., [0, -1]].any() and not lung[..., [0, -1], :].any()


def test_every_tissue_occurs_often_and_healthy_in_every_slice():
    share = np.array([(DATA.labels == k).any(axis=(1, 2)).mean() for k in range(len(CLASSES))])
    assert share[[OUTSIDE, HEALTHY]].min() == 1
    assert share[2:].min() > 0.5


def test_brightness_does_not_tell_the_tissues_apart():
    """Haze, mesh and honeycomb are alike on average; consolidation is as bright as muscle."""
    mean = [DATA.images[:, 0][DATA.labels == k].mean() for k in range(len(CLASSES))]
    alike = [mean[k] for k in (GROUND_GLASS, RETICULATION, HONEYCOMBING)]
    assert max(alike) - min(alike) < 0.08
    assert mean[HEALTHY] < min(alike) - 0.1
    body = DATA.images[:, 0][(DATA.labels == OUTSIDE) & (DATA.images[:, 0] > 0.6)]
    solid = DATA.images[:, 0][(DATA.labels == CONSOLIDATION) & (DATA.images[:, 0] > 0.6)]
    assert abs(np.median(body) - np.median(solid)) < 0.06


def test_texture_does():
    """Contrast between neighbours, averaged over a neighbourhood, rises from haze to mesh and honeycomb."""
    edges = abs(DATA.images - gaussian_filter(DATA.images, (0, 0, 1, 1)))
    edges = gaussian_filter(edges, (0, 0, 2, 2))
    mean = {k: edges[:, 0][DATA.labels == k].mean() for k in (GROUND_GLASS, RETICULATION, HONEYCOMBING)}
    assert 1.5 * mean[GROUND_GLASS] < mean[RETICULATION] < mean[HONEYCOMBING]


def test_annotation_is_sparse_and_true():
    known = SPARSE.labels != UNLABELLED
    np.testing.assert_array_equal(SPARSE.labels[known], DATA.labels[known])
    assert SPARSE.images is DATA.images and SPARSE.names == DATA.names and SPARSE.class_names == CLASSES
    lung = DATA.labels != OUTSIDE
    share = (known & lung).sum((1, 2)) / lung.sum((1, 2))
    assert share.min() > 0.05 and 0.15 < share.mean() < 0.3 and share.max() < 0.5
    left = np.arange(96) < 48
    assert (known & lung & left).any((1, 2)).all() and (known & lung & ~left).any((1, 2)).all()
    assert (known & ~lung).any((1, 2)).all()
    assert set(np.unique(SPARSE.labels)) == {*range(len(CLASSES)), UNLABELLED}


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"count": 0}, "lung_ct's count must be a whole number, at least 1, got 0"),
        ({"count": 1, "size": 31}, "lung_ct's size must be a whole number, at least 32, got 31"),
        ({"count": 1, "seed": -1}, "lung_ct's seed"),
    ],
)
def test_arguments_that_make_no_sense(arguments, words):
    with pytest.raises(InputError, match=words):
        lung_ct(**arguments)
