"""A profile that cannot be is refused at the start, with a sentence that says what to write."""

import pytest
from pydantic import ValidationError

from dicom_node.peers import PeerSettings
from ledger.profile import PROFILES, complaint
from ledger.result import Role
from results.making import ENCODERS
from results.profile import series_number


def _peer(**settings: object) -> PeerSettings:
    return PeerSettings.model_validate(
        {"name": "PACS", "ae_title": "PACS", "host": "127.0.0.1", "port": 104, **settings}
    )


@pytest.mark.parametrize(
    ("profile", "sentence"),
    [
        ("osirix", "Input should be 'ohif', 'slicer', 'weasis', 'plain-pacs' or 'air'"),
        ({"like": "osirix"}, "Input should be 'ohif'"),
        ({"with": ("hologram",)}, "'hologram' is no kind; there are "),
        (
            {"with": ("rejection-note",)},
            "'rejection-note' is no kind; there are blending, document, key-images, ",
        ),
        ({"without": ("report",)}, "the report cannot be left out"),
        ({"with": ("overlay",), "without": ("segmentation",)}, "'overlay' without 'segmentation'"),
        ({"kinds": ("summary",)}, "'summary' without 'segmentation'"),
        ({"with": ("marks",), "without": ("marks",)}, "both in with and in without"),
        ({"transfer_syntax": "rle"}, "viewers do not read binary segmentations in RLE"),
        ({"instead": {"segmentation": ("binary",)}}, "there can be 'nothing', not 'binary'"),
        ({"instead": {"report": ("nothing",)}}, "there can be 'comprehensive' or 'enhanced', not 'nothing'"),
        ({"series_description": "{model} ({status})"}, 'has to say "AI"'),
        ({"series_description": "AI {model} {what}"}, 'has to say "not verified"'),
        ({"series_description": "AI {patient} not verified"}, "{patient} is not known"),
        ({"series_description": "AI {model!r} not verified"}, "is not known"),
        ({"series_description": "AI {model not verified"}, "is no template"),
        ({"series_description": "AI " + "x" * 60 + " {status}"}, "64 are allowed"),
        ({"series_description": "AI {what} nicht geprüft, not verified"}, "is not printable ASCII"),
        ({"segment_label": "AI"}, "has to hold {label}"),
        ({"frame_limit": 0}, "greater than or equal to 1"),
        ({"frames": 400}, "Extra inputs are not permitted"),
    ],
)
def test_what_cannot_be_is_refused_with_a_sentence(profile: object, sentence: str) -> None:
    with pytest.raises(ValidationError) as refused:
        _peer(profile=profile)
    assert len(refused.value.errors()) == 1
    assert sentence in str(refused.value)


@pytest.mark.parametrize("key", ["report_instead", "without_segmentation", "without_maps"])
def test_a_key_of_an_earlier_version_is_refused_with_the_line_to_write_now(key: str) -> None:
    with pytest.raises(ValidationError, match=rf"{key} is said by the profile now: write \[peer.profile"):
        _peer(**{key: True})


def test_without_a_word_a_peer_is_sent_what_ohif_shows() -> None:
    assert _peer().shows == PROFILES["ohif"]
    assert _peer(profile="weasis").shows.frame_limit == 400


def test_a_table_changes_what_it_names_and_nothing_else() -> None:
    shows = _peer(
        profile={
            "like": "plain-pacs",
            "with": ("structure-set",),
            "without": ("document",),
            "series_number": 7,
        }
    ).shows
    assert shows.kinds == PROFILES["plain-pacs"].kinds - {Role.DOCUMENT} | {Role.STRUCTURE_SET}
    assert series_number(shows, Role.REPORT) == 9
    assert shows.instead == PROFILES["plain-pacs"].instead
    assert _peer(profile={"segmentation": "labelmap"}).shows.instead[Role.SEGMENTATION] == ("binary",)


@pytest.mark.parametrize("profile", PROFILES.values(), ids=PROFILES.keys())
def test_every_kind_of_every_named_profile_can_be_made(profile) -> None:
    assert complaint(profile) == ""
    assert profile.kinds <= ENCODERS.keys()
    assert {Role.SEGMENTATION, Role.REPORT} <= profile.kinds


def test_series_numbers_of_two_roles_never_meet() -> None:
    shows = PROFILES["air"]
    firsts = [series_number(shows, role) for role in ENCODERS]
    assert len(set(firsts)) == len(firsts)
    assert all(9100 < number < 9200 for number in firsts)
