"""A trained network as one .npz: every array under its own name, and all else as JSON. No pickle.

All else is the architecture and the preprocessing: whoever has the file needs nothing more to use it.
"""

from __future__ import annotations

import json
from dataclasses import asdict, fields, replace
from io import BytesIO
from pathlib import Path
from zipfile import is_zipfile

import numpy as np

from tinyseg.errors import InputError
from tinyseg.files import write_whole
from tinyseg.networks import DilatedFCN
from tinyseg.preprocessing import Preprocessing

VERSION = 2
ABOUT = "tinyseg"  # the entry that holds the JSON
BUILT = {DilatedFCN: "network", Preprocessing: "preprocessing"}  # what stands in it


def save(path: str | Path, net: DilatedFCN, params: dict, state: dict, preprocessing: Preprocessing) -> None:
    """Write network, parameters, running statistics and preprocessing to `path`, whole or not at all.

    Raises:
        InputError: the place cannot be written to.
        ValueError: the arrays are not the network's float32 arrays, or the preprocessing makes images that
            are not the network's; the message names what.
    """
    if found := flaw(net, params | state) or _misfit(net, preprocessing):
        raise ValueError(f"save: {found}")
    about = {"version": VERSION, "network": asdict(net), "preprocessing": asdict(preprocessing)}
    content = BytesIO()
    np.savez(content, **{ABOUT: np.array(json.dumps(about))}, **params, **state)
    write_whole(path, content.getvalue())


def load(path: str | Path) -> tuple[DilatedFCN, dict, dict, Preprocessing]:
    """Read (net, params, state, preprocessing) as `save` wrote them.

    Raises:
        InputError: no such file, not a tinyseg model, truncated, of another version, or an array that is
            missing, of no use, of another shape or dtype, or not finite; the message names it.
    """
    try:
        content = BytesIO(Path(path).read_bytes())
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({getattr(error, 'strerror', error)})") from None
    if not is_zipfile(content):
        raise InputError(f"{path}: not a whole .npz file (no zip archive, or its end is missing)")
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # what a damaged file sets off inside a decoder may be anything
        raise InputError(f"{path}: not a whole .npz file ({error})") from None
    try:
        about = json.loads(str(arrays.pop(ABOUT)))
        version = about["version"]
    except (KeyError, ValueError, TypeError, RecursionError):
        raise InputError(f"{path}: an .npz file, but not a tinyseg model") from None
    if version != VERSION:
        raise InputError(f"{path}: of format version {version}; this tinyseg reads version {VERSION}")
    try:
        net, preprocessing = (_built(kind, about[key]) for kind, key in BUILT.items())
        found = flaw(net, arrays) or _misfit(net, preprocessing)
    except (KeyError, TypeError, ValueError, OverflowError, MemoryError) as error:
        raise InputError(f"{path}: its network cannot be built ({error})") from None
    if found:
        raise InputError(f"{path}: {found}")
    params, state = net.init(np.random.default_rng(0))
    ours = ({name: arrays[name] for name in names} for names in (params, state))
    return net, *ours, preprocessing


def _built(kind, values: dict):
    """A dataclass of this kind: every field by its name, so that none is filled in by today's default."""
    names = {field.name for field in fields(kind)}
    if odd := sorted(names ^ set(values)):
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in names else 'unknown'}")
    return kind(**values)


def _misfit(net: DilatedFCN, preprocessing: Preprocessing) -> str | None:
    """What keeps this preprocessing from being the network's, in words; None if nothing does."""
    if preprocessing.channels != net.channels:
        return f"preprocessing makes {preprocessing.channels} channels, the network takes {net.channels}"
    if len(preprocessing.values) != net.classes:
        return f"preprocessing has {len(preprocessing.values)} classes, the network {net.classes}"
    return None


def flaw(net: DilatedFCN, arrays: dict) -> str | None:
    """What keeps these arrays from being the network's, in words; None if nothing does."""
    params, state = replace(net, weight_std=0.0).init(np.random.default_rng(0))
    expected = params | state
    for name in sorted(arrays.keys() ^ expected.keys()):
        return f"array {name!r} is {'not of this network' if name in arrays else 'missing'}"
    for name, array in arrays.items():
        want = expected[name]
        if array.shape != want.shape or array.dtype != want.dtype:
            return f"{name} should be {want.dtype} {want.shape}, is {array.dtype} {array.shape}"
        if not np.isfinite(array).all():
            return f"{name} holds a NaN or an infinity"
        if name.endswith("variance") and (array < 0).any():
            return f"{name} is negative"
    return None
