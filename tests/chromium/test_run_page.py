"""The live page of a real run: a browser watches while the agent works."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path

import pytest
from selenium.webdriver.common.by import By
from selenium.webdriver.remote.webdriver import WebDriver
from selenium.webdriver.support.ui import WebDriverWait

from runner import submission
from runner.backends import backend_of
from runner.backends.base import Backend, Handle
from runner.record import Record
from runner.session import Session
from runner.settings import load_settings

pytestmark = pytest.mark.chromium

WAIT_S = 60
CELL = """
import pathlib, time
for step in range(3):
    print("step", step, flush=True)
    while not pathlib.Path(f"go{step}").exists():
        time.sleep(0.02)
"""


@pytest.fixture
def run(tmp_path: Path) -> Iterator[tuple[Backend, Handle, Record]]:
    """A run whose cell goes on when the test writes a file."""
    steps = [
        {"text": "One cell.", "tools": [{"name": "run_cell", "input": {"source": CELL}}]},
        {"text": "Done.", "expect": "step 2"},
    ]
    (tmp_path / "script.json").write_text(json.dumps({"steps": steps}))
    experiment = tmp_path / "experiment.toml"
    experiment.write_text(
        'name = "watched"\ntask = "Count."\n[agent]\nprovider = "scripted"\nscript = "script.json"\n'
    )
    settings = load_settings(runs=str(tmp_path / "runs"), state_dir=tmp_path / "state")
    backend = backend_of(settings)
    handle = submission.start(submission.prepare(experiment, settings), settings)
    yield backend, handle, Record.open(tmp_path / "runs" / handle.run_id)
    backend.delete(handle)


def test_a_browser_watches_a_run_from_its_first_cell_to_its_end(
    run: tuple[Backend, Handle, Record], browser: WebDriver, tmp_path: Path
) -> None:
    backend, handle, record = run
    wait = WebDriverWait(browser, WAIT_S)

    def shows(text: str) -> bool:
        return text in browser.find_element(By.TAG_NAME, "body").text

    with backend.endpoint(handle) as endpoint, Session(endpoint) as session:
        session.connect(WAIT_S)
        browser.get(session.ticket())
        for step in range(3):
            wait.until(lambda _, step=step: shows(f"step {step}"))
            assert not shows(f"step {step + 1}")
            if step == 1:
                where = Path(os.environ.get("SCREENSHOTS", tmp_path))
                assert browser.save_screenshot(str(where / "run-page.png"))
            session.write_file(f"go{step}", b"")
    wait.until(lambda _: record.state().is_over)
    assert record.state().state == "done"
    assert shows("step 2")
