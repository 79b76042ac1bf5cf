"""What a check found: a row for each array, a verdict for each row, and sentences for what is wrong."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace

RIGHT, KINK, VACUOUS, WRONG = "right", "kink", "vacuous", "WRONG"
RANK = {VACUOUS: 0, RIGHT: 1, KINK: 2, WRONG: 3}  # how much a verdict says


class GradientError(AssertionError):
    """A gradient is wrong, or the function cannot be trusted with its arguments; the message says which."""


@dataclass(frozen=True)
class Row:
    """One array's check: the worst place, both derivatives there, and the verdict.

    The verdict is one of four words:
        right: both agree.
        kink: the function has a corner here, such as relu at 0, and the gradient lies between its slopes.
        vacuous: both are 0 everywhere, or too small for rounding to tell. This row has checked nothing.
        WRONG: they disagree.
    """

    name: str
    shape: tuple[int, ...]
    run: str  # what a layer was called with: "train, 2 images"
    checked: str  # "12 entries" or "4 directions"
    worst: str  # an index, or which direction
    autograd: float
    numerical: float
    error: float  # |autograd - numerical|, relative to the larger of the two
    verdict: str
    note: str = ""  # one sentence about what is wrong

    @property
    def passed(self) -> bool:
        return self.verdict != WRONG

    def renamed(self, name: str) -> Row:
        """The same under another name, in its note too."""
        return replace(self, name=name, note=self.note.replace(self.name, name, 1))


@dataclass(frozen=True, repr=False)
class Report:
    """The rows of a check; `str` lays them out as a table, with notes below it."""

    rows: tuple[Row, ...]
    notes: tuple[str, ...] = ()

    @property
    def passed(self) -> bool:
        return all(row.passed for row in self.rows)

    def __repr__(self):
        verdicts = Counter(row.verdict for row in self.rows)
        return f"Report({', '.join(f'{count} {verdict}' for verdict, count in verdicts.items())})"

    def table(self) -> tuple[list[str], list[list[str]]]:
        """The heads of the columns, and a row of texts for each of `rows`."""
        heads, rows = (
            ["name", "shape", "run", "checked", "worst at", "autograd", "numerical", "error", ""],
            [],
        )
        for row in self.rows:
            error = "-" if row.verdict in (VACUOUS, KINK) else f"{row.error:.1e}"
            values = [f"{row.autograd:.6e}", f"{row.numerical:.6e}", error]
            rows.append([row.name, str(row.shape), row.run, row.checked, row.worst, *values, row.verdict])
        if not any(row.run for row in self.rows):
            heads, *rows = ([*line[:2], *line[3:]] for line in (heads, *rows))
        return heads, rows

    def __str__(self):
        heads, rows = self.table()
        widths = [max(map(len, column)) for column in zip(heads, *rows)]
        lines = ["  ".join(map(str.ljust, line, widths)).rstrip() for line in (heads, *rows)]
        return "\n".join([*lines, *(row.note for row in self.rows if row.note), *self.notes])


def merged(rows: list[Row]) -> list[Row]:
    """Of the rows of one array, the one that says most: a wrong one, else a kink, else the largest error."""
    worst: dict[str, Row] = {}
    for row in rows:
        other = worst.get(row.name)
        if other is None or (RANK[row.verdict], row.error) > (RANK[other.verdict], other.error):
            worst[row.name] = row
    return list(worst.values())
