"""The figures of the cards: the formula, the tables, and their places."""

import pytest

from benchmarks.measured import Agreement, Measured, NoPlace, Table, agreement, blocks, put

#: Peak expiratory flow in l/min, first measurements of 17 people with the Wright and the mini Wright meter:
#: Bland and Altman, Lancet 1986; 327: 307-310, table I.
WRIGHT = (494, 395, 516, 434, 476, 557, 413, 442, 650, 433, 417, 656, 267, 478, 178, 423, 427)
MINI = (512, 430, 520, 428, 500, 600, 364, 380, 658, 445, 432, 626, 260, 477, 259, 350, 451)

CARD = """# thing 1.0.0

<!-- measured: volume -->
old
<!-- /measured -->

Prose.

<!-- measured: real -->
as it was
<!-- /measured -->
"""


def table(name: str = "volume", **more) -> Table:
    given = {
        "title": "Volumes",
        "columns": ("of", "ml"),
        "rows": (("lung", 2500.04),),
        "command": "python -m x",
    }
    return Table(name=name, **{**given, **more})


def test_the_agreement_is_that_of_bland_and_altmans_own_example() -> None:
    agreed = agreement(WRIGHT, MINI)

    assert agreed.n == 17
    assert round(agreed.bias, 1) == -2.1
    assert round((agreed.high - agreed.low) / 2 / 1.96, 1) == 38.8
    # The paper takes 2 standard deviations for 1.96, and has -79.7 to 75.5.
    assert (round(agreed.low, 1), round(agreed.high, 1)) == (-78.1, 73.9)


@pytest.mark.parametrize(
    ("measured", "truth"), [((), ()), ((1,), (1,)), ((1, float("nan")), (1, 2))], ids=str
)
def test_too_little_agrees_with_nothing(measured, truth) -> None:
    with pytest.raises(ValueError, match="no agreement"):
        agreement(measured, truth)


def test_values_without_their_truth_are_no_pairs() -> None:
    with pytest.raises(ValueError, match="shorter"):
        agreement((1, 2, 3), (1, 2))


def test_an_agreement_is_shown_with_its_signs_and_unit() -> None:
    agreed = Agreement(n=12, bias=-3.21, low=-8.0, high=1.58)

    assert agreed.cells("ml") == ("12", "-3.2 ml", "-8.0 to +1.6 ml")
    assert agreed.cells(digits=2) == ("12", "-3.21", "-8.00 to +1.58")


def test_a_table_names_the_command_that_measured_it() -> None:
    assert table(note="Two are few.").markdown().splitlines() == [
        "**Volumes**",
        "",
        "| of | ml |",
        "|---|---|",
        "| lung | 2500 |",
        "",
        "Two are few.",
        "Measured by `python -m x`.",
    ]


def test_a_row_that_is_too_short_makes_no_table() -> None:
    with pytest.raises(ValueError, match="a row has 1 cells, not 2"):
        table(rows=(("lung",),))


def test_what_was_measured_goes_to_its_place_and_the_rest_stays() -> None:
    written = put(CARD, {"volume": table()})

    assert dict(blocks(written)) == {"volume": table().markdown(), "real": "as it was\n"}
    assert written.startswith("# thing 1.0.0\n\n<!-- measured: volume -->\n**Volumes**")
    assert "\n\nProse.\n\n" in written
    assert put(written, {"volume": table()}) == written


def test_a_table_without_a_place_is_named() -> None:
    with pytest.raises(NoPlace, match="no place for the table density"):
        put(CARD, {"density": table("density")})


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        (CARD.replace("<!-- /measured -->\n\nProse", "Prose"), "a beginning and an end"),
        (CARD.replace("<!-- measured: volume -->\n", ""), "a beginning and an end"),
        (CARD.replace("measured: real", "measured: volume"), "two places for the table volume"),
    ],
    ids=["no end", "no beginning", "twice"],
)
def test_marks_that_are_not_in_pairs_are_refused(broken, says) -> None:
    with pytest.raises(NoPlace, match=says):
        put(broken, {})


def test_a_table_on_real_images_knows_what_is_absent(tmp_path) -> None:
    (tmp_path / "here").mkdir()
    one = Measured(name="real", title="t", columns=("a",), rows=list, needs=("here", "away"))

    assert one.absent(tmp_path) == ["away"]
