"""The pictures of a run, read back from their files: captions, and what stands under them."""

import imageio.v3 as imageio
import numpy as np
import pytest
from app.small_run import train_small

from tinyseg import Dataset
from tinyseg.app.drawing import contact_sheet, draw

SHEETS = {"masks.png": 3, "overlays.png": 3, "probability.png": 4}  # columns
GAP = 4


@pytest.fixture(scope="module")
def small(tmp_path_factory):
    """A small run of two classes, drawn."""
    small = train_small(tmp_path_factory.mktemp("drawn"))
    draw(small.run, small.p, small.data, small.metrics, small.history, small.frames, 1)
    return small


@pytest.fixture(scope="module")
def lung(tmp_path_factory):
    """A small run of six classes of which a part is annotated, drawn."""
    small = train_small(tmp_path_factory.mktemp("lung"), "lungnet", "--size", "32")
    draw(small.run, small.p, small.data, small.metrics, small.history, small.frames, 1)
    return small


def parts(picture, rows, columns, side=192):
    """(strip of captions, pictures by row and column) of a sheet without a legend."""
    top = len(picture) - rows * (side + GAP) - GAP
    cells = [
        [picture[y : y + side, x : x + side] for x in range(GAP, columns * (side + GAP), side + GAP)]
        for y in range(top + GAP, len(picture), side + GAP)
    ]
    return picture[:top], cells


def small_again(cell, side):
    """What was enlarged, at its own size."""
    factor = len(cell) // side
    np.testing.assert_array_equal(cell, cell[::factor, ::factor].repeat(factor, 0).repeat(factor, 1))
    return cell[::factor, ::factor]


@pytest.mark.parametrize("name", SHEETS)
def test_every_column_has_a_caption_of_its_own_that_is_not_cut_off(small, name):
    columns = SHEETS[name]
    strip, _ = parts(imageio.imread(small.run.folder / name), 2, columns)
    ink = strip.min(axis=(0, 2)) < 128  # of each column of pixels
    shares = np.array_split(ink, columns)
    assert all(share.sum() > 10 for share in shares)
    assert not any(share[:3].any() or share[-3:].any() for share in shares)
    assert (strip[0] > 128).all() and (strip[-1] > 128).all()
    assert len({share.tobytes() for share in shares}) == columns


def test_masks_show_image_truth_and_prediction(small):
    _, cells = parts(imageio.imread(small.run.folder / "masks.png"), 2, 3)
    assert len(small.data.held_out) == 2
    for row, image, labels, p in zip(
        cells, small.data.held_out.images, small.data.held_out.labels, small.p, strict=True
    ):
        for cell, expected in zip(row, (image[0], labels, p[0] > 0.5), strict=True):
            level = np.clip(expected, 0, 1) * 255.0
            np.testing.assert_allclose(small_again(cell, 16)[..., 0], level, atol=0.51)


def test_probabilities_have_full_contrast_and_the_mask_is_cut_at_the_best_threshold(small):
    _, cells = parts(imageio.imread(small.run.folder / "probability.png"), 2, 4)
    low, high = small.p.min(), small.p.max()
    for row, p in zip(cells, small.p[:, 0], strict=True):
        np.testing.assert_allclose(small_again(row[2], 16)[..., 0], 255 * (p - low) / (high - low), atol=0.51)
        np.testing.assert_array_equal(
            small_again(row[3], 16)[..., 0] == 255, p > small.metrics["best_threshold"]
        )


def test_each_frame_of_the_epochs_shows_what_was_predicted_then(small):
    frames = imageio.imread(small.run.folder / "epochs.gif", index=None)
    assert len(frames) >= len(small.frames)  # Pillow may join frames that are alike
    captions = set()
    for frame, (_, level) in zip(frames, small.frames):
        strip, ((_, _, shown),) = parts(frame, 1, 3)
        captions.add(strip[:, -192:].tobytes())
        np.testing.assert_allclose(small_again(shown, 16)[..., 0], level, atol=2)  # a GIF has 256 colours
    assert len(captions) == len(small.frames)


def test_of_many_classes_the_frames_are_label_maps(lung):
    frame = imageio.imread(lung.run.folder / "epochs.gif", index=0)
    shown = frame[24:][GAP : GAP + 192, -GAP - 192 : -GAP]
    labels = lung.frames[0][1]
    colours = {tuple(one) for one in small_again(shown, 32).reshape(-1, 3)}  # (32, 32, 3) -> (1024, 3)
    assert len(colours) == len(np.unique(labels)) > 1


def test_frames_of_one_animation_have_one_size(small, lung):
    for run in (small.run, lung.run):
        steps = imageio.imread(run.folder / "steps.gif", index=None)
        strips = {frame[:24].tobytes() for frame in steps}
        assert len(strips) == len(steps) == (5 if run is small.run else 7)


def test_no_probability_picture_of_many_classes(lung):
    assert (lung.run.folder / "masks.png").exists() and not (lung.run.folder / "probability.png").exists()


@pytest.mark.parametrize(("count", "rows", "pairs"), [(1, 1, 1), (2, 1, 2), (5, 1, 3), (7, 2, 3), (40, 4, 3)])
def test_a_contact_sheet_has_full_rows(count, rows, pairs):
    labels = np.zeros((count, 16, 16), np.uint8)
    labels[:, 4:8, 4:8] = 1
    images = np.random.default_rng(0).random((count, 1, 16, 16), np.float32)
    sheet = contact_sheet(Dataset(images, labels))
    strip, cells = parts(sheet, rows, 2 * pairs)
    assert 20 < len(strip) < 50 and sheet.shape[1] == 2 * pairs * 196 + GAP
    first = [cell for row in cells for cell in row[::2]]
    for cell, image in zip(first, images[:, 0]):
        np.testing.assert_allclose(small_again(cell, 16)[..., 0], 255 * image, atol=0.51)
    assert len(first) == rows * pairs
