"""Four languages: every word of the console has its translation, with the same values in it."""

import re

import pytest

from console.web.words import LANGUAGES, Words, wanted
from tests.console.web.spoken import by_name, in_templates

OTHERS = [code for code in LANGUAGES if code != "en"]


@pytest.mark.parametrize("language", OTHERS)
def test_every_word_has_a_translation(language: str) -> None:
    words = Words()
    assert [text for text in sorted(in_templates() | by_name()) if not words.knows(language, text)] == []


@pytest.mark.parametrize("language", OTHERS)
def test_no_translation_is_left_over(language: str) -> None:
    assert sorted(set(Words().catalogue(language)) - in_templates() - by_name()) == []


@pytest.mark.parametrize("language", OTHERS)
def test_a_translation_has_the_values_of_its_text(language: str) -> None:
    for text, said in Words().catalogue(language).items():
        assert sorted(re.findall(r"{\w+}", said)) == sorted(re.findall(r"{\w+}", text)), text


@pytest.mark.parametrize(
    ("header", "language"),
    [
        ("de-CH, de;q=0.9, en;q=0.5", "de"),
        ("ja, fr;q=0.8, en;q=0.9", "en"),
        ("zh-Hans-CN", "zh"),
        ("", "en"),
        ("xx;q=no, , ;;;", "en"),
        ("de;q=0, fr", "fr"),
    ],
)
def test_the_browser_says_which_language(header: str, language: str) -> None:
    assert wanted(header) == language


def test_what_was_chosen_counts_more_than_what_the_browser_says() -> None:
    assert wanted("de", chosen="fr") == "fr"
    assert wanted("de", chosen="nonsense") == "de"
