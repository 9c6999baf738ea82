"""Whatever a secret's value is and however it is spelled and cut, nothing of it is shown."""

from __future__ import annotations

import base64
import html
import json
import os
from collections.abc import Callable
from urllib.parse import quote, quote_plus

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from runner.masking import MASK, Mask

VALUES = st.text(
    st.characters(min_codepoint=32, max_codepoint=0x2FF, exclude_categories=["Cs"]),
    min_size=8,
    max_size=40,
).filter(lambda value: value == value.strip() and MASK not in value)
AROUND = st.text("xyz .:\n", max_size=9)
SPELLINGS: dict[str, Callable[[str], str]] = {
    "plain": str,
    "repr": lambda value: repr(value)[1:-1],
    "json": lambda value: json.dumps(value)[1:-1],
    "json in utf-8": lambda value: json.dumps(value, ensure_ascii=False)[1:-1],
    "html": html.escape,
    "url": quote,
    "url, whole": lambda value: quote(value, safe=""),
    "form": quote_plus,
}


@pytest.mark.parametrize("spelling", SPELLINGS)
@settings(max_examples=50)
@given(value=VALUES, before=AROUND, after=AROUND, data=st.data())
def test_no_spelling_is_shown_however_it_is_cut(
    spelling: str, value: str, before: str, after: str, data: st.DataObject
) -> None:
    spelled = SPELLINGS[spelling](value)
    shown = _in_pieces(Mask([value]), before + spelled + after, data)
    assert spelled not in shown
    assert MASK in shown


@pytest.mark.parametrize("encode", [base64.b64encode, base64.urlsafe_b64encode])
@settings(max_examples=50)
@given(value=VALUES, before=AROUND, after=AROUND, data=st.data())
def test_base64_of_text_that_holds_a_value_does_not_decode_to_it(
    encode: Callable[[bytes], bytes],
    value: str,
    before: str,
    after: str,
    data: st.DataObject,
) -> None:
    whole = encode((before + value + after).encode()).decode()
    shown = _in_pieces(Mask([value]), whole, data)
    assert MASK in shown
    # What is left are the characters that also depend on what stands beside the value.
    left = sum(len(piece) for piece in shown.split(MASK))
    beside = len(encode((before + after).encode()))
    assert left <= beside + 8


@settings(max_examples=50)
@given(value=VALUES, before=AROUND, after=AROUND, data=st.data())
def test_a_file_of_utf_8_is_masked_as_text_is(
    value: str, before: str, after: str, data: st.DataObject
) -> None:
    content = (before + value + after).encode()
    cuts = sorted(data.draw(st.lists(st.integers(0, len(content)), max_size=5)))
    stream = Mask([value]).byte_stream()
    pieces = [content[a:b] for a, b in zip([0, *cuts], [*cuts, len(content)], strict=True)]
    shown = b"".join(map(stream.feed, pieces)) + stream.flush()
    assert shown == (before + MASK + after).encode()
    assert stream.found


def test_pictures_and_other_encoded_bytes_are_left_alone() -> None:
    mask = Mask(["password", "hunter2!", "a-longer-value-of-a-token"])
    picture = base64.b64encode(os.urandom(1 << 20)).decode()
    assert mask(picture) == picture


def _in_pieces(mask: Mask, text: str, data: st.DataObject) -> str:
    """What a stream shows of a text that comes in any pieces."""
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    stream = mask.stream()
    pieces = [text[a:b] for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)]
    return "".join(map(stream.feed, pieces)) + stream.flush()
