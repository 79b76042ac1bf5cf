"""Pictures, pixel by pixel where it matters, and read back from their files."""

import imageio.v3 as imageio
import numpy as np

from tinyseg import pictures

IMAGE = np.linspace(0, 1, 64).reshape(8, 8)
MASK = np.zeros((8, 8))
MASK[2:7, 2:7] = 1


def test_grey_clips_and_rounds():
    picture = pictures.grey(np.array([[-0.5, 0.0], [0.5, 7.0]]))
    np.testing.assert_array_equal(picture, [[[0] * 3, [0] * 3], [[128] * 3, [255] * 3]])


def test_stretched_spans_the_whole():
    np.testing.assert_allclose(pictures.stretched(IMAGE[:4], 0.2 + 0.1 * IMAGE), (IMAGE[:4] - 0.2) / 0.1)
    np.testing.assert_array_equal(pictures.stretched(IMAGE, np.full(3, 0.5)), np.zeros((8, 8)))


def test_overlay_tints_inside_draws_the_edge_and_leaves_the_rest():
    picture = pictures.overlay(IMAGE, MASK, pictures.TRUTH)
    np.testing.assert_array_equal(picture[MASK == 0], pictures.grey(IMAGE)[MASK == 0])
    np.testing.assert_array_equal(picture[2, 2:7], [pictures.TRUTH] * 5)
    inner = 0.7 * pictures.grey(IMAGE)[4, 4] + 0.3 * np.array(pictures.TRUTH)
    np.testing.assert_allclose(picture[4, 4], inner, atol=0.5)


def test_grid_places_and_enlarges():
    black, white = np.zeros((4, 6, 3), np.uint8), np.full((4, 6, 3), 200, np.uint8)
    sheet = pictures.grid([[black, white], [white, black]], width=12, gap=1)
    assert sheet.shape == (2 * 9 + 1, 2 * 13 + 1, 3)
    assert (sheet[1:9, 1:13] == 0).all() and (sheet[1:9, 14:26] == 200).all() and (sheet[0] == 255).all()


def test_files_can_be_read_back(tmp_path):
    picture = pictures.overlay(IMAGE, MASK, pictures.PREDICTION)
    pictures.write_image(tmp_path / "a.png", picture)
    np.testing.assert_array_equal(imageio.imread(tmp_path / "a.png"), picture)
    frames = [pictures.grey(IMAGE), pictures.grey(1 - IMAGE), picture]
    pictures.write_gif(tmp_path / "a.gif", frames, seconds=0.5)
    read = imageio.imread(tmp_path / "a.gif", index=None)
    assert read.shape == (3, 8, 8, 3)
    assert np.abs(read[0].astype(int) - frames[0]).max() <= 2  # a GIF has 256 colours
    assert imageio.immeta(tmp_path / "a.gif")["duration"] == 500
    assert {path.name for path in tmp_path.iterdir()} == {"a.png", "a.gif"}
