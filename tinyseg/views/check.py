"""What the views ask of their arguments: one error says what was expected, what came, and the way out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np

from tinyseg.data.dataset import Dataset
from tinyseg.errors import is_whole


def came(value) -> str:
    """A value in a few words, for an error."""
    if isinstance(value, np.ndarray):
        return f"{value.dtype} {value.shape}"
    said = repr(value)
    return said if len(said) <= 60 and "\n" not in said else type(value).__name__


def whole(who: str, most) -> None:
    """`most`, how many to show, is a whole number."""
    if not is_whole(most):
        raise ValueError(f"{who}: expected most as a whole number of at least 1, got {came(most)}")


def dilations(who: str, value) -> tuple[int, ...]:
    """Whole dilations, as Python's integers: those of NumPy may be too short for what is computed of them."""
    if not isinstance(value, Sequence | np.ndarray) or not len(value) or not all(map(is_whole, value)):
        raise ValueError(f"{who}: expected a tuple of whole dilations of at least 1, got {came(value)}")
    return tuple(map(int, value))


def path(value, suffixes: Sequence[str]) -> Path:
    """A path whose name ends in one of the suffixes."""
    if not isinstance(value, str | Path) or Path(value).suffix.lower() not in suffixes:
        raise ValueError(f"save: expected a name that ends in {' or '.join(suffixes)}, got {came(value)}")
    return Path(value)


def numbers(who: str, what: str, value) -> np.ndarray:
    """The value as an array of bools, whole numbers or floats; `what` says in words what is expected."""
    try:
        array = np.asarray(value)
    except ValueError:  # rows of different lengths
        array = np.empty(0, object)
    if array.dtype.kind not in "buif":
        raise ValueError(f"{who}: expected {what}, got {came(value)}")
    return array


def thresholds(who: str, marks) -> dict[str, float]:
    """Thresholds by name, each a number."""
    what = 'marks, thresholds by name such as {"best": 0.38}'
    if not isinstance(marks, Mapping) or not marks:
        raise ValueError(f"{who}: expected {what}, got {came(marks)}")
    return {str(name): threshold(who, what, at) for name, at in marks.items()}


def threshold(who: str, what: str, value) -> float:
    """The value as a finite float."""
    array = numbers(who, what, value)
    if array.shape != () or not np.isfinite(array):
        raise ValueError(f"{who}: expected {what}, got {came(value)}")
    return float(array)


def maps(who: str, features, image) -> None:
    """Arrays (N, channels, H, W) by name, and the number of one of the N images."""
    if not isinstance(features, Mapping) or not features:
        what = "maps by name, as net.features(params, state, x) gives them"
        raise ValueError(f"{who}: expected {what}, got {came(features)}")
    for name, maps in features.items():
        what = "an array (N, channels, H, W) of numbers"
        if not isinstance(maps, np.ndarray) or maps.ndim != 4 or not maps.size:
            raise ValueError(f"{who}: {name}: expected {what}, got {came(maps)}")
        numbers(f"{who}: {name}", what, maps)
        whole = isinstance(image, int | np.integer) and not isinstance(image, bool)
        if not whole or not -len(maps) <= image < len(maps):
            raise ValueError(f"{who}: {name}: expected an image from 0 to {len(maps) - 1}, got {came(image)}")


def dataset(who: str, data, most) -> None:
    """A dataset with images."""
    whole(who, most)
    if not isinstance(data, Dataset):
        raise ValueError(f"{who}: expected a Dataset, got {came(data)}; Dataset(images, labels) makes one")
    if not len(data):
        raise ValueError(f"{who}: expected images to show, got none")


def probabilities(who: str, data: Dataset, p, most: int) -> list[np.ndarray]:
    """The probabilities of each image of a dataset as arrays of finite floats (channels, H, W)."""
    channels = 1 if data.classes == 2 else data.classes
    wanted = [(channels, *labels.shape) for labels in data.labels]
    what = f"probabilities {wanted[0]} for each of {len(wanted)} images, as `predict` gives them"
    if not (isinstance(p, list | tuple) or (isinstance(p, np.ndarray) and p.ndim)):
        raise ValueError(f"{who}: expected {what}, got {came(p)}")
    each = [numbers(who, f"{what}, floats", one) for one in p]
    if len(each) != len(wanted):
        raise ValueError(f"{who}: expected {what}, got {len(each)} of them")
    for k, (one, shape) in enumerate(zip(each, wanted)):
        if one.shape != shape:
            raise ValueError(f"{who}: expected {what}, got {one.shape} for image {k}, which needs {shape}")
    if not all(np.isfinite(one).all() for one in each[:most]):
        raise ValueError(f"{who}: expected {what}, finite, got infinite ones or NaN; has training diverged?")
    return each
