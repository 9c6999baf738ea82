"""What the model sees of a cell's outputs."""

from __future__ import annotations

import base64
import io
import random
import struct
import zlib

import nbformat
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from runner.agent.images import LONGEST, MAX_BASE64, Unshowable, image_block
from runner.agent.observe import as_text, observe
from runner.agent.text import PAGE, clean, from_html, page, shorten
from runner.errors import UsageError


def stream(text, name="stdout"):
    return nbformat.v4.new_output("stream", name=name, text=text)


def display(kind="display_data", **data):
    return nbformat.v4.new_output(kind, data={k.replace("_", "/"): v for k, v in data.items()})


def error(trace, name="ValueError", value="bad"):
    return nbformat.v4.new_output("error", ename=name, evalue=value, traceback=trace)


def picture(size=(8, 6), kind="PNG", mode="RGB", noise=False):
    image = Image.new(mode, size)
    if noise:
        count = size[0] * size[1] * len(image.getbands())
        image = Image.frombytes(mode, size, random.Random(1).randbytes(count))
    buffer = io.BytesIO()
    image.save(buffer, kind)
    return base64.b64encode(buffer.getvalue()).decode()


def opened(block):
    assert block["source"]["type"] == "base64"
    return Image.open(io.BytesIO(base64.b64decode(block["source"]["data"])))


def text_of(outputs, **options):
    (block,) = observe(outputs, state="ok", **options).content
    return block["text"]


# --- text ---


@pytest.mark.parametrize(
    ("raw", "shown"),
    [
        ("\x1b[31mred\x1b[0m and \x1b[1;38;5;9mbold\x1b[m", "red and bold"),
        ("a\x1b]0;title\x07b", "ab"),
        ("\x1b]8;;https://example.org\x1b\\link\x1b]8;;\x1b\\", "link"),
        ("10%\r 50%\r100%\n", "100%\n"),
        ("a long line\rshort", "shortg line"),
        ("a long line\x1b[2K\rdone", "done"),
        ("a long line\r\x1b[Kdone", "done"),
        ("\rready", "ready"),
        ("one\r\ntwo\r\n", "one\ntwo\n"),
        ("abc\b\bX", "aXc"),
        ("\b\bX", "X"),
        ("nul\x00 bell\x07 tab\t", "nul bell tab\t"),
        ("half \ud83d pair", "half ? pair"),
        ("\x1b", ""),
        ("日本\x1b[0m語 é", "日本語 é"),
    ],
)
def test_text_is_what_a_terminal_would_show(raw, shown):
    assert clean(raw) == shown


@given(st.text(st.sampled_from("ab\n\r\b\x1b[]0;mK\x07\\P_\x9b\x00"), max_size=60))
def test_any_text_comes_out_without_control_characters_and_stays_so(raw):
    once = clean(raw)
    assert not set(once) & set("\r\b\x1b\x07\x9b\x00")
    assert clean(once) == once


def test_a_progress_bar_of_many_steps_is_one_line():
    bar = "".join(f"\r{n:3}%|{'#' * (n // 10):10}|" for n in range(101))
    assert text_of([stream(bar + "\n", "stderr")]) == "[stderr]\n100%|##########|\n[ok]"


@given(st.text(max_size=300), st.integers(10, 100))
def test_shortened_text_has_head_tail_and_the_count(text, limit):
    short = shorten(text, limit)
    if len(text) <= limit:
        assert short == text
    else:
        head, tail = limit * 2 // 3, limit // 3
        assert short.startswith(text[:head])
        assert short.endswith(text[len(text) - tail :])
        assert f"… {len(text) - head - tail:,} characters left out …" in short


@given(st.text(min_size=1, max_size=200), st.integers(1, 50))
def test_pages_together_are_the_text(text, size):
    parts = -(-len(text) // size)
    shown = [page(text, n, size) for n in range(1, parts + 1)]
    if parts > 1:
        shown = [part.split("\n", 1)[1] for part in shown]
    assert "".join(shown) == text
    for wrong in (0, parts + 1):
        with pytest.raises(UsageError, match=f"parts 1 to {parts}"):
            page(text, wrong, size)


def test_a_page_says_where_it_is():
    assert page("x" * 25, 2, 10).startswith("[part 2 of 3: characters 11 to 20 of 25]\n")
    assert page("", 1) == ""


def test_html_becomes_words():
    table = "<style>td {color: red}</style><table><tr><th>a<th>b</tr><tr><td>1<td>2</table>"
    assert from_html(table + "<script>alert(1)</script>&lt;end&gt;") == "a b\n1 2\n<end>"


# --- observe ---


def test_streams_are_told_apart_in_their_order():
    outputs = [stream("1\n"), stream("warned\n", "stderr"), stream("2\n"), stream("  \n", "stderr")]
    outputs.append(display("execute_result", text_plain="3"))
    assert text_of(outputs, cell="ab12", elapsed_s=1.23) == (
        "1\n[stderr]\nwarned\n[stdout]\n2\n[result]\n3\n[ok; 1.2 s; cell ab12]"
    )


@pytest.mark.parametrize(
    ("state", "options", "line"),
    [
        ("ok", {}, "[ok]"),
        ("ok", {"elapsed_s": 61.4}, "[ok; 1 min 01 s]"),
        ("ok", {"elapsed_s": 7265}, "[ok; 2 h 01 min]"),
        ("running", {"execution": "r-1-0"}, '[still running: wait(execution="r-1-0") waits on,'),
        ("queued", {"execution": "r-1-0"}, '[waits for its turn: wait(execution="r-1-0")'),
        ("interrupted", {"reason": "by the agent"}, "[interrupted (by the agent)]"),
        ("kernel_died", {"reason": "out of memory"}, "[the kernel died: variables are gone"),
        ("restarted", {}, "[the kernel was restarted before this ended"),
        ("lost", {}, "[lost: the sandbox in which this ran is gone"),
    ],
)
def test_the_last_line_says_how_it_stands(state, options, line):
    (block,) = observe([], state=state, **options).content
    assert block["text"].startswith("[no output]\n")
    assert block["text"].splitlines()[-1].startswith(line)


def test_long_output_keeps_head_and_tail_and_says_how_to_read_on():
    text = "".join(f"line {n}\n" for n in range(10_000))
    shown = text_of([stream(text)], cell="ab12")
    assert len(shown) < 12_200
    left = len(text) - 1 - 12_000
    note = f'\n… {left:,} characters left out; read_cell(cell="ab12", part=2) reads on …\n'
    head, tail = shown.split(note)
    assert text.startswith(head)
    assert tail.endswith("line 9999\n[ok; cell ab12]")
    second = page(as_text([stream(text)]), 2).split("\n", 1)[1]
    assert (head + second) in text, "part 2 begins where the head ends"
    assert len(head) == PAGE


def test_many_outputs_share_one_limit_and_images_stay():
    outputs = [display(text_plain="x" * 1_000) for _ in range(100)]
    outputs.insert(50, display(image_png=picture()))
    seen = observe(outputs, state="ok")
    assert [block["type"] for block in seen.content] == ["text", "image", "text"]
    texts = [block["text"] for block in seen.content if block["type"] == "text"]
    assert sum(map(len, texts)) < 12_300
    assert "".join(texts).count("characters left out") == 1


def test_a_traceback_loses_its_colours_and_its_middle():
    frames = [f"\x1b[31mFrame {n}\x1b[0m" + "." * 200 for n in range(100)]
    shown = text_of([error([*frames, "\x1b[31mValueError\x1b[0m: bad"])])
    assert shown.startswith("[error]\nFrame 0.")
    assert "characters left out" in shown
    assert shown.endswith("ValueError: bad\n[ok]")
    assert len(shown) < 4_200
    assert text_of([error([], "KernelDied", "out of memory")]) == (
        "[error]\nKernelDied: out of memory\n[ok]"
    )


@pytest.mark.parametrize(
    ("data", "shown"),
    [
        ({"text_plain": "   a\n0  1", "text_html": "<b>1</b>"}, "   a\n0  1"),
        ({"text_plain": ["a\n", "b"]}, "a\nb"),
        ({"text_markdown": "# Hi", "text_plain": "<IPython.core.display.Markdown object>"}, "# Hi"),
        ({"text_html": "<p>Hi", "text_plain": "<IPython.core.display.HTML object>"}, "Hi"),
        ({"text_html": "<script>1</script>", "text_plain": "<a.b object at 0x1f>"}, "<a.b object"),
        ({"text_latex": "$x$", "text_plain": "<IPython.core.display.Latex object>"}, "$x$"),
        ({"application_json": {"a": None}}, '{"a": null}'),
        ({"image_svg+xml": "<svg/>"}, "[an SVG image of 6 characters, not shown: draw it as PNG]"),
        ({"application_pdf": "JVBERi0="}, "[application/pdf, not shown]"),
        ({}, "[nothing, not shown]"),
    ],
)
def test_of_a_rich_display_the_most_telling_form_is_shown(data, shown):
    assert text_of([display(**data)]).startswith(f"[display]\n{shown}")


# --- images ---


def test_an_image_stands_in_its_place():
    png = picture()
    plot = display(image_png=png + "\n", text_plain="<Figure size 8x6>")
    seen = observe([stream("before\n"), plot, stream("after")], state="ok")
    before, image, after = seen.content
    assert (before["text"], after["text"]) == ("before", "[stdout]\nafter\n[ok]")
    assert image["source"] == {"type": "base64", "media_type": "image/png", "data": png}
    assert seen.images_used == 1


def test_images_over_the_budget_are_mentioned():
    outputs = [display(image_png=picture())] * 3
    seen = observe(outputs, state="ok", images_left=2, cell="ab12")
    assert [block["type"] for block in seen.content] == ["image", "image", "text"]
    assert (
        "budget of images is used up; people find it in the notebook, cell ab12"
        in (seen.content[2]["text"])
    )
    assert seen.images_used == 2


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "GIF", "WEBP"])
def test_a_large_image_is_scaled(kind):
    block = image_block(picture((2_000, 500), kind))
    image = opened(block)
    assert image.size == (LONGEST, LONGEST // 4)
    assert block["source"]["media_type"] == f"image/{image.format.lower()}"


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "L", "P", "CMYK"])
def test_noise_that_png_cannot_hold_becomes_a_small_jpeg(mode):
    kind = "JPEG" if mode == "CMYK" else "PNG"
    block = image_block(picture((1_000, 1_000), kind, mode, noise=True))
    assert len(block["source"]["data"]) <= MAX_BASE64
    assert max(opened(block).size) <= LONGEST


def _bomb(width=200_000, height=200_000):
    def chunk(kind, data):
        crc = struct.pack(">I", zlib.crc32(kind + data))
        return struct.pack(">I", len(data)) + kind + data + crc

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    parts = chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(b"\0" * 1_000))
    return base64.b64encode(b"\x89PNG\r\n\x1a\n" + parts + chunk(b"IEND", b"")).decode()


@pytest.mark.parametrize(
    ("data", "words"),
    [
        (_bomb(), "too many"),
        (_bomb(12_000, 10_000), "too many"),
        (_bomb(7_000, 7_000), "7000 × 7000 pixels are too many"),
        (_bomb(100, 100), "broken"),
        (picture((500, 500), noise=True)[:4_000], "broken"),
        ("", "broken"),
        ("no image", "broken"),
        ("a", "broken"),
        (base64.b64encode(b"<svg/>").decode(), "broken"),
    ],
)
def test_a_bomb_or_a_broken_image_is_a_line_of_text(data, words):
    with pytest.raises(Unshowable, match=words):
        image_block(data)
    assert text_of([display(image_png=data)]).startswith("[image/png not shown: ")
