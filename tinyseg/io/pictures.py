"""Pictures of what a network does: panels, overlays and GIFs, as uint8 RGB arrays (H, W, 3)."""

from __future__ import annotations

from colorsys import hsv_to_rgb
from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from PIL import Image, ImageDraw, ImageFont  # comes with imageio
from scipy.ndimage import binary_erosion

from tinyseg.io.files import write_whole
from tinyseg.ops import UNLABELLED

TRUTH = (255, 209, 0)  # yellow and blue stay apart for colour-blind eyes too
PREDICTION = (64, 160, 255)
# Of classes, the first is most often the background. After Okabe & Ito's palette for colour-blind eyes.
CLASSES = (
    (70, 70, 70), (86, 180, 233), (240, 228, 66), (0, 158, 115), (213, 94, 0), (204, 121, 167),
    (230, 159, 0), (0, 114, 178),
)  # fmt: skip


def visible(image: np.ndarray) -> np.ndarray:
    """An image as networks take it, (channels, H, W), as one can see it: in colour or in grey.

    Three channels are red, green and blue: (H, W, 3). Of another number it is their mean: (H, W).
    """
    return np.moveaxis(image, 0, -1) if len(image) == 3 else image.mean(axis=0)


def grey(image: np.ndarray) -> np.ndarray:
    """An image or mask in [0, 1], (H, W), as a grey picture; of colour, (H, W, 3), as it is.

    What lies outside is clipped, and what is no number is black.
    """
    level = (np.clip(np.nan_to_num(image), 0, 1) * 255).round().astype(np.uint8)
    return level if level.ndim == 3 else np.repeat(level[..., None], 3, axis=-1)  # (H, W) -> (H, W, 3)


def full_contrast(image: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The image with its values spread so that the lowest of `whole` becomes 0 and the highest 1."""
    low, high = whole.min(), whole.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def overlay(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The image, (H, W) or (H, W, 3), with the mask (H, W; not 0 is in) tinted and its edge in a colour."""
    picture = grey(image).astype(np.float64)
    inside = mask.astype(bool)
    picture[inside] = 0.7 * picture[inside] + 0.3 * np.array(colour)
    picture[edge(inside)] = colour
    return picture.round().astype(np.uint8)


def edge(inside: np.ndarray) -> np.ndarray:
    """Which pixels of a region (H, W) of bools have a neighbour outside it, or lie at the border, (H, W)."""
    return inside & ~binary_erosion(inside)


def class_colours(count: int) -> np.ndarray:
    """A colour for each of so many classes, (count, 3): CLASSES, then hues a golden section apart."""
    more = (hsv_to_rgb(0.618 * k % 1, 0.5, 0.9 - 0.4 * (k % 2)) for k in range(len(CLASSES), count))
    return np.array([*CLASSES, *(np.multiply(colour, 255) for colour in more)], np.uint8)[:count]


def label_map(labels: np.ndarray, classes: int) -> np.ndarray:
    """Labels (H, W) as a picture, each class in its colour and UNLABELLED white."""
    colours = np.full((256, 3), 255, np.uint8)
    colours[:classes] = class_colours(classes)
    return colours[labels]  # (H, W) -> (H, W, 3)


def tinted(image: np.ndarray, labels: np.ndarray, classes: int) -> np.ndarray:
    """The image, (H, W) or (H, W, 3), with every class but the first tinted in its colour, not UNLABELLED."""
    picture, colours = grey(image).astype(np.float64), label_map(labels, classes)
    inside = (labels != 0) & (labels != UNLABELLED)
    picture[inside] = 0.6 * picture[inside] + 0.4 * colours[inside]
    return picture.round().astype(np.uint8)


def legend(names: tuple[str, ...], width: int) -> np.ndarray:
    """The name of each class beside its colour, in as many lines as a picture of that width takes."""
    font, height, box = ImageFont.load_default(14), 22, 14
    places, line, left = [], 0, 8
    for name in names:
        needed = box + 24 + int(font.getlength(name))
        if left > 8 and left + needed > width:
            line, left = line + 1, 8
        places.append((left, line * height + 4))
        left += needed
    strip = Image.new("RGB", (width, (line + 1) * height + 4), "white")
    draw = ImageDraw.Draw(strip)
    for (x, y), name, colour in zip(places, names, class_colours(len(names)).tolist()):
        draw.rectangle((x, y, x + box, y + box), fill=tuple(colour))
        draw.text((x + box + 6, y - 1), name, fill="black", font=font)
    return np.asarray(strip)


def captions(names: tuple[str, ...], width: int, size: int) -> np.ndarray:
    """A white strip of that width, with each name, in letters of `size` pixels, over its share of it.

    A name takes as many lines as it needs; nothing is cut off.
    """
    font, high, share = ImageFont.load_default(size), round(1.3 * size), width / len(names)
    texts = [wrapped(name, font, share - size) for name in names]
    most = max(map(len, texts))
    strip = Image.new("RGB", (width, most * high + high // 3), "white")
    draw = ImageDraw.Draw(strip)
    for k, lines in enumerate(texts):
        for i, line in enumerate(lines, most - len(lines)):  # the last line stands right above the picture
            draw.text(((k + 0.5) * share, i * high + high // 4), line, fill="black", font=font, anchor="ma")
    return np.asarray(strip)


def wrapped(text: str, font, width: float) -> list[str]:
    """The text in lines of at most that width; a word that is longer is broken."""
    lines = [""]
    for word in text.split():
        together = f"{lines[-1]} {word}".lstrip()
        if font.getlength(together) <= width:
            lines[-1] = together
            continue
        lines.append("")
        for letter in word:
            if lines[-1] and font.getlength(lines[-1] + letter) > width:
                lines.append("")
            lines[-1] += letter
    return [line for line in lines if line]


def grid(
    rows: list[list[np.ndarray]], *, names: tuple[str, ...] = (), width: int = 192, gap: int = 4
) -> np.ndarray:
    """Pictures on light grey, in rows as high as their highest and columns as wide as the widest of all.

    The longer side of a small one is enlarged by a whole factor to about `width` pixels. That of a large one
    shrinks to twice as many. Above stand `names`: one for each column, or one for all of them.
    """
    scaled = [[_scaled(picture, width) for picture in row] for row in rows]
    highs = [max(picture.shape[0] for picture in row) for row in scaled]
    w = max(2 * width // 3, *(picture.shape[1] for row in scaled for picture in row))  # a caption needs room
    sheet = np.full((sum(highs) + (len(rows) + 1) * gap, len(rows[0]) * (w + gap) + gap, 3), 208, np.uint8)
    for i, (row, h) in enumerate(zip(scaled, highs)):
        for j, picture in enumerate(row):
            high, wide, _ = picture.shape
            top, left = (
                sum(highs[:i]) + (i + 1) * gap + (h - high) // 2,
                gap + j * (w + gap) + (w - wide) // 2,
            )
            sheet[top : top + high, left : left + wide] = picture
    return np.concatenate([captions(names, sheet.shape[1], max(14, w // 14)), sheet]) if names else sheet


def _scaled(picture: np.ndarray, width: int) -> np.ndarray:
    """A picture whose longer side has about `width` pixels, or up to twice as many: whole, or by area."""
    longer = max(picture.shape[:2])
    if longer > 2 * width:
        size = [max(1, round(2 * width * side / longer)) for side in picture.shape[1::-1]]  # (w, h) for PIL
        return np.asarray(Image.fromarray(picture).resize(size, Image.Resampling.BOX))
    factor = max(1, round(width / longer))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)


def write_image(path: str | Path, picture: np.ndarray, *, pages: bool = False) -> None:
    """Write a picture, whole or not at all, in the format of the path's suffix.

    Takes (H, W) uint8 or uint16, or (H, W, 3) uint8; with `pages`, many of them for one TIFF, (pages, H, W).
    """
    suffix = Path(path).suffix.lower()
    content = imageio.imwrite("<bytes>", picture, extension=suffix, plugin="pillow", is_batch=pages)
    write_whole(path, content)


def write_gif(path: str | Path, frames: list[np.ndarray], *, seconds: float) -> None:
    """Write pictures of one size as an endless animation, each shown so many seconds."""
    content = imageio.imwrite("<bytes>", np.stack(frames), extension=".gif", duration=1000 * seconds, loop=0)
    write_whole(path, content)
