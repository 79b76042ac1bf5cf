"""The one error that is the user's to mend: a demo prints its line and ends with status 2."""

import numpy as np


class InputError(ValueError):
    """What came from outside cannot be used; the message names it, what was expected and what came."""


def is_whole(value) -> bool:
    """Whether it is a whole number of at least 1."""
    return isinstance(value, int | np.integer) and not isinstance(value, bool) and int(value) > 0


def listed(values, most: int = 5) -> str:
    """The first few of many values, for a message."""
    values = list(values)
    return ", ".join(map(str, values[:most])) + (f", ... ({len(values)} values)" if values[most:] else "")


def plural(count: int, what: str) -> str:
    """`1 image`, `2 images`."""
    return f"{count} {what}{'s' if count != 1 else ''}"


def brief(what, most: int = 600) -> str:
    """The first line of what something says of itself, for a message: a stranger's file may say much."""
    line = str(what).partition("\n")[0]
    return line if len(line) <= most else f"{line[:most]}..."
