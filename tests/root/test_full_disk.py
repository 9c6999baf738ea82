"""A volume that is really full: a tmpfs of 4 MB under a sandbox. Needs root."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from sandbox_process import SandboxProcess, until

pytestmark = pytest.mark.root


@pytest.fixture
def small(tmp_path: Path) -> Iterator[Path]:
    if os.geteuid() != 0:
        pytest.skip("needs root, to mount a tmpfs")
    place = tmp_path / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", place], check=True)
    try:
        yield place
    finally:
        subprocess.run(["umount", "-l", place], check=True)


def test_a_full_volume_costs_no_line(small: Path) -> None:
    box = SandboxProcess(small)
    try:
        box.start()
        with box.session() as session:
            session.run("big = open('big', 'wb')")
            filled = session.run(
                "import os\ntry:\n    while big.write(b'x' * 4096) and not big.flush(): pass\n"
                "except OSError as error: print(error)"
            )
            assert "No space left" in filled.text
            told = until(lambda: session.info()["journal"]["failure"], what="the failure in words")
            assert "No space left" in told
            # It goes on, from memory: what is printed now can be read, and is written later.
            result = session.run("print('on a full disk')")
            assert (result.state, result.text) == ("ok", "on a full disk\n")
            warning = until(lambda: [w for w in session.info()["warnings"] if "journal" in w])
            assert "No space left" in warning[0]
            assert "on a full disk" in str(session.journal(0))
            assert session.shell("rm big; echo gone").state == "ok"
            session.run("big.close()")
            until(lambda: not session.info()["journal"]["failure"], what="the journal's recovery")
            lines = session.journal(0)
            until(lambda: len(box.journal()) >= len(lines))
            assert box.journal()[: len(lines)] == lines
            cell = result.cell or ""
            until(lambda: cell in (box.workspace / "notebook.ipynb").read_text())
            session.shutdown()
            assert box.wait() == 0
    finally:
        box.close()
