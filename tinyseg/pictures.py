"""Pictures of what a network does: panels, overlays and GIFs, as uint8 RGB arrays (H, W, 3)."""

from __future__ import annotations

from pathlib import Path

import imageio.v3 as imageio
import numpy as np
from scipy.ndimage import binary_erosion

from tinyseg.files import write_whole

TRUTH = (255, 209, 0)  # yellow and blue stay apart for colour-blind eyes too
PREDICTION = (64, 160, 255)


def grey(image: np.ndarray) -> np.ndarray:
    """An image or mask (H, W) in [0, 1] as a grey picture; what lies outside is clipped."""
    level = (np.clip(image, 0, 1) * 255).round().astype(np.uint8)
    return np.repeat(level[..., None], 3, axis=-1)  # (H, W) -> (H, W, 3)


def stretched(image: np.ndarray, whole: np.ndarray) -> np.ndarray:
    """The image with its values spread so that the lowest of `whole` becomes 0 and the highest 1."""
    low, high = whole.min(), whole.max()
    return (image - low) / (high - low) if high > low else np.zeros_like(image)


def overlay(image: np.ndarray, mask: np.ndarray, colour: tuple[int, int, int]) -> np.ndarray:
    """The image (H, W) in grey, with the mask (H, W; not 0 is in) tinted and its edge drawn in a colour."""
    picture = grey(image).astype(np.float64)
    inside = mask.astype(bool)
    edge = inside & ~binary_erosion(inside)
    picture[inside] = 0.7 * picture[inside] + 0.3 * np.array(colour)
    picture[edge] = colour
    return picture.round().astype(np.uint8)


def grid(rows: list[list[np.ndarray]], *, width: int = 192, gap: int = 4) -> np.ndarray:
    """Pictures of one size in rows, on white, each enlarged by a whole factor to about `width` pixels."""
    factor = max(1, round(width / rows[0][0].shape[1]))
    enlarged = [[p.repeat(factor, axis=0).repeat(factor, axis=1) for p in row] for row in rows]
    h, w, _ = enlarged[0][0].shape
    sheet = np.full((len(rows) * (h + gap) + gap, len(rows[0]) * (w + gap) + gap, 3), 255, np.uint8)
    for i, row in enumerate(enlarged):
        for j, picture in enumerate(row):
            top, left = gap + i * (h + gap), gap + j * (w + gap)
            sheet[top : top + h, left : left + w] = picture
    return sheet


def write_png(path: str | Path, picture: np.ndarray) -> None:
    """Write a picture, whole or not at all."""
    write_whole(path, imageio.imwrite("<bytes>", picture, extension=".png"))


def write_gif(path: str | Path, frames: list[np.ndarray], *, seconds: float) -> None:
    """Write pictures of one size as an endless animation, each shown so many seconds."""
    content = imageio.imwrite("<bytes>", np.stack(frames), extension=".gif", duration=1000 * seconds, loop=0)
    write_whole(path, content)
