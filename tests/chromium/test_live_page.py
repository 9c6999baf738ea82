"""The live page in a real browser: who gets in, what it shows, what it must not do."""

from __future__ import annotations

import base64
import random
import struct
import zlib
from datetime import UTC, datetime
from typing import Any

import httpx
import pytest
from selenium.webdriver import Chrome
from selenium.webdriver.common.by import By
from selenium.webdriver.support.wait import WebDriverWait

pytestmark = [pytest.mark.chromium, pytest.mark.timeout(180)]
DEADLINE = 30.0  # seconds


def insert(cell: str, source: str = "1 + 1", cell_type: str = "code", index: int | None = None):
    return {
        "type": "cell", "op": f"i-{cell}", "action": "insert", "cell": cell,
        "cell_type": cell_type, "source": source, "index": index,
    }  # fmt: skip


def start(cell: str) -> dict[str, Any]:
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {"type": "start", "op": f"o-{cell}", "cell": cell, "time": time}


def end(cell: str, state: str = "ok", count: int = 1, reason: str = "") -> dict[str, Any]:
    time = datetime.now(UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
    return {
        "type": "end", "op": f"o-{cell}", "cell": cell, "state": state, "reason": reason,
        "execution_count": count, "time": time,
    }  # fmt: skip


def message(cell: str, msg_type: str, **content: Any) -> dict[str, Any]:
    return {
        "type": "message", "op": f"o-{cell}", "cell": cell, "msg_type": msg_type,
        "content": content, "metadata": {},
    }  # fmt: skip


def stream(cell: str, text: str, name: str = "stdout") -> dict[str, Any]:
    return message(cell, "stream", name=name, text=text)


def display(cell: str, **data: str) -> dict[str, Any]:
    named = {mime.replace("__", "+").replace("_", "/"): value for mime, value in data.items()}
    return message(cell, "display_data", data=named, metadata={})


def ran(cell: str, source: str, *messages: dict[str, Any], count: int = 1) -> list[dict[str, Any]]:
    return [insert(cell, source), start(cell), *messages, end(cell, count=count)]


def picture(width: int = 8, height: int = 8, noise: int = 0) -> str:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return (
            struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        )

    head = struct.pack(">2I5B", width, height, 8, 2, 0, 0, 0)
    rows = b"".join(b"\0" + random.Random(noise).randbytes(3 * width) for _ in range(height))
    png = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows, 0))
    return base64.b64encode(png + chunk(b"IEND", b"")).decode()


def wait(browser: Chrome, condition: Any) -> Any:
    return WebDriverWait(browser, DEADLINE, poll_frequency=0.05).until(condition)


def text_of(browser: Chrome, where: str = "main") -> str:
    return browser.execute_script("return document.querySelector(arguments[0]).textContent", where)


def wait_for_text(browser: Chrome, text: str, where: str = "main") -> None:
    wait(browser, lambda b: text in text_of(b, where))


def enter(browser: Chrome, page: Any) -> None:
    browser.get(page.ticket_url())
    wait(browser, lambda b: b.current_url == page.url and b.find_elements(By.ID, "name"))


def test_only_a_ticket_lets_a_browser_in_and_only_once(page, browser) -> None:
    page.feed(*ran("a", "print('hello')", stream("a", "hello there\n")))
    browser.get(page.url)
    assert "runner open demo-1" in browser.page_source
    assert "hello" not in browser.page_source

    url = page.ticket_url()
    browser.get(url)
    wait_for_text(browser, "hello there")
    assert browser.current_url == page.url
    assert browser.execute_script("return document.cookie") == ""
    [cookie] = browser.get_cookies()
    assert (cookie["name"], cookie["httpOnly"], cookie["sameSite"]) == (
        "runner-demo-1", True, "Strict",
    )  # fmt: skip
    browser.refresh()
    wait_for_text(browser, "hello there")

    browser.delete_all_cookies()
    browser.get(url)
    assert "needs a ticket" in browser.page_source
    assert httpx.get(url).status_code == 403


def test_cells_appear_and_grow_while_they_run(page, browser) -> None:
    enter(browser, page)
    wait_for_text(browser, "No cells yet", "#notice")
    page.feed(insert("a", "train()"), start("a"), stream("a", "step 1\n"), kernel="busy")
    wait_for_text(browser, "step 1")
    wait_for_text(browser, "cell 1 running", "header")
    wait_for_text(browser, "kernel busy", "header")
    page.feed(stream("a", "step 2\n"))
    wait_for_text(browser, "step 2")
    page.feed(end("a", count=7), insert("first", "# Plan", "markdown", index=0), kernel="idle")
    wait_for_text(browser, "[7]")
    wait_for_text(browser, "2 cells", "header")
    ids = [node.get_attribute("id") for node in browser.find_elements(By.TAG_NAME, "article")]
    assert ids == ["cell-first", "cell-a"]
    page.feed({"type": "cell", "op": "d", "action": "delete", "cell": "a"}, kernel="dead")
    wait_for_text(browser, "1 cell", "header")
    wait_for_text(browser, "kernel dead", "header")


def test_an_output_that_stays_keeps_its_node(page, browser) -> None:
    page.feed(insert("a"), start("a"), display("a", text_html="<b>kept</b>"))
    enter(browser, page)
    frame = wait(browser, lambda b: b.find_elements(By.TAG_NAME, "iframe"))[0]
    page.feed(stream("a", "more\n"))
    wait_for_text(browser, "more")
    assert browser.find_element(By.TAG_NAME, "iframe") == frame


def test_hostile_outputs_do_nothing(page, browser) -> None:
    attack = "parent.document.title='pwned';top.document.title='pwned'"
    script, picture_ = f"<script>{attack}</script>", f'<img src="x" onerror="{attack}">'
    svg = f'<svg xmlns="http://www.w3.org/2000/svg" height="40" onload="{attack}">{script}</svg>'
    page.feed(
        insert("m", f"{script}{picture_}\n\n[click](javascript:{attack}) ![i](x)", "markdown"),
        *ran(
            "a",
            f"'{script}'",
            stream("a", script + picture_ + "\x1b[31m" + script),
            display("a", text_html=script + picture_ + "<b id=shown>shown</b>"),
            display("a", image_svg__xml=svg),
            display("a", text_markdown=f"{script} [x](javascript:{attack}) **bold**"),
            display("a", text_plain=script),
            display("a", text_latex=script),
            message("a", "error", ename=script, evalue=picture_, traceback=[script, picture_]),
        ),
        insert("end", "the_end()"),
    )
    enter(browser, page)
    wait_for_text(browser, "the_end")
    frames = wait(browser, lambda b: len(f := b.find_elements(By.TAG_NAME, "iframe")) == 2 and f)
    assert [frame.get_attribute("sandbox") for frame in frames] == ["", ""]
    browser.switch_to.frame(frames[0])
    wait(browser, lambda b: b.find_elements(By.ID, "shown"))
    browser.switch_to.default_content()
    assert browser.title == "A demo run"
    assert not browser.find_elements(By.CSS_SELECTOR, "main script, main [onerror], main [onload]")
    assert not browser.find_elements(By.CSS_SELECTOR, "main a, main img")
    # Opened by itself, the same document is still in a sandbox, away from our origin.
    browser.get(frames[0].get_attribute("src"))
    wait(browser, lambda b: b.find_elements(By.ID, "shown"))
    assert browser.execute_script("return self.origin") == "null"


def test_a_long_text_is_shortened_until_asked_for(page, browser) -> None:
    lines = "".join(f"line {n}\n" for n in range(8_000))
    page.feed(*ran("a", "noise()", stream("a", lines)))
    enter(browser, page)
    wait_for_text(browser, "line 7999")
    assert "line 4000\n" not in text_of(browser)
    browser.execute_script("document.querySelector('button.more').click()")
    wait_for_text(browser, "line 4000\n")


def test_it_says_when_the_server_is_away_and_comes_back(page, browser) -> None:
    page.feed(*ran("a", "1", stream("a", "before\n")))
    enter(browser, page)
    wait_for_text(browser, "before")
    page.stop()
    wait_for_text(browser, "Disconnected, trying again", "#notice")
    wait_for_text(browser, "runner fetch demo-1", "#notice")
    page.start_again()
    page.feed(*ran("b", "2", stream("b", "after\n")))
    wait_for_text(browser, "after")
    wait(browser, lambda b: not b.find_element(By.ID, "notice").is_displayed())


def test_it_follows_only_while_the_reader_is_at_the_end(page, browser) -> None:
    for n in range(40):
        page.feed(*ran(f"c{n}", f"cell_{n}()", stream(f"c{n}", f"output {n}\n" * 10)))
    enter(browser, page)
    wait_for_text(browser, "output 39")
    at_end = "return innerHeight + scrollY > document.documentElement.scrollHeight - 60"
    wait(browser, lambda b: b.execute_script(at_end))
    page.feed(*ran("new", "new()", stream("new", "newest\n" * 60)))
    wait_for_text(browser, "newest")
    wait(browser, lambda b: b.execute_script(at_end))

    browser.execute_script("scrollTo(0, 0)")
    wait_for_text(browser, "Follow ↓", "#follow")
    page.feed(*ran("newer", "newer()", stream("newer", "even newer\n" * 60)))
    wait_for_text(browser, "42 cells", "header")
    assert browser.execute_script("return scrollY") < 100
    browser.find_element(By.ID, "follow").click()
    wait_for_text(browser, "even newer")
    wait_for_text(browser, "Following", "#follow")


def test_a_thousand_cells_and_50_mb_fill_only_what_is_near(page, browser) -> None:
    big = picture(200, 116)
    for n in range(1_000):
        outputs = [stream(f"c{n}", f"{n}: " + "x" * 76 + "\n") for _ in range(100)]
        if n % 2:
            outputs.append(display(f"c{n}", image_png=big))
        page.feed(*ran(f"c{n}", f"# {n}\nwork({n})", *outputs, count=n + 1))
    size = len(page.notebook.render())
    assert size > 50_000_000

    enter(browser, page)
    wait_for_text(browser, "work(999)", "#cell-c999")
    filled = "return document.querySelectorAll('.source > *').length"
    nodes = "return document.querySelectorAll('*').length"
    wait(browser, lambda b: b.execute_script(filled) < 60)

    browser.execute_script("scrollTo(0, 0)")
    wait_for_text(browser, "work(0)", "#cell-c0")
    for _ in range(50):
        browser.execute_async_script("""
            scrollBy(0, document.documentElement.scrollHeight / 50);
            requestAnimationFrame(arguments[0]);
        """)
        assert browser.execute_script(nodes) < 20_000
    browser.execute_script("scrollTo(0, document.documentElement.scrollHeight)")
    wait_for_text(browser, "work(999)", "#cell-c999")
    wait(browser, lambda b: b.execute_script(filled) < 60)
