import pytest
from hypothesis import given
from hypothesis import strategies as st

from ledger.identifiers import AETitle, Digest, Uid

components = st.one_of(st.just("0"), st.from_regex(r"[1-9][0-9]{0,8}", fullmatch=True))
uids = st.lists(components, min_size=2, max_size=6).map(".".join)
titles = (
    st.text(
        st.characters(min_codepoint=0x20, max_codepoint=0x7E, exclude_characters="\\"),
        min_size=1,
        max_size=16,
    )
    .map(str.strip)
    .filter(bool)
)


@given(uids, st.sampled_from(["", "\0", " "]))
def test_a_uid_survives_its_text_with_and_without_padding(text: str, padding: str) -> None:
    uid = Uid.parse(text + padding)
    assert str(uid) == text
    assert Uid.parse(str(uid)) == uid


@given(titles, st.sampled_from(["", " ", "   "]))
def test_an_ae_title_survives_its_text_and_its_outer_spaces_do_not_count(text: str, padding: str) -> None:
    title = AETitle.parse(padding + text + padding)
    assert str(title) == text
    assert AETitle.parse(str(title)) == title


@given(st.binary(min_size=32, max_size=32))
def test_a_digest_survives_its_text(content: bytes) -> None:
    found = Digest.parse(content.hex())
    assert Digest.parse(str(found)) == found


@pytest.mark.parametrize(
    "text",
    ["", "1", "1.", ".1", "1..2", "1.02", "01.2", "1.a", "../../etc/passwd", "1.2\n", "1" + ".1" * 32, "1.٣"],
)
def test_what_is_no_uid_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a DICOM UID"):
        Uid.parse(text)


@pytest.mark.parametrize("text", ["", "   ", "A" * 17, "A\\B", "A\nB", "Ä"])
def test_what_is_no_ae_title_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not an AE title"):
        AETitle.parse(text)


@pytest.mark.parametrize("text", ["", "a" * 63, "a" * 65, "A" * 64, "g" * 64])
def test_what_is_no_digest_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="is not a SHA-256 digest"):
        Digest.parse(text)
