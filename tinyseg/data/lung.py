"""Synthetic lung CT: slices in which diseased tissue is known by its texture, and only partly annotated.

Interstitial lung disease is read from patterns: a haze through which the vessels still show (ground glass),
a fine mesh (reticulation), clusters of air cysts with walls between them (honeycombing), lung as dense as
muscle (consolidation). Haze, mesh and honeycomb are alike on average, and consolidation is as bright as
the chest wall beside it, so that no pixel tells its class, nor does a blur. Radiologists who mark such
slices mark a part of them. So it is here: `lung_ct` knows what every pixel is, and `annotate` forgets most.

The recipe is our own, and no patient's data went into it.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from scipy.ndimage import distance_transform_edt, gaussian_filter
from scipy.spatial import cKDTree

from tinyseg.data.dataset import Dataset
from tinyseg.data.phantom import FIELD, check_numbers, ramp, ridge, texture
from tinyseg.ops import UNLABELLED

# Lengths are in pixels of an image of 64, and places are complex numbers, as in phantom.py.
CLASSES = ("outside", "healthy", "ground glass", "reticulation", "honeycombing", "consolidation")
OUTSIDE, HEALTHY, GROUND_GLASS, RETICULATION, HONEYCOMBING, CONSOLIDATION = range(len(CLASSES))
AIR, FAT, MUSCLE, BONE = -1000, -100, 45, 350  # Hounsfield units: air is -1000, water 0
BLACK, WHITE = -1050, 250  # the window that a picture shows
PATCHES = 4  # of tissue in each lung
CYST = 3.0  # from one cyst of a honeycomb to the next
BRUSH = 2.0, 4.5  # radius of a disc that is annotated
DISCS = 5, 3, 1  # so many in each lung, close to the lungs, and anywhere else
CLOSE = 8  # how near to the lungs


def oval(points: np.ndarray, centre: complex, half: complex) -> np.ndarray:
    """How far out each point lies: 0 at the centre, 1 on the ellipse with half-axes half.real, half.imag."""
    away = points - centre
    return np.hypot(away.real / half.real, away.imag / half.imag)


def wavy(points: np.ndarray, centre: complex, rng: np.random.Generator) -> np.ndarray:
    """A factor near 1 for the distance from the centre, that makes an ellipse's outline an organ's."""
    angle = np.angle(points - centre)
    return 1 + np.sum(
        [rng.normal(0, 0.022) * np.cos(k * angle + rng.uniform(0, 2 * np.pi)) for k in (2, 3, 4)], axis=0
    )


def chest(points: np.ndarray, rng: np.random.Generator) -> tuple[np.ndarray, list[np.ndarray]]:
    """(what lies outside the lungs, in Hounsfield units; two masks, one for each lung)."""
    shift, scale = complex(*rng.normal(0, 0.8, 2)), rng.uniform(0.93, 1.02)
    points = 32 + 32j + (points - 32 - 32j - shift) / scale
    skin = oval(points, 32 + 33j, 31 + 26j) * wavy(points, 32 + 33j, rng)
    level = np.full(points.shape, float(AIR))
    level[skin < 1] = FAT
    level[skin < rng.uniform(0.9, 0.96)] = MUSCLE
    for angle in np.arange(10) * (2 * np.pi / 10) + rng.uniform(0, 0.6):  # ribs, cut across
        rib = 32 + 33j + 27 * np.cos(angle) + 21.5j * np.sin(angle)
        level[oval(points, rib, 1.9 + 1.1j) < 1] = BONE
    level[oval(points, 32 + 50j, 4 + 3.6j) < 1] = BONE  # the spine
    heart = oval(points, 35 + 37j, 8 + 7.5j) * wavy(points, 35 + 37j, rng)
    middle = abs(points.real - 32) - 2.5 - 0.1 * abs(points.imag - 30)
    lungs = []
    for side in (-1, 1):
        centre = 32 + 13 * side + 32j
        lung = oval(points, centre, rng.uniform(11, 12.2) + 1j * rng.uniform(17, 19))
        lungs.append((lung * wavy(points, centre, rng) < 1) & (heart > 1.06) & (middle > 0))
    return level, lungs


def patches(points: np.ndarray, lung: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Which tissue fills each point of one lung: 0 elsewhere, else its class.

    Each of a few seeds claims what lies nearest; one is healthy, the others draw among all tissues. The
    map is bent before it is cut, so that no border is straight.
    """
    bent = points + 2.5 * (
        texture(points.imag, points.real, (4, 4), rng) + 1j * texture(points.imag, points.real, (4, 4), rng)
    )
    seeds = rng.choice(points[lung], PATCHES)
    tissue = rng.integers(HEALTHY, len(CLASSES), PATCHES)
    tissue[0] = HEALTHY
    return np.where(lung, tissue[abs(bent[..., None] - seeds).argmin(-1)], OUTSIDE)


def mesh(points: np.ndarray, grain: float, width: float, rng: np.random.Generator) -> np.ndarray:
    """Thin winding lines, 1 on a line and 0 between: where a smooth random field crosses zero."""
    field = texture(points.imag, points.real, (grain, grain), rng)
    down, across = np.gradient(field, FIELD / len(points))
    return ridge(field / np.hypot(down, across).clip(1e-3), width)


def comb(points: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """Walls between cysts, 1 on a wall and 0 in a cyst: where two of many centres are equally near."""
    flat = (
        0.87  # sin 60 degrees: a honeycomb's rows are nearer than the cells in a row; here cells are taller
    )
    places = np.arange(-CYST, FIELD + CYST, CYST)
    centres = places + 1j * places[:, None] * flat
    centres[1::2] += CYST / 2  # every other row set off, as in a honeycomb, ...
    centres = centres.ravel() + CYST * 0.16 * (rng.normal(size=(centres.size, 2)) @ [1, 1j])  # ... and jolted
    tree = cKDTree(np.stack([centres.real, centres.imag], -1))
    seen = np.stack([points.real, points.imag * flat], -1)  # (H, W, 2)
    near, next_near = np.moveaxis(tree.query(seen, 2)[0], -1, 0)  # distances, (H, W, 2) -> two of (H, W)
    return ramp(next_near - near - 0.75, 0.5)


def parenchyma(points: np.ndarray, rng: np.random.Generator) -> list[np.ndarray]:
    """Every lung tissue over the whole field in Hounsfield units, in the order of CLASSES from healthy on."""

    def cloud(grain, deviation):
        return deviation * texture(points.imag, points.real, (grain, grain), rng)

    air = rng.uniform(-880, -820)  # how deep the breath was
    lung = air + cloud(5, 22)
    vessels = 480 * (mesh(points, 4, 0.35, rng) * (cloud(2, 1) > 0.5))
    haze = rng.uniform(-640, -520) + cloud(4, 35) + cloud(0.8, 25)
    lines = np.maximum(mesh(points, 0.8, 0.3, rng), mesh(points, 1.1, 0.3, rng))
    bronchi = mesh(points, 1.8, 0.4, rng) * (cloud(2, 1) > -0.6)
    return [
        lung + vessels,
        haze + 0.7 * vessels,
        lung + rng.uniform(480, 620) * lines,
        rng.uniform(-960, -900) + rng.uniform(600, 720) * comb(points, rng),
        rng.uniform(-20, 60) + cloud(3, 25) - 700 * bronchi,
    ]


def ct(level: np.ndarray, rng: np.random.Generator) -> np.ndarray:
    """The picture on the screen, whole grey levels 0 to 255: a blur, noise, and the window."""
    zoom = len(level) / FIELD
    level = gaussian_filter(level, 0.3 * zoom)
    noise = gaussian_filter(rng.standard_normal(level.shape), 0.5)
    level = level + rng.uniform(20, 45) * noise / noise.std()
    return np.rint(255 * np.clip((level - BLACK) / (WHITE - BLACK), 0, 1))


def lung_ct(count: int, size: int = 96, seed: int = 0) -> Dataset:
    """`count` slices of a chest with patches of five tissues in its lungs, each its own subject.

    Slice i depends on `seed`, i and `size` alone, so lung_ct(5) is how lung_ct(10) begins.

    Returns:
        Dataset: images (count, 1, size, size) float32 in [0, 1], multiples of 1/255; labels
        (count, size, size) uint8, the place of each pixel's class in CLASSES.

    Raises:
        InputError: `count` below 1, `size` below 32 (a mesh finer than a pixel) or `seed` below 0.
    """
    check_numbers("lung_ct", count=(count, 1), size=(size, 32), seed=(seed, 0))
    axis = (np.arange(size) + 0.5) * (FIELD / size)
    points = axis + 1j * axis[:, None]
    images, labels = np.zeros((count, 1, size, size), np.float32), np.zeros((count, size, size), np.uint8)
    for i in range(count):
        rng = np.random.default_rng([seed, i])
        level, lungs = chest(points, rng)
        tissue = sum(patches(points, lung, rng) for lung in lungs)
        level = np.choose(tissue, [level, *parenchyma(points, rng)])
        images[i, 0], labels[i] = ct(level, rng) / 255, tissue
    names = tuple(f"lung_{i:04d}" for i in range(count))
    return Dataset(images, labels, names, names, CLASSES)


def annotate(data: Dataset, seed: int = 0) -> Dataset:
    """The same slices as if an expert had marked some places: UNLABELLED but for a few discs.

    A disc is thrown around a pixel and keeps what is of that pixel's class. Five fall into each half of the
    lungs; of those outside, most fall close to them, where muscle might be taken for diseased lung.
    """
    check_numbers("annotate", seed=(seed, 0))
    size = data.images.shape[-1]
    axis = (np.arange(size) + 0.5) * (FIELD / size)
    points = axis + 1j * axis[:, None]
    left = points.real < FIELD / 2
    labels = np.full_like(data.labels, UNLABELLED)
    for i, truth in enumerate(data.labels):
        rng = np.random.default_rng([seed, i])
        lung = truth != OUTSIDE
        close = ~lung & (distance_transform_edt(~lung) * (FIELD / size) < CLOSE)
        for place, discs in zip((lung & left, lung & ~left, close, ~lung), (DISCS[0], *DISCS)):
            for centre in rng.choice(np.flatnonzero(place), discs if place.any() else 0):
                disc = abs(points - points.flat[centre]) < rng.uniform(*BRUSH)
                labels[i][disc & (truth == truth.flat[centre])] = truth.flat[centre]
    return replace(data, labels=labels)
