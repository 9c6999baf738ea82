"""A cell of the notebook as pieces of safe HTML for the live page.

Everything in a cell was made by a model or by code it ran, so nothing of it reaches the
page unescaped. What has to keep its own markup (HTML, SVG) is never part of the page: it is
a document of its own (`media`), shown in a sandboxed frame.
"""

from __future__ import annotations

import base64
import binascii
import json
import re
import struct
from dataclasses import dataclass
from functools import lru_cache
from html import escape
from typing import TYPE_CHECKING, Any

import mistune
from mistune.plugins.table import table
from pygments import highlight
from pygments.formatters import HtmlFormatter
from pygments.lexers import PythonLexer

from runner.sandbox.ansi import ansi_to_html

if TYPE_CHECKING:
    from runner.notebook import Cell

TEXT_SHOWN = 20_000  # characters of one text; more is behind a button
OUTPUTS_SHOWN = 100  # outputs of one cell; more are behind a button
COLOURED = 10_000  # characters of a source that is still coloured: pygments takes 8 µs each
RENDERED = 50_000  # characters of Markdown that is still rendered
_IMAGES = ("image/png", "image/jpeg", "image/gif", "image/webp")
_FRAMES = ("image/svg+xml", "text/html")
_LINK = re.compile(r"(?i)https?://|mailto:")
_DATA_IMAGE = re.compile(r"(?i)data:image/(png|jpeg|gif|webp);base64,[a-z0-9+/=]*$")


@dataclass(frozen=True)
class Media:
    """A part of an output that the browser fetches by itself: a picture, or a frame's document."""

    content_type: str
    body: bytes


def summary(cell: Cell) -> dict[str, Any]:
    """List what the page keeps of a cell even while it shows nothing of it."""
    return {
        "id": cell.id,
        "type": cell.cell_type,
        "version": cell.version,
        "state": cell.state,
        "reason": cell.reason,
        "count": cell.execution_count,
        "started": cell.started,
        "ended": cell.ended,
        "lines": cell.source.count("\n") + 1,
    }


def fragments(cell: Cell, *, whole: bool = False) -> dict[str, Any]:
    """Render source and outputs, each output one piece of HTML, and add the summary.

    Long texts and long lists of outputs are shortened in the middle, with a button of
    class `more` in the gap; `whole` leaves nothing out.
    """
    code = cell.cell_type == "code"
    source = highlighted(cell.source) if code else markdown(cell.source)
    numbered = list(enumerate(cell.outputs)) if code else []
    gap = 0 if whole else len(numbered) - OUTPUTS_SHOWN
    if gap > 0:
        head = OUTPUTS_SHOWN // 4
        shown = [_output(cell.id, n, output, whole) for n, output in numbered[:head]]
        shown.append(_more(f"{gap:,} more outputs"))
        shown += [_output(cell.id, n, output, whole) for n, output in numbered[head + gap :]]
    else:
        shown = [_output(cell.id, n, output, whole) for n, output in numbered]
    return {**summary(cell), "source": source, "outputs": shown}


def media(output: dict[str, Any]) -> Media | None:
    """Extract an output's picture or frame document; None if it is shown as text."""
    mime, data = _best(output.get("data", {}))
    if mime in _IMAGES:
        try:
            return Media(mime, base64.b64decode(data))
        except (binascii.Error, ValueError):
            return Media(mime, b"")
    if mime in _FRAMES:
        return Media("text/html; charset=utf-8", (_FRAME_HEAD + data).encode(errors="replace"))
    return None


@lru_cache(maxsize=256)
def highlighted(source: str) -> str:
    """Render Python source, with classes for colours."""
    if len(source) > COLOURED:
        return f'<pre class="code">{escape(source)}</pre>'
    formatter = HtmlFormatter(nowrap=True)
    lexer = PythonLexer(stripnl=False, ensurenl=False)
    return f'<pre class="code">{highlight(source, lexer, formatter)}</pre>'


@lru_cache(maxsize=256)
def markdown(source: str) -> str:
    """Render Markdown: raw HTML escaped, links only to the web and to mail."""
    if len(source) > RENDERED:
        return f'<pre class="result">{escape(source)}</pre>'
    return f'<div class="markdown">{_markdown(source)}</div>'


class _Renderer(mistune.HTMLRenderer):
    """Allows by list what mistune forbids by list."""

    def link(self, text: str, url: str, title: str | None = None) -> str:
        """Render a link that opens elsewhere, or only its text."""
        if not _LINK.match(url):
            return text
        said = f' title="{escape(title)}"' if title else ""
        return f'<a href="{escape(url)}"{said} target="_blank" rel="noopener noreferrer">{text}</a>'

    def image(self, text: str, url: str, title: str | None = None) -> str:
        """Show a picture that the text itself holds, describe any other."""
        if _DATA_IMAGE.match(url):
            return f'<img src="{escape(url)}" alt="{escape(text)}">'
        return self.link(f"[{escape(text or title or 'picture')}]", url)

    def block_code(self, code: str, info: str | None = None) -> str:
        """Render Python in colours, all else plain."""
        if (info or "").split(" ")[0] in ("python", "py"):
            return highlighted(code)
        return f'<pre class="code">{escape(code)}</pre>'


def _table_cell(_: Any, text: str, align: str | None = None, head: bool = False) -> str:
    # mistune's own writes style=, which the page's Content-Security-Policy forbids
    tag = "th" if head else "td"
    place = f' class="{align}"' if align else ""
    return f"<{tag}{place}>{text}</{tag}>\n"


def _make_markdown() -> mistune.Markdown:
    renderer = _Renderer(escape=True)
    made = mistune.Markdown(renderer, plugins=[table])
    renderer.register("table_cell", _table_cell)
    return made


_markdown = _make_markdown()


def _output(cell_id: str, number: int, output: dict[str, Any], whole: bool) -> str:
    kind = output.get("output_type")
    if kind == "stream":
        name = "stderr" if output.get("name") == "stderr" else "stdout"
        return _text(output.get("text", ""), name, whole)
    if kind == "error":
        trace = "\n".join(output.get("traceback") or [])
        said = f"{output.get('ename', '')}: {output.get('evalue', '')}"
        return _text(trace or said, "error", whole)
    mime, data = _best(output.get("data", {}))
    if mime in _IMAGES or mime in _FRAMES:
        # A changed output has another address, so the page fetches it again. A string keeps
        # its hash, so a large output is not read each time that its cell is.
        address = f"v1/cells/{escape(cell_id)}/outputs/{number}?{hash(data) & 0xFFFFFFFF:08x}"
        return _image(address, mime, data) if mime in _IMAGES else _frame(address, mime, data)
    if mime == "text/markdown":
        return markdown(data) if whole or len(data) <= TEXT_SHOWN else _text(data, "", whole)
    return _text(data, "latex" if mime == "text/latex" else "result", whole)


def _best(data: dict[str, Any]) -> tuple[str, str]:
    """Choose the representation that a page without scripts shows best."""
    for mime in (*_IMAGES, *_FRAMES, "text/markdown", "text/latex"):
        if mime in data:
            return mime, _joined(data[mime])
    if "application/json" in data:
        return "application/json", json.dumps(data["application/json"], indent=2)
    if "text/plain" in data or not data:
        return "text/plain", _joined(data.get("text/plain", ""))
    return "text/plain", f"[{', '.join(sorted(data))}: not shown here, kept in the notebook]"


def _joined(value: Any) -> str:
    """Join a text that nbformat allows to be a list of lines."""
    return "".join(map(str, value)) if isinstance(value, list) else str(value)


def _text(text: str, kind: str, whole: bool) -> str:
    gap = 0 if whole else len(text) - TEXT_SHOWN
    if gap <= 0:
        return f'<pre class="{kind}">{ansi_to_html(text)}</pre>'
    head = TEXT_SHOWN // 4
    return (
        f'<pre class="{kind}">{ansi_to_html(text[:head])}</pre>'
        + _more(f"{gap:,} more characters")
        + f'<pre class="{kind}">{ansi_to_html(text[head + gap :])}</pre>'
    )


def _more(what: str) -> str:
    return f'<button type="button" class="more">Show all: {what}</button>'


def _image(address: str, mime: str, data: str) -> str:
    size = ""
    if mime == "image/png":  # a size known beforehand keeps the page from jumping
        try:
            width, height = struct.unpack(">16x2I", base64.b64decode(data[:32]))
            size = f' width="{width}" height="{height}"'
        except (binascii.Error, ValueError, struct.error):
            size = ""
    return f'<img src="{address}" loading="lazy" decoding="async" alt="picture"{size}>'


def _frame(address: str, mime: str, data: str) -> str:
    # A sandboxed frame cannot tell its height: estimate it, the reader can drag it.
    if mime == "text/html":
        height = 40 + 24 * max(data.count("<tr"), data.count("<p"), data.count("<li"), 2)
        title = "HTML"
    else:
        said = re.search(r"<svg[^>]*?\sheight=[\"']([0-9]{1,4})(?:\.[0-9]*)?(pt)?", data)
        height = 24 + round(int(said[1]) * (4 / 3 if said[2] else 1)) if said else 300
        title = "SVG"
    note = '<p class="note">Scripts of this output do not run here.</p>'
    return (
        f'<iframe src="{address}" sandbox="" loading="lazy" title="{title} output"'
        f' height="{min(height, 480)}"></iframe>' + (note if "<script" in data.lower() else "")
    )


_FRAME_HEAD = """<!doctype html><meta charset="utf-8"><style>
body { margin: 8px; font: 13px/1.4 system-ui, sans-serif; color: #1b1f24; background: #fff }
svg, img { display: block; max-width: 100%; height: auto }
table { border: 0; border-collapse: collapse }
th, td { padding: 3px 10px; text-align: right; border: 0; border-bottom: 1px solid #e3e6ea }
</style>
"""
