"""The three parts of a run's images, and the folds of a cross-validation."""

from types import SimpleNamespace

import imageio.v3 as imageio
import numpy as np
import pytest

from tinyseg.app.data import blank_sides, load_data
from tinyseg.app.flags import flags
from tinyseg.app.found import describe
from tinyseg.errors import InputError


def args(network="modified", **fields):
    usual = vars(flags("", network, "runs").parse_args([]))
    return SimpleNamespace(**usual | {"images": 20, "size": 32 if network == "lungnet" else 16} | fields)


def folder(path, sizes, without=()):
    """A folder of subjects with so many images each, a square to find in each but those `without`."""
    for subject, size in sizes.items():
        for i in range(size):
            mask = np.zeros((8, 8), np.uint8)
            mask[2:5, 2:5] = 255 if subject not in without else 0
            imageio.imwrite(path / f"{subject}_{i}.png", mask // 2 + 40)
            imageio.imwrite(path / f"{subject}_{i}_mask.png", mask)
    return path


def parts(data):
    return [part for part in (data.train, data.validation, data.held_out) if part]


@pytest.mark.parametrize("network", ["modified", "original", "lungnet"])
def test_of_synthetic_images_a_fifth_chooses_and_a_fifth_judges(network):
    data = load_data(args(network=network))
    assert [len(part) for part in parts(data)] == [12, 4, 4]
    assert len({name for part in parts(data) for name in part.names}) == 20


@pytest.mark.parametrize("seed", range(8))
def test_no_subject_is_in_two_parts(seed, tmp_path):
    data = load_data(args(data=folder(tmp_path, {"a": 1, "b": 2, "c": 3, "d": 5, "e": 4}), seed=seed))
    subjects = [set(part.subjects) for part in parts(data)]
    assert len(subjects) == 3 and all(subjects)
    assert sum(map(len, subjects)) == len(set.union(*subjects)) == 5
    assert sum(len(part) for part in parts(data)) == 15
    assert all(2 <= len(part) <= 4 for part in (data.validation, data.held_out))  # a fifth: 3


@pytest.mark.parametrize("seed", range(8))
def test_of_three_subjects_of_any_sizes_the_largest_trains(seed, tmp_path):
    data = load_data(args(data=folder(tmp_path, {"a": 1, "b": 1, "c": 8}), seed=seed))
    assert [len(part) for part in parts(data)] == [8, 1, 1]


def test_two_subjects_leave_nothing_to_choose_by(tmp_path):
    given = args(data=folder(tmp_path, {"a": 2, "b": 2}))
    data = load_data(given)
    assert data.validation is None and {data.train.subjects[0], data.held_out.subjects[0]} == {"a", "b"}
    assert "validation    nothing: another subject is missing" in describe(data, given)


def test_one_subject_is_refused(tmp_path):
    with pytest.raises(InputError, match="at least 2 subjects, .* got 1: p1; .* each file is one"):
        load_data(args(data=folder(tmp_path, {"p1": 5})))


def test_lungnet_needs_three_subjects(tmp_path):
    with pytest.raises(
        InputError, match="expected at least 3 subjects, to train, choose the epoch and judge, got 2"
    ):
        load_data(args(network="lungnet", data=folder(tmp_path, {"a": 2, "b": 2})))


@pytest.mark.parametrize("seed", range(12))
def test_every_side_has_something_to_find_where_subjects_allow_it(seed, tmp_path):
    data = load_data(args(data=folder(tmp_path, dict.fromkeys("abcde", 1), without="cd"), seed=seed))
    assert all(part.labels.any() for part in parts(data)) and not blank_sides(data)


@pytest.mark.parametrize("seed", range(8))
def test_what_there_is_to_find_is_trained_on_first(seed, tmp_path):
    data = load_data(args(data=folder(tmp_path, {"a": 1, "b": 1}, without="b"), seed=seed))
    assert data.train.labels.any() and not data.held_out.labels.any()
    assert blank_sides(data)[0].startswith("nothing is there in the 1 image to judge by, so no Dice")


def test_of_ones_own_split_the_training_needs_something_to_find(tmp_path):
    for part, without in (("train", "ab"), ("val", "")):
        (tmp_path / part).mkdir()
        folder(tmp_path / part, {"a": 2, "b": 2}, without)
    with pytest.raises(
        InputError, match="expected something to find to train on, got none in .*; 4 of 8 images"
    ):
        load_data(args(data=tmp_path))


def test_masks_that_are_all_black_are_refused(tmp_path):
    with pytest.raises(InputError, match="expected something to find, got 4 masks that are all black"):
        load_data(args(data=folder(tmp_path, {"a": 2, "b": 2}, without="ab")))


def test_masks_that_are_filled_everywhere_are_refused(tmp_path):
    for name in "abc":
        for end in ("", "_mask"):
            imageio.imwrite(tmp_path / f"{name}{end}.png", np.full((8, 8), 255, np.uint8))
    with pytest.raises(InputError, match="expected masks of something, got 3 that are filled everywhere"):
        load_data(args(data=tmp_path))


def test_every_pixel_is_known_of_the_very_images_that_are_held_out():
    for fold in (None, (1, 4)):
        data = load_data(args(network="lungnet", fold=fold))
        assert data.truth.names == data.held_out.names
        known = data.held_out.labels != 255
        np.testing.assert_array_equal(data.held_out.labels[known], data.truth.labels[known])
        assert not (data.truth.labels == 255).any()


# Folds


@pytest.mark.parametrize("network", ["modified", "lungnet"])
def test_in_a_cross_validation_each_image_is_held_out_once_and_chooses_once(network):
    folds = [load_data(args(network=network, fold=(i, 5))) for i in range(5)]
    for kind in ("held_out", "validation"):
        names = [name for data in folds for name in getattr(data, kind).names]
        assert len(names) == len(set(names)) == 20
    for i, data in enumerate(folds):
        assert data.validation.names == folds[(i + 1) % 5].held_out.names
        assert sorted(name for part in parts(data) for name in part.names) == sorted(
            name for fold in folds for name in fold.held_out.names
        )


@pytest.mark.parametrize("n", [1, 2])
def test_fewer_than_three_folds_are_refused(n):
    with pytest.raises(InputError, match=f"--folds {n}: expected at least 3"):
        load_data(args(fold=(0, n)))


def test_more_folds_than_subjects_are_refused(tmp_path):
    with pytest.raises(InputError, match="--folds 5: expected a subject for each fold, got 3: a, b, c; at"):
        load_data(args(data=folder(tmp_path, {"a": 2, "b": 2, "c": 2}), fold=(0, 5)))


def test_a_fold_without_anything_to_learn_from_is_refused_by_the_first_fold(tmp_path):
    place = folder(tmp_path, {"a": 2, "b": 2, "c": 2}, without="b")
    for i in range(3):
        with pytest.raises(InputError, match=r"to find to train on in fold \d, got none in b_0, b_1; 4 of 6"):
            load_data(args(data=place, fold=(i, 3)))


def test_a_fold_that_judges_by_nothing_is_warned_of(tmp_path):
    place = folder(tmp_path, dict.fromkeys("abcdef", 2), without="b")
    folds = [load_data(args(data=place, fold=(i, 6))) for i in range(6)]
    assert sum(any("2 images to judge by" in text for text in blank_sides(data)) for data in folds) == 1
