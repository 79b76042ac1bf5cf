"""Pictures, pixel by pixel where it matters, and read back from their files."""

import imageio.v3 as imageio
import numpy as np
import pytest
from PIL import ImageFont

from tinyseg.io import pictures

IMAGE = np.linspace(0, 1, 64).reshape(8, 8)
MASK = np.zeros((8, 8))
MASK[2:7, 2:7] = 1


def test_grey_clips_and_rounds():
    picture = pictures.grey(np.array([[-0.5, 0.0], [0.5, 7.0]]))
    np.testing.assert_array_equal(picture, [[[0] * 3, [0] * 3], [[128] * 3, [255] * 3]])


def test_three_channels_are_seen_in_colour_and_others_by_their_mean():
    image = np.random.default_rng(0).random((3, 4, 5))
    np.testing.assert_array_equal(pictures.grey(pictures.visible(image))[1, 2], np.rint(255 * image[:, 1, 2]))
    np.testing.assert_allclose(pictures.visible(image[:2]), (image[0] + image[1]) / 2)


def test_stretched_spans_the_whole():
    np.testing.assert_allclose(pictures.full_contrast(IMAGE[:4], 0.2 + 0.1 * IMAGE), (IMAGE[:4] - 0.2) / 0.1)
    np.testing.assert_array_equal(pictures.full_contrast(IMAGE, np.full(3, 0.5)), np.zeros((8, 8)))


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
    assert (sheet[1:9, 1:13] == 0).all() and (sheet[1:9, 14:26] == 200).all() and (sheet[0] == 208).all()


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


def test_label_maps_have_a_colour_for_each_class_and_white_for_none():
    labels = np.uint8([[0, 1, 2], [255, 2, 0]])
    picture, colours = pictures.label_map(labels, 3), pictures.class_colours(3)
    np.testing.assert_array_equal(picture[0], colours)
    np.testing.assert_array_equal(picture[1], [[255] * 3, colours[2], colours[0]])


def test_colours_of_many_classes_differ():
    colours = pictures.class_colours(40)
    assert colours.shape == (40, 3) and len(np.unique(colours, axis=0)) == 40
    np.testing.assert_array_equal(colours[:5], pictures.class_colours(5))


def test_tinted_leaves_the_first_class_and_the_unlabelled():
    labels = np.zeros((8, 8), np.uint8)
    labels[0], labels[1] = 2, 255
    picture = pictures.tinted(IMAGE, labels, 3)
    np.testing.assert_array_equal(picture[1:], pictures.grey(IMAGE)[1:])
    expected = 0.6 * pictures.grey(IMAGE)[0] + 0.4 * pictures.class_colours(3)[2]
    np.testing.assert_allclose(picture[0], expected, atol=0.5)


def test_legend_shows_every_colour_with_its_name():
    names = ("background", "a", "structure")
    one_line, three = pictures.legend(names, 400), pictures.legend(names, 120)
    assert one_line.shape[1] == 400 and three.shape[1] == 120 and three.shape[0] > 2 * one_line.shape[0]
    for picture in (one_line, three):
        for colour in pictures.class_colours(3):
            assert (picture == colour).all(axis=-1).sum() >= 14 * 14
    dark = (one_line.max(axis=-1) < 60).sum(axis=0)
    assert dark[30:110].sum() > dark[130:150].sum() > 0  # a longer name has more ink


def test_images_of_16_bits_and_of_many_pages(tmp_path):
    deep = np.arange(64, dtype=np.uint16).reshape(8, 8) * 1000
    pictures.write_image(tmp_path / "deep.png", deep)
    np.testing.assert_array_equal(imageio.imread(tmp_path / "deep.png"), deep)
    pages = np.stack([deep, deep.T, deep[::-1], deep + 1])[..., :3]  # 3 pixels wide, and yet no colour
    pictures.write_image(tmp_path / "pages.tif", pages, pages=True)
    read = imageio.imread(tmp_path / "pages.tif", index=..., plugin="pillow")
    np.testing.assert_array_equal(read, pages)


@pytest.mark.parametrize("width", [9, 60, 120, 1000])
def test_wrapped_text_fits_and_loses_no_letter(width):
    font = ImageFont.load_default(14)
    text = "mask at the best threshold of Donaudampfschiffahrtsgesellschaft, 0.43"
    lines = pictures.wrapped(text, font, width)
    assert "".join(lines).replace(" ", "") == text.replace(" ", "")
    assert all(font.getlength(line) <= width or len(line) == 1 for line in lines)
    assert (len(lines) == 1) == (width == 1000)


def test_captions_stand_over_their_columns_and_end_right_above_the_picture():
    strip = pictures.captions(("one", "a caption of some lines"), 200, 14)
    dark = strip.max(axis=-1) < 128
    assert strip.shape == (2 * 18 + 6, 200, 3)
    columns = np.flatnonzero(dark[:, :100].any(axis=0))
    assert abs(columns.mean() - 50) < 3  # in the middle
    assert not dark[:18, :100].any() and dark[18:, :100].any() and dark[:18, 100:].any()
    assert not dark[:, [0, 99, 100, 199]].any() and not dark[[0, -1]].any()


def test_one_name_stands_over_the_whole_grid_and_letters_grow_with_the_pictures():
    small, large = (np.zeros((side, side, 3), np.uint8) for side in (192, 560))
    heights = []
    for picture in (small, large):
        row, width = [[picture] * 3], len(picture)
        plain, named = (pictures.grid(row, names=names, width=width) for names in ((), ("of all",)))
        np.testing.assert_array_equal(named[-len(plain) :], plain)
        heights.append(len(named) - len(plain))
        dark = np.flatnonzero((named[: heights[-1]].max(axis=-1) < 128).any(axis=0))
        assert abs(dark.mean() - named.shape[1] / 2) < 5
    assert 2 * heights[0] < heights[1] < 4 * heights[0]


def plain(height, width, level=0):
    return np.full((height, width, 3), level, np.uint8)


def test_a_row_is_as_high_as_its_highest_picture_and_all_columns_as_wide_as_the_widest():
    sheet = pictures.grid([[plain(12, 6)], [plain(4, 12, 100)]], width=12, gap=2)
    assert sheet.shape == (12 + 4 + 3 * 2, 12 + 4, 3)
    np.testing.assert_array_equal(np.argwhere((sheet == 0).all(axis=-1))[[0, -1]], [[2, 5], [13, 10]])
    np.testing.assert_array_equal(np.argwhere((sheet == 100).all(axis=-1))[[0, -1]], [[16, 2], [19, 13]])
    assert (sheet == 208).all(axis=-1).sum() == sheet.shape[0] * sheet.shape[1] - 12 * 6 - 4 * 12


def test_a_photograph_shrinks_by_area_to_twice_the_width():
    picture = np.random.default_rng(0).integers(0, 256, (1536, 2048, 3), dtype=np.uint8)
    sheet = pictures.grid([[picture] * 3] * 6, width=128)
    assert sheet.shape == (6 * 196 + 4, 3 * 260 + 4, 3)
    mean = picture.reshape(192, 8, 256, 8, 3).mean(axis=(1, 3))  # (1536, 2048, 3) -> (192, 256, 3)
    np.testing.assert_allclose(sheet[4:196, 4:260], mean, atol=1)


@pytest.mark.parametrize(("height", "width"), [(20, 1000), (1000, 20), (1, 5000)])
def test_a_thin_picture_keeps_a_pixel_of_height_and_leaves_room_for_a_caption(height, width):
    bare, named = (
        pictures.grid([[plain(height, width)] * 2], names=names) for names in ((), ("image", "truth"))
    )
    assert (bare == 0).any() and max(bare.shape) < 800
    assert len(named) - len(bare) < 60  # a line, not a letter below each other
