"""Pictures to look at while one works: a panel, an overlay, feature maps, the receptive field, a threshold.

Each function takes arrays and returns a `Picture`, which a notebook shows where a cell ends in it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from html import escape
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from autograd import make_vjp
from PIL import Image

from tinyseg.app.drawing import plane
from tinyseg.app.report import Shown, page, slider
from tinyseg.io import pictures
from tinyseg.io.pictures import PREDICTION, TRUTH, grey, visible, write_image
from tinyseg.ops import UNLABELLED
from tinyseg.ops.check import check_nchw, floats
from tinyseg.training import check_arrays, check_network, most_probable
from tinyseg.views import check

FORMATS = (".png", ".jpg", ".jpeg", ".tif", ".tiff", ".webp", ".bmp")  # that a picture is saved in
GROW = """<script>
const grow = () => {
  if (frameElement) frameElement.style.height = document.documentElement.offsetHeight + "px"
}
addEventListener("load", grow)
addEventListener("resize", grow)
</script>"""


@dataclass(frozen=True, repr=False)
class Picture:
    """Pixels that a notebook shows as a picture, (H, W, 3) uint8."""

    pixels: np.ndarray

    def __repr__(self) -> str:
        return "Picture({1} x {0} pixels)".format(*self.pixels.shape)

    def _repr_png_(self) -> bytes:
        return png(self.pixels)

    def save(self, path: str | Path) -> None:
        """Write it, whole or not at all, in the format of the path's suffix.

        Raises:
            ValueError: the suffix is that of none of FORMATS.
        """
        write_image(check.path(path, FORMATS), self.pixels)


@dataclass(frozen=True, repr=False)
class Page:
    """A page of HTML that a notebook shows in a frame of its own.

    The frame becomes as high as the page: only the browser knows how many images stand side by side.
    """

    html: str

    def __repr__(self) -> str:
        return f"Page({len(self.html):,} characters of HTML; a notebook shows it)"

    def _repr_html_(self) -> str:
        style = "width: 100%; height: 800px; border: 0; background: white"
        return f'<iframe srcdoc="{escape(self.html)}" style="{style}" title="a page with a slider"></iframe>'


def png(pixels: np.ndarray, most: int = 1200) -> bytes:
    """A picture (H, W, 3) uint8 as a PNG file, no side longer than `most` pixels."""
    content = BytesIO()
    grey = (pixels == pixels[..., :1]).all()  # one channel then says all
    picture = Image.fromarray(pixels[..., 0] if grey else pixels)
    picture.thumbnail((most, most), Image.Resampling.BOX)  # it only ever shrinks
    picture.save(content, "png")
    return content.getvalue()


def overlay(image, truth=None, prediction=None) -> Picture:
    """An image with the outlines of masks on it: yellow is the truth, blue the prediction.

    Args:
        image: (channels, H, W) or (H, W) of floats in [0, 1].
        truth, prediction: (H, W), labels or bools: what is not 0 is in, UNLABELLED is not; or None.

    Raises:
        ValueError: what is given is no image or no mask.
    """
    wanted = "one image (channels, H, W) of floats in [0, 1]"
    image = check.numbers("overlay", wanted, image)
    image = image[None] if image.ndim == 2 else image  # (H, W) -> (1, H, W)
    if image.ndim == 3 and image.shape[2] in (1, 3, 4) and min(image.shape[:2]) > 4:
        way_out = "image.transpose(2, 0, 1) has the channels in front"
        raise ValueError(f"overlay: expected {wanted}, got {image.shape}; {way_out}")
    if image.ndim != 3 or image.dtype.kind not in "fb" or not image.size:
        way_out = "pixels / 255 are floats, and data.images[0] is one image"
        raise ValueError(f"overlay: expected {wanted}, got {check.came(image)}; {way_out}")
    for name, mask in (("truth", truth), ("prediction", prediction)):
        wanted = f"a {name} {image.shape[1:]} of labels or bools"
        given = image[0] > 0 if mask is None else check.numbers("overlay", wanted, mask)
        if given.shape != image.shape[1:] or given.dtype.kind not in "bui":
            way_out = "probabilities become a mask by p > 0.5"
            raise ValueError(f"overlay: expected {wanted}, got {check.came(given)}; {way_out}")
    return Picture(_enlarged(_outlined(image, truth, prediction)))


def panel(data, p=None, *, threshold: float = 0.5, most: int = 6) -> Picture:
    """The first images of a dataset in rows: image, truth; and of probabilities also the mask and an overlay.

    Args:
        data: a `Dataset`.
        p: the probabilities of its images, as `predict` gives them: (N, 1, H, W) of two classes,
            (N, classes, H, W) of more; or None.
        threshold: of two classes, where the mask begins.
        most: how many images at most.

    Raises:
        ValueError: there are no images, the probabilities are not theirs, or the threshold is no number.
    """
    check.dataset("panel", data, most)
    p = None if p is None else check.probabilities("panel", data, p, most)
    threshold = check.threshold("panel", "a threshold that is a number", threshold)
    names, rows = data.class_names, []
    for i in range(min(most, len(data))):
        image, labels = data.images[i], data.labels[i]
        row = [grey(visible(image)), plane(labels, len(names))]
        if p is not None:
            found = most_probable(p[i], threshold)
            on = pictures.tinted(visible(image), found, len(names))
            row += [grey(p[i][0])] if len(names) == 2 else []
            row += [plane(found, len(names)), _outlined(image, labels, found) if len(names) == 2 else on]
        rows.append(row)
    captions = ["image", "truth"]
    if p is not None:
        captions += ["probability"] if len(names) == 2 else []
        captions += [f"above {threshold:g}" if len(names) == 2 else "prediction", "on the image"]
    picture = pictures.grid(rows, names=tuple(captions), width=128)
    if len(names) > 2:
        picture = np.concatenate([picture, pictures.legend(names, picture.shape[1])])
    return Picture(picture)


def feature_maps(features: Mapping[str, Any], image: int = 0, *, most: int = 8) -> Picture:
    """The feature maps of every layer, each layer under its name.

    Each map is spread from its lowest value (black) to its highest (white).

    Args:
        features: as `net.features(params, state, x)` gives them: arrays (N, channels, H, W) by name.
        image: of which of the N images.
        most: how many channels of a layer at most; so many maps stand side by side.

    Raises:
        ValueError: there are no maps to show, or no such image.
    """
    check.whole("feature_maps", most)
    check.maps("feature_maps", features, image)
    most = min(most, sum(maps.shape[1] for maps in features.values()))
    lines: list[list[tuple[str, list[np.ndarray]]]] = [[]]
    for name, maps in features.items():
        finite = np.nan_to_num(maps[image, :most].astype(float), posinf=0, neginf=0)  # of a net that diverged
        shown = [grey(pictures.full_contrast(one, one)) for one in finite]
        if lines[-1] and sum(len(others) for _, others in lines[-1]) + len(shown) > most:
            lines.append([])
        lines[-1].append((str(name), shown))
    sheets = []
    for line in lines:
        blank = np.full_like(line[0][1][0], 255)
        maps = [one for _, shown in line for one in shown]
        row = pictures.grid([maps + [blank] * (most - len(maps))], width=96)
        share = row.shape[1] / most
        heads = [pictures.captions((name,), round(share * len(shown)), 14) for name, shown in line]
        head = np.full((max(map(len, heads)), row.shape[1], 3), 255, np.uint8)
        left = 0
        for one in heads:
            head[: len(one), left : left + one.shape[1]] = one[:, : head.shape[1] - left]
            left += one.shape[1]
        sheets += [head, row]
    return Picture(np.concatenate(sheets))


def influence(net, params, state, images, *, at: tuple[int, int] | None = None) -> np.ndarray:
    """How much each pixel of the image moves one pixel of the output: its receptive field, measured, (H, W).

        the mean over images, their channels and the output's channels o of |d y[o, row, column] / d x|

    Args:
        net, params, state: a network, which is run in evaluation.
        images: (N, channels, H, W), of the parameters' dtype.
        at: row and column of the output's pixel; by default the middle.

    Raises:
        ValueError: there is no such pixel, the output is not finite, it is no network, params or state are no
            dicts, or the images are no such array.
    """
    check_network("influence", net)
    check_arrays("influence", params, state)
    check_nchw("influence", images=floats("influence", images=images)[0])
    vjp, y = make_vjp(lambda x: net(params, state, x, train=False, rng=None)[0])(images)
    if not np.isfinite(y).all():
        raise ValueError("influence: the network's output is not finite; are its parameters and images?")
    middle = y.shape[2] // 2, y.shape[3] // 2
    at = middle if at is None else at
    wanted = f"a row and a column of {y.shape[2:]} pixels"
    places = check.numbers("influence", wanted, at)
    whole = places.shape == (2,) and places.dtype.kind in "ui"
    if not whole or not all(-side <= place < side for place, side in zip(at, y.shape[2:])):
        raise ValueError(f"influence: expected {wanted}, got {check.came(at)}")
    row, column = at
    each = []
    for o in range(y.shape[1]):  # apart: the outputs of two classes may cancel each other
        g = np.zeros_like(y)
        g[:, o, row, column] = 1
        each.append(np.abs(vjp(g)).mean(axis=(0, 1)))  # (N, channels, H, W) -> (H, W)
    return np.mean(each, axis=0)


def receptive_field(net, params, state, images, *, at: tuple[int, int] | None = None) -> Picture:
    """The picture of `influence`, on a scale of powers of ten: white is most, black a 10,000th or less.

    Arguments are those of `influence`.
    """
    seen = influence(net, params, state, images, at=at)
    with np.errstate(divide="ignore"):
        level = 1 + np.log10(seen / (seen.max() or 1)) / 4
    return Picture(_enlarged(grey(np.clip(level, 0, 1))))


def threshold_slider(data, p, *, marks: Mapping[str, float] | None = None, most: int = 6) -> Page:
    """Images of two classes with a slider for the threshold, which moves the mask and its Dice.

    Args:
        data: a `Dataset` of two classes.
        p: the probabilities of its images, (N, 1, H, W).
        marks: thresholds by name, each with a button; by default 0.5.
        most: how many images at most.

    Raises:
        ValueError: there are no images, not two classes, the probabilities are not theirs, or a mark is no
            number.
    """
    check.dataset("threshold_slider", data, most)
    if data.classes != 2:
        raise ValueError(f"threshold_slider: expected two classes, got {data.classes}; `panel` shows them")
    p = check.probabilities("threshold_slider", data, p, most)
    marks = check.thresholds("threshold_slider", {"0.5": 0.5} if marks is None else marks)
    count = min(most, len(data))
    shown = [Shown(data.names[i], data.images[i].mean(axis=0), p[i][0], data.labels[i]) for i in range(count)]
    return Page(page("Threshold", [slider(shown, marks), GROW]))


def _outlined(image, truth, prediction) -> np.ndarray:
    picture = grey(visible(np.asarray(image)))
    for mask, colour in ((truth, TRUTH), (prediction, PREDICTION)):
        if mask is not None:
            picture[pictures.edge((np.asarray(mask) != 0) & (np.asarray(mask) != UNLABELLED))] = colour
    return picture


def _enlarged(picture: np.ndarray, side: int = 384) -> np.ndarray:
    factor = max(1, side // max(picture.shape[:2]))
    return picture.repeat(factor, axis=0).repeat(factor, axis=1)
