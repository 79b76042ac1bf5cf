"""A trained network as one .npz: every array under its own name, and all else as JSON. No pickle.

All else is the preprocessing, and the architecture if it is a `DilatedFCN`: whoever has the file needs
nothing more to use it. A network of your own is Python code, and a file never says what code to run. So the
file holds its arrays alone, and `load(path, net)` wants the network.
"""

from __future__ import annotations

import json
import re
from dataclasses import asdict, fields, is_dataclass
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.errors import InputError, brief
from tinyseg.io.files import write_whole
from tinyseg.io.masks import Meaning
from tinyseg.io.npz import json_in, packed, read_arrays
from tinyseg.io.preprocessing import Preprocessing
from tinyseg.layers import BatchNorm, Block, Conv2d, InstanceNorm, prefixed
from tinyseg.networks import DilatedFCN

VERSION = 4
ABOUT = "tinyseg"  # the entry that holds the JSON
MOST_LETTERS = 2**18  # of the JSON
TAKEN = {ABOUT, "file", "allow_pickle"}  # np.savez takes the last two for arguments of its own


def save(path: str | Path, net: Any, params: dict, state: dict, preprocessing: Preprocessing) -> None:
    """Write network, parameters, running statistics and preprocessing to `path`, whole or not at all.

    Raises:
        InputError: the place cannot be written to.
        ValueError: the arrays are not the network's, or a name or their size is beyond what a file may have,
            or the preprocessing makes images that are not the network's; the message names what.
    """
    if found := mismatch(net, params | state) or _misfit(net, preprocessing):
        raise ValueError(f"save: {found}")
    about = {"version": VERSION, "kind": type(net).__name__, "network": architecture(net)}
    about["description"] = description(net)
    about["preprocessing"] = asdict(preprocessing)
    write_whole(path, packed({ABOUT: np.array(json.dumps(about)), **params, **state}))


def load(path: str | Path, net: Any = None) -> tuple[Any, dict, dict, Preprocessing]:
    """Read (net, params, state, preprocessing) as `save` wrote them.

    Args:
        path: the file.
        net: the network, if it is one of your own; of a `DilatedFCN` the file knows the architecture.

    Raises:
        InputError: no such file, not a tinyseg model, truncated, too large, of another version or another
            network, or an array that is missing, of no use, of another shape or dtype, or not finite; the
            message names it.
    """
    arrays, about = _read(path)
    kind, described = about.get("kind"), about.get("network")
    if described is None and net is None:
        raise InputError(
            f"{path}: holds a network of the kind {brief(kind)}, and a file never says what code to run; "
            f"make that network and call load(path, net)"
        )
    if net is not None and (kind != type(net).__name__ or (described is None) != (architecture(net) is None)):
        raise InputError(f"{path}: expected a network of the kind {type(net).__name__}, got {brief(kind)}")
    try:
        how = about["preprocessing"]
        preprocessing = _built(Preprocessing, how | {"masks": _built(Meaning, how["masks"])})
        if described is not None:
            saved = _built(DilatedFCN, described)
            if net is not None and net != saved:
                raise ValueError(f"it is {saved}, expected {net}")
            if kind != type(saved).__name__:
                raise ValueError(f"kind: expected {type(saved).__name__}, got {kind!r}")
            net = net or saved
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError, RecursionError) as error:
        raise InputError(f"{path}: its network cannot be built ({brief(error)})") from None
    found = mismatch(net, arrays) or _misfit(net, preprocessing)
    if not found and about.get("description") not in (None, description(net)):
        found = f"expected {description(net)}, got {about['description']}"
    if found:
        raise InputError(f"{path}: {brief(found)}")
    ours = ({name: arrays[name] for name in names} for names in shapes(net))
    return net, *ours, preprocessing


def architecture(net) -> dict | None:
    """Every hyper-parameter of a `DilatedFCN` by its name; None of a network of another kind."""
    if type(net) is not DilatedFCN:  # a subclass may do anything
        return None
    return {field.name: getattr(net, field.name) for field in fields(net) if field.compare}


def description(net) -> str | None:
    """A dataclass's fields in words, to tell one network from another; None of a network of another kind."""
    if not is_dataclass(net):
        return None
    return re.sub(r" at 0x\w+|[\w.<>]+\.(?=\w+( object|\())", "", repr(net))  # no addresses, no modules


def _read(path) -> tuple[dict, dict]:
    """(arrays, about): all that is in the file."""
    arrays = read_arrays(path)
    try:
        about = json_in(arrays.pop(ABOUT), MOST_LETTERS, parse_constant=_refuse)
        version = about["version"]
    except (KeyError, ValueError, TypeError):
        raise InputError(f"{path}: an .npz file, but not a tinyseg model") from None
    if version != VERSION:
        raise InputError(f"{path}: of format version {brief(version)}; this tinyseg reads version {VERSION}")
    return arrays, about


def _refuse(constant: str):
    raise ValueError(f"{constant} is no JSON")


def _built(kind, values: dict):
    """A dataclass of this kind: every field by its name, so that none is filled in by today's default."""
    names = {field.name for field in fields(kind) if field.compare}
    if odd := sorted(names ^ set(values)):
        raise ValueError(f"{odd[0]} is {'missing' if odd[0] in names else 'unknown'}")
    built = kind(**values)
    for name in sorted(names):  # what the class takes for a bool, say, need not be one
        got, ours = (json.dumps(value, default=asdict) for value in (values[name], getattr(built, name)))
        if got != ours:
            raise ValueError(f"{name}: expected {ours}, as `save` writes it, got {got}")
    return built


def _misfit(net, preprocessing: Preprocessing) -> str | None:
    """What keeps this preprocessing from being the network's, in words; None if nothing does."""
    if not isinstance(preprocessing, Preprocessing):
        return f"expected a Preprocessing, got {preprocessing!r}"
    channels, classes = getattr(net, "channels", None), getattr(net, "classes", None)
    if channels not in (None, preprocessing.channels):
        return f"preprocessing makes {preprocessing.channels} channels, the network takes {channels}"
    if classes not in (None, len(preprocessing.masks.values)):
        return f"preprocessing has {len(preprocessing.masks.values)} classes, the network {classes}"
    return None


def mismatch(net, arrays: dict) -> str | None:
    """What keeps these arrays from being the network's, in words; None if nothing does."""
    if type(net) is DilatedFCN and len(net.dilations) + len(net.widths) > len(arrays):  # so many take long
        return f"{len(arrays)} arrays are too few for {len(net.dilations)} + {len(net.widths)} blocks"
    params, state = shapes(net)
    expected = params | state
    if clash := (TAKEN | (params.keys() & state.keys())) & expected.keys():
        return f"the key {sorted(clash)[0]!r} is not free"
    for name in sorted(arrays.keys() ^ expected.keys()):
        return f"array {name!r} is {'not of this network' if name in arrays else 'missing'}"
    for name, array in arrays.items():
        array, (dtype, shape) = np.asarray(array), expected[name]
        if array.shape != shape or array.dtype != dtype:
            return f"{name} should be {dtype} {shape}, is {array.dtype} {array.shape}"
        if not np.isfinite(array).all():
            return f"{name} holds a NaN or an infinity"
        if name in state and name.rpartition(".")[2] == "variance" and (array < 0).any():
            return f"{name} is negative"
    return None


def shapes(net: Any) -> tuple[dict, dict]:
    """(params, state) of a network: (dtype, shape) of each array by its name, in the order of `init`.

    Those of a `DilatedFCN` follow from its fields, which may come from a stranger's file: no array is made.
    """
    if type(net) is DilatedFCN:
        return _shapes(net.layers)
    made = [
        {name: (np.asarray(array).dtype, np.shape(array)) for name, array in arrays.items()}
        for arrays in net.init(np.random.default_rng(0))
    ]
    return made[0], made[1]


def _shapes(layers: dict[str, Any]) -> tuple[dict, dict]:
    params: dict = {}
    state: dict = {}
    float32 = np.dtype(np.float32)
    for name, layer in layers.items():
        its_params: dict = {}
        its_state: dict = {}
        if isinstance(layer, Block):
            its_params, its_state = _shapes({"conv": layer.conv, "norm": layer.norm})
        elif isinstance(layer, Conv2d):
            kernel = (layer.kernel, layer.kernel)
            its_params["weight"] = float32, (layer.out_channels, layer.in_channels, *kernel)
            its_params["bias"] = float32, (layer.out_channels,)
        elif isinstance(layer, BatchNorm | InstanceNorm):
            its_params = dict.fromkeys(("gamma", "beta"), (float32, (layer.channels,)))
            its_state = dict.fromkeys(("mean", "variance") if layer.running else (), its_params["beta"])
        params |= prefixed(its_params, name)
        state |= prefixed(its_state, name)
    return params, state
