"""Cells as pieces of HTML: what is shown, and that nothing of a cell gets in as markup."""

from __future__ import annotations

import base64
import struct
from html.parser import HTMLParser
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from runner.notebook import Notebook
from runner.notebook.cell import Cell
from runner.sandbox.ansi import ansi_to_html
from runner.sandbox.fragments import OUTPUTS_SHOWN, TEXT_SHOWN, fragments, media, summary

ALLOWED = {
    **{tag: set() for tag in ["strong", "em", "code", "br", "hr", "ul", "li", "blockquote"]},
    **{tag: set() for tag in ["h1", "h2", "h3", "h4", "h5", "h6", "table", "thead", "tbody", "tr"]},
    **{tag: {"class"} for tag in ["pre", "div", "span", "p", "th", "td"]},
    "ol": {"start"},
    "a": {"href", "title", "target", "rel"},
    "img": {"src", "alt", "loading", "decoding", "width", "height"},
    "iframe": {"src", "sandbox", "loading", "title", "height"},
    "button": {"type", "class"},
}
HOSTILE = [
    "<script>alert(1)</script>",
    "<img src=x onerror=alert(1)>",
    "</pre><iframe src=javascript:alert(1)>",
    "[a](javascript:alert(1))",
    "[a](JaVaScRiPt&#58;alert(1))",
    "[a](\x01javascript:alert(1))",
    "[a](data:text/html,<script>alert(1)</script>)",
    "![a](data:image/svg+xml;base64,AAAA)",
    "![a](https://example.org/beacon.png)",
    '![a](data:image/png;base64,AAAA"onload=alert(1))',
    '[a](https://example.org/"onclick="alert(1))',
    '[a](https://example.org "t\\" onclick=\\"alert(1)")',
    "<https://example.org/'onclick='alert(1)>",
    "```<script>\n</pre><script>alert(1)\n```",
    "|a|\n|:-:|\n|<script>|",
    "\x1b[31m<b>\x1b[38;5;</span>9m<i>\x1b]0;<script>\x07",
]
MIMES = [
    "text/plain", "text/html", "text/markdown", "text/latex", "image/png", "image/svg+xml",
    "application/json", "application/javascript", '"><script>',
]  # fmt: skip


class Audit(HTMLParser):
    """Fails on a tag or attribute that the page does not mean to show."""

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        assert tag in ALLOWED, tag
        names = dict(attrs)
        assert set(names) <= ALLOWED[tag], attrs
        if tag == "a":
            assert (names["href"] or "").lower().startswith(("https://", "http://", "mailto:"))
        if tag == "img":
            assert (names["src"] or "").startswith(("v1/cells/", "data:image/png;base64,"))
        if tag == "iframe":
            assert names["sandbox"] == "" and (names["src"] or "").startswith("v1/cells/")


def cell(*outputs: dict[str, Any], source: str = "1", cell_type: str = "code") -> Any:
    made = Cell("c1", cell_type, source)

    class Shown:
        """A cell with these outputs, as they are."""

        def __getattr__(self, name: str) -> Any:
            return list(outputs) if name == "outputs" else getattr(made, name)

    return Shown()


def html(*outputs: dict[str, Any], whole: bool = False) -> str:
    return "".join(fragments(cell(*outputs), whole=whole)["outputs"])


def stream(text: str, name: str = "stdout") -> dict[str, Any]:
    return {"output_type": "stream", "name": name, "text": text}


def display(**data: Any) -> dict[str, Any]:
    named = {mime.replace("_", "/"): value for mime, value in data.items()}
    return {"output_type": "display_data", "data": named, "metadata": {}}


def audit(shown: dict[str, Any]) -> None:
    for piece in (shown["source"], *shown["outputs"]):
        parser = Audit()
        parser.feed(piece)
        parser.close()


TEXTS = st.one_of(st.sampled_from(HOSTILE), st.text(max_size=80))


@given(text=st.lists(TEXTS, max_size=4).map("".join), mime=st.sampled_from(MIMES))
def test_nothing_of_a_cell_becomes_markup(text: str, mime: str) -> None:
    outputs = [
        stream(text),
        {"output_type": "error", "ename": text, "evalue": text, "traceback": [text]},
        {"output_type": "error", "ename": text, "evalue": text, "traceback": []},
        {"output_type": "display_data", "data": {mime: text}, "metadata": {}},
    ]
    audit(fragments(cell(*outputs, source=text)))
    audit(fragments(cell(source=text, cell_type="markdown")))


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_markdown(text: str) -> None:
    audit(fragments(cell(source=text, cell_type="markdown")))
    audit(fragments(cell(source=f"# a\n\n> {text}\n\n- {text}\n", cell_type="markdown")))


def test_source_and_summary_of_a_cell_of_the_notebook() -> None:
    notebook = Notebook()
    insert = {
        "type": "cell", "op": "i", "action": "insert", "cell": "a", "cell_type": "code",
        "source": "x = 1\ny = '<'", "index": None, "seq": 1,
    }  # fmt: skip
    notebook.apply(insert)
    notebook.apply({"type": "start", "op": "o", "cell": "a", "time": "T", "seq": 2})
    shown = fragments(notebook.cells["a"])
    assert '<span class="mi">1</span>' in shown["source"]
    assert "&lt;" in shown["source"]
    assert summary(notebook.cells["a"]).items() <= shown.items()
    assert (shown["state"], shown["started"], shown["lines"]) == ("running", "T", 2)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("plain <b>", "plain &lt;b&gt;"),
        ("\x1b[31mred\x1b[0m not", '<span class="fg1">red</span> not'),
        ("\x1b[1;92ma\x1b[22mb", '<span class="bold fg10">a</span><span class="fg10">b</span>'),
        ("\x1b[38;5;196mr\x1b[39m", '<span class="fg9">r</span>'),
        ("\x1b[48;2;0;0;250mb\x1b[m", '<span class="bg12">b</span>'),
        ("a\x1b[2Kb\x1b]8;;https://x\x07c\x1b(Bd", "abcd"),
        ("\x1b[38mkept\x1b[999m", "kept"),
        ("cut off \x1b[3", "cut off 3"),
    ],
)  # fmt: skip
def test_terminal_colours(text: str, expected: str) -> None:
    assert ansi_to_html(text) == expected


def test_streams_and_errors() -> None:
    assert html(stream("out")) == '<pre class="stdout">out</pre>'
    assert html(stream("err", "stderr")) == '<pre class="stderr">err</pre>'
    error = {"output_type": "error", "ename": "E", "evalue": "why", "traceback": []}
    assert html(error) == '<pre class="error">E: why</pre>'
    assert html(error | {"traceback": ["a", "b"]}) == '<pre class="error">a\nb</pre>'


def test_a_long_text_keeps_its_ends_until_the_whole_is_asked_for() -> None:
    text = "head" + "x" * (2 * TEXT_SHOWN) + "tail"
    short = html(stream(text))
    assert "head" in short and "tail" in short and f"{len(text) - TEXT_SHOWN:,} more" in short
    assert len(short) < TEXT_SHOWN + 300
    assert html(stream(text), whole=True) == f'<pre class="stdout">{text}</pre>'


def test_many_outputs_keep_their_ends_and_their_numbers() -> None:
    outputs = [display(text_html=f"<b>{n}</b>") for n in range(OUTPUTS_SHOWN + 50)]
    shown = fragments(cell(*outputs))["outputs"]
    assert len(shown) == OUTPUTS_SHOWN + 1
    assert "50 more outputs" in shown[OUTPUTS_SHOWN // 4]
    assert f"/outputs/{len(outputs) - 1}?" in shown[-1]
    assert len(fragments(cell(*outputs), whole=True)["outputs"]) == len(outputs)


def test_the_best_representation_is_chosen() -> None:
    assert 'class="latex">$x$' in html(display(text_latex="$x$", text_plain="x"))
    assert "<strong>b</strong>" in html(display(text_markdown="**b**", text_plain="x"))
    assert "&quot;a&quot;: 1" in html(display(application_json={"a": 1}, text_plain="x"))
    assert "<iframe" in html(display(text_html="<b>", text_plain="x"))
    assert "not shown here" in html({"output_type": "display_data", "data": {"a/b": "c"}})
    assert "Scripts of this output" in html(display(text_html="<script>1</script>"))


def test_a_picture_has_its_size_and_its_bytes() -> None:
    png = b"\x89PNG\r\n\x1a\n" + struct.pack(">I4s2I", 13, b"IHDR", 640, 480) + b"rest"
    output = display(image_png=base64.b64encode(png).decode(), text_plain="x")
    assert 'width="640" height="480"' in html(output)
    found = media(output)
    assert found is not None and (found.content_type, found.body) == ("image/png", png)
    assert html(output) == html(output) != html(display(image_png="AAAA"))


def test_only_pictures_and_frames_are_media() -> None:
    assert media(stream("text")) is None
    assert media(display(text_plain="x")) is None
    frame = media(display(text_html=["<b>a", "</b>"]))
    assert frame is not None and frame.body.endswith(b"<b>a</b>")
    assert media(display(image_png="!")) is not None
