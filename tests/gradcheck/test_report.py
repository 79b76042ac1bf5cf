"""A report is a table with notes below it; of several runs of an array the row that says most is kept."""

import pytest

from tinyseg.gradcheck.report import KINK, RIGHT, VACUOUS, WRONG, Report, Row, merged


def row(verdict=RIGHT, error=1e-9, name="x", run="", note=""):
    return Row(name, (4, 5), run, "20 entries", "(2, 1)", 0.5, 0.25, error, verdict, note)


def test_a_report_passes_if_no_row_is_wrong():
    assert Report((row(), row(KINK), row(VACUOUS))).passed
    assert not Report((row(), row(WRONG))).passed


def test_a_report_is_a_table_with_notes_below():
    wrong = row(WRONG, 0.5, "weights", note="weights at index (2, 1): twice as large.")
    lines = str(Report((row(KINK, 0.5), row(), wrong), ("note: first digits",))).splitlines()
    assert lines == [
        "name     shape   checked     worst at  autograd      numerical     error",
        "x        (4, 5)  20 entries  (2, 1)    5.000000e-01  2.500000e-01  -        kink",
        "x        (4, 5)  20 entries  (2, 1)    5.000000e-01  2.500000e-01  1.0e-09  right",
        "weights  (4, 5)  20 entries  (2, 1)    5.000000e-01  2.500000e-01  5.0e-01  WRONG",
        "weights at index (2, 1): twice as large.",
        "note: first digits",
    ]


def test_what_a_layer_was_called_with_has_a_column_if_any_row_knows_it():
    lines = str(Report((row(run="train, 2 images"), row()))).splitlines()
    assert [line[:39] for line in lines] == [
        "name  shape   run              checked ",
        "x     (4, 5)  train, 2 images  20 entri",
        "x     (4, 5)                   20 entri",
    ]


def test_a_row_under_another_name_has_it_in_its_note_once():
    renamed = row(note="x at index (2, 1): x is wrong").renamed("y")
    assert (renamed.name, renamed.note) == ("y", "y at index (2, 1): x is wrong")


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (row(RIGHT, 1e-9), row(VACUOUS, 0.5)),
        (row(KINK, 0.1), row(RIGHT, 0.5)),
        (row(WRONG, 0.1), row(KINK, 0.5)),
        (row(RIGHT, 1e-7), row(RIGHT, 1e-9)),
    ],
)
def test_of_two_rows_the_one_that_says_more_is_kept(one, other):
    assert merged([one, other]) == merged([other, one]) == [one]


def test_of_rows_that_say_the_same_the_first_is_kept_and_each_array_has_its_own():
    first, second = row(run="train, 2 images"), row(run="evaluate, 2 images")
    assert merged([first, row(name="y"), second]) == [first, row(name="y")]
