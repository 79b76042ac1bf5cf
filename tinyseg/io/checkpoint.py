"""All that a training needs to go on, as one .npz: arrays under numbers, and the rest as JSON. No pickle.

A checkpoint is a tree: dicts, lists and tuples of arrays, numbers, strings and None, as deep as they like.
What is read is what was written: arrays to the last bit, and whole numbers however long.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np

from tinyseg.errors import InputError, brief
from tinyseg.io.files import write_whole
from tinyseg.io.npz import json_in, packed, read_arrays

TREE = "tree"  # the entry that holds the JSON
MOST_LETTERS = 2**24  # of the JSON


def write_checkpoint(path: str | Path, tree: Any) -> None:
    """Write a tree to `path`, whole or not at all.

    Raises:
        InputError: the place cannot be written to; what was there before is there still.
        TypeError: something in the tree is none of the above.
        ValueError: it is larger than a file may be.
    """
    arrays: dict[str, np.ndarray] = {}
    described = json.dumps(_described(tree, arrays))
    write_whole(path, packed({TREE: np.array(described)} | arrays))


def read_checkpoint(path: str | Path) -> Any:
    """The tree that `write_checkpoint` wrote.

    Raises:
        InputError: no such file, or not a whole checkpoint.
    """
    arrays = read_arrays(path)
    try:
        return _rebuilt(json_in(arrays.pop(TREE), MOST_LETTERS), arrays)
    except (KeyError, TypeError, ValueError, AttributeError, RecursionError, MemoryError) as error:
        raise InputError(f"{path}: not a whole checkpoint ({brief(error)})") from None


def alike(tree: Any, like: Any, name: str = "state") -> None:
    """Check that a tree is built like another: the same keys, types and lengths, and arrays of equal shape.

    A list of one node, or of several, in `like` stands for any number of nodes like its first.

    Raises:
        TypeError: it is not; the message names the first place where.
    """
    if isinstance(like, list):
        like = like[:1] * (len(tree) if isinstance(tree, list | tuple) else 1)
    if (got := _kind(tree)) != (expected := _kind(like)):
        raise TypeError(f"{name}: expected {expected}, got {got}")
    if isinstance(like, dict):
        for key in like:
            alike(tree[key], like[key], key)
    elif isinstance(like, list | tuple):
        for one, other in zip(tree, like):
            alike(one, other, name)


def _kind(node) -> str:
    """What a node of a tree is, in words."""
    if isinstance(node, np.ndarray):
        return f"{node.dtype} {node.shape}"
    if isinstance(node, dict):
        return f"the keys {', '.join(sorted(map(str, node)))}"
    return f"a list of {len(node)}" if isinstance(node, list | tuple) else type(node).__name__


def _described(node, arrays: dict) -> Any:
    """The node as JSON, each array replaced by {"array": its name} and put into `arrays`."""
    if type(node) is dict:
        return {"dict": [[key, _described(value, arrays)] for key, value in node.items()]}
    if type(node) in (tuple, list):
        return {type(node).__name__: [_described(value, arrays) for value in node]}
    if isinstance(node, np.ndarray | np.generic) and not np.asarray(node).dtype.hasobject:
        name = str(len(arrays))
        arrays[name] = np.asarray(node)
        return {"array": name}
    if node is None or isinstance(node, bool | int | float | str):
        return node
    raise TypeError(f"a checkpoint holds no {type(node).__name__}")


def _rebuilt(node, arrays: dict) -> Any:
    """`_described` undone."""
    if not isinstance(node, dict):
        return node
    ((kind, content),) = node.items()
    if kind == "dict":
        return {key: _rebuilt(value, arrays) for key, value in content}
    if kind == "array":
        return arrays[content]
    return {"tuple": tuple, "list": list}[kind](_rebuilt(value, arrays) for value in content)
