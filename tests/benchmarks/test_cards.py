"""Cards and the tables that are measured for them fit together."""

import importlib.util
import re

import pytest

from benchmarks.measured import BUILTIN, ROOT, blocks, built_ins, tables_of


@pytest.mark.parametrize("model", built_ins())
def test_every_table_has_its_place_in_the_card_and_every_place_its_table(model) -> None:
    card = (BUILTIN / model / "CARD.md").read_text(encoding="utf-8")

    assert sorted(name for name, _ in blocks(card)) == sorted(one.name for one in tables_of(model))


@pytest.mark.parametrize("model", built_ins())
def test_every_table_in_a_card_was_measured_by_a_command_that_exists(model) -> None:
    card = (BUILTIN / model / "CARD.md").read_text(encoding="utf-8")

    for name, text in blocks(card):
        command = re.findall(r"^Measured by `python -m ([\w.]+)( [^`]*)?`\.$", text, re.MULTILINE)
        assert len(command) == 1, f"{name} was never measured, or says not by what"
        assert importlib.util.find_spec(command[0][0]) is not None, command[0][0]
        assert "|---|" in text


def test_the_page_of_evidence_says_when_and_by_what_it_was_written() -> None:
    page = (ROOT / "docs" / "evidence.md").read_text(encoding="utf-8")

    assert page.startswith("# Evidence: real images\n\nWritten by `make evidence` on 20")
    assert "A handful of patients gives no rates" in page
    tables = re.findall(r"^\|(?:---\|)+$", page, re.MULTILINE)
    assert len(tables) >= 4
    for heading in re.findall(r"^\|(.+)\|\n\|(?:---\|)+$", page, re.MULTILINE):
        assert all(cell.strip() for cell in heading.split("|")), heading


@pytest.mark.parametrize("page", ["README.md", "docs/models/builtin.md"])
def test_every_built_in_model_is_named_with_its_card(page) -> None:
    text = (ROOT / page).read_text(encoding="utf-8")

    assert [name for name in built_ins() if f"`{name}`" not in text] == []
    assert [name for name in built_ins() if f"models/builtin/{name}/CARD.md" not in text] == []
