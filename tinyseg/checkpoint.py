"""A trained network as one .npz: every array under its own name, and the architecture as JSON. No pickle."""

from __future__ import annotations

import json
from dataclasses import asdict
from io import BytesIO
from pathlib import Path

import numpy as np

from tinyseg.errors import InputError
from tinyseg.files import write_whole
from tinyseg.networks import DilatedFCN

VERSION = 1
ABOUT = "tinyseg"  # the entry that holds the JSON


def save(path: str | Path, net: DilatedFCN, params: dict, state: dict) -> None:
    """Write network, parameters and running statistics to `path`, whole or not at all.

    Raises:
        InputError: the place cannot be written to.
        ValueError: the arrays are not the network's float32 arrays; the message names one.
    """
    if flaw := _flaw(net, params | state):
        raise ValueError(f"save: {flaw}")
    about = json.dumps({"version": VERSION, "network": asdict(net)})
    content = BytesIO()
    np.savez(content, **{ABOUT: np.array(about)}, **params, **state)
    write_whole(path, content.getvalue())


def load(path: str | Path) -> tuple[DilatedFCN, dict, dict]:
    """Read (net, params, state) as `save` wrote them.

    Raises:
        InputError: no such file, not a tinyseg model, truncated, of a newer version, or an array that is
            missing, of no use, of another shape or dtype, or not finite; the message names it.
    """
    try:
        content = BytesIO(Path(path).read_bytes())
    except OSError as error:
        raise InputError(f"{path}: cannot be read ({error.strerror})") from None
    try:
        with np.load(content, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
    except Exception as error:  # what a damaged file sets off inside a decoder may be anything
        raise InputError(f"{path}: not a whole .npz file ({error})") from None
    try:
        about = json.loads(str(arrays.pop(ABOUT)))
        version, fields = about["version"], about["network"]
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{path}: an .npz file, but not a tinyseg model") from None
    if version != VERSION:
        raise InputError(f"{path}: of format version {version}; this tinyseg reads version {VERSION}")
    try:
        net = DilatedFCN(**fields)
        flaw = _flaw(net, arrays)
    except (TypeError, ValueError, MemoryError) as error:
        raise InputError(f"{path}: its network cannot be built ({error})") from None
    if flaw:
        raise InputError(f"{path}: {flaw}")
    params, state = net.init(np.random.default_rng(0))
    return net, {name: arrays[name] for name in params}, {name: arrays[name] for name in state}


def _flaw(net: DilatedFCN, arrays: dict) -> str | None:
    """What keeps these arrays from being the network's, in words; None if nothing does."""
    params, state = net.init(np.random.default_rng(0))
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
