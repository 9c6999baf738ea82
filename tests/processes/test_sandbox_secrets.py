"""Known secret values never reach a client, the journal or the notebook."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sandbox_process import SandboxProcess, sandbox

from runner.masking import MASK, SHORTEST, Mask
from runner.session import Session

SECRET = "s3cr3t-Value/with 'quotes'\"\\and + more"
OTHER = "hf_abcdefghijklmnop"
SHORT = "abc"


@pytest.fixture(scope="module")
def box(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SandboxProcess]:
    environ = {"FIRST": SECRET, "SECOND": OTHER, "THIRD": SHORT}
    top = tmp_path_factory.mktemp("secrets")
    with sandbox(top, environ, secrets=["FIRST", "SECOND", "THIRD", "UNSET"]) as made:
        yield made
        for path in top.rglob("*"):
            if path.is_file() and "kept" not in path.name:
                data = path.read_bytes()
                assert SECRET.encode() not in data, path
                assert OTHER.encode() not in data, path


@pytest.fixture(scope="module")
def session(box: SandboxProcess) -> Iterator[Session]:
    with box.session() as made:
        made.run("import os; first, second = os.environ['FIRST'], os.environ['SECOND']")
        yield made


def test_what_somebody_else_writes_down_can_be_masked(session: Session) -> None:
    said = {"a": [SECRET, {OTHER: f"x{OTHER}y"}, 3, None], "b": SHORT}
    assert session.masked(said) == {"a": [MASK, {MASK: f"x{MASK}y"}, 3, None], "b": SHORT}


def test_a_request_that_comes_again_out_of_a_masked_record_is_the_same(session: Session) -> None:
    first = session.run(f"print(len({OTHER!r}))", op="once")
    again = session.run(f"print(len({MASK!r}))", op="once")
    assert (first.text, again.text) == (f"{len(OTHER)}\n", first.text)


@pytest.mark.parametrize(
    "code",
    [
        "print(first, second)",
        "first",
        "[first, second]",
        "import json; print(json.dumps(first))",
        "import urllib.parse; print(urllib.parse.quote(first, safe=''))",
        "import urllib.parse; print(urllib.parse.quote(first), urllib.parse.quote_plus(first))",
        "import html; display({'text/html': f'<p>{html.escape(first)}'}, raw=True)",
        "for part in first: print(part, end='', flush=True)",
        "import time\nprint(second[:6], end='', flush=True); time.sleep(0.3); print(second[6:])",
        "import sys\nprint(second[:6], end='', file=sys.stderr, flush=True)\n"
        "print(second[6:], file=sys.stderr)",
        "raise ValueError(first)",
        "display({'text/plain': first, 'application/json': {first: [second]}}, raw=True)",
        f"x = {OTHER!r}; print(x)",
        """os.system('printf %s "$FIRST $SECOND"')""",
    ],
)
def test_cells(session: Session, code: str) -> None:
    result = session.run(code)
    told = str(result) + str(list(session.stream(result.op, timeout_s=10)))
    assert "s3cr3t" not in told
    assert OTHER not in told
    assert "abcdefghij" not in told
    assert MASK in told


def test_text_that_only_begins_like_a_secret_arrives_whole(session: Session) -> None:
    assert session.run("print('this is hf_', end='')").text == "this is hf_"
    assert session.run("print('hf', end='', flush=True); print(' no')").text == "hf no\n"


def test_shell(session: Session) -> None:
    result = session.shell(
        'echo $SECOND; printf hf_abcdefgh; sleep 0.3; printf ijklmnop >&1; printf %s "$FIRST" >&2'
    )
    assert OTHER not in str(result)
    assert "s3cr3t" not in str(result)
    assert result.text.count(MASK) == 3


def test_edits(session: Session) -> None:
    cell = session.run("value = 1").cell or ""
    edited = session.replace_cell(cell, f"value = '{OTHER}'")
    assert OTHER not in str(edited)
    assert MASK in edited.diff


def test_files(session: Session, box: SandboxProcess, tmp_path: Path) -> None:
    session.write_file("kept/kept.txt", f"a {OTHER} b\n".encode() * 3)
    assert session.read_file("kept/kept.txt") == b"a *** b\n" * 3
    session.download("kept", tmp_path)
    assert (tmp_path / "kept.txt").read_bytes() == b"a *** b\n" * 3
    assert session.run("print(open('kept/kept.txt').read())").text.count(MASK) == 3


def test_short_values_are_left_alone(session: Session) -> None:
    assert len(SHORT) < SHORTEST
    assert session.run("os.environ['THIRD']").text == "'abc'"


@given(st.data())
def test_pieces_hide_what_the_whole_hides(data: st.DataObject) -> None:
    """However text is cut, nothing more is shown than of the text in one piece."""
    values = data.draw(st.lists(st.text("abc", min_size=4, max_size=6), min_size=1, max_size=3))
    mask = Mask(values)
    text = data.draw(st.text("abcx", max_size=40))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(text)), max_size=5)))
    stream = mask.stream()
    shown = "".join(
        stream.feed(text[a:b]) for a, b in zip([0, *cuts], [*cuts, len(text)], strict=True)
    )
    shown += stream.flush()
    for piece in shown.split(MASK):
        assert not any(value in piece for value in values)
    assert not any(value in mask(text) for value in values)
    if not any(value in text for value in values):
        assert shown == text


def test_a_mask_shows_nothing_of_itself() -> None:
    assert SECRET not in repr(Mask([SECRET]))
    assert not Mask([])
    assert Mask([f"{OTHER}\n"])(f"x{OTHER}y") == "x***y"
