"""`python -m runner.smoke`: a small run on this cluster, by the code of `submit`, for `helm test`.

A scripted agent runs two cells and writes a file; then its record is checked. Needs no key and
no network but the API server's. The exit status is 0 where all of it held.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from pathlib import Path

from runner import submission
from runner.backends import backend_of
from runner.errors import InfrastructureError, RunnerError
from runner.record.verify import verify
from runner.settings import load_settings

DEADLINE_S = 600.0
LOOK_S = 0.5
EXPERIMENT = """\
name = "smoke"
task = "Show that this cluster can carry out a run."
[sandbox]
timeout = "5m"
cpu = "500m"
memory = "1Gi"
[agent]
provider = "scripted"
script = "script.json"
"""
CELLS = (
    "answer = 6 * 7\nprint(answer)",
    "open('outputs/answer.txt', 'w').write(str(answer))",
)
SCRIPT = {
    "steps": [
        *({"tools": [{"name": "run_cell", "input": {"source": cell}}]} for cell in CELLS),
        {"text": "This cluster can carry out a run."},
    ]
}


def main() -> int:
    """Submit, wait, check; say each on a line."""
    try:
        with tempfile.TemporaryDirectory() as folder:
            _check(Path(folder))
    except RunnerError as error:
        _say(f"failed: {error}")
        return error.exit_status
    _say("ok: the run is done, and its record is whole")
    return 0


def _check(folder: Path) -> None:
    (folder / "experiment.toml").write_text(EXPERIMENT)
    (folder / "script.json").write_text(json.dumps(SCRIPT))
    settings = load_settings(backend="kubernetes", runs=str(folder / "runs"))
    backend = backend_of(settings)
    prepared = submission.prepare(folder / "experiment.toml", settings, progress=_say)
    handle = submission.start(prepared, settings)
    _say(f"submitted {handle.run_id}")
    try:
        end, told = time.monotonic() + DEADLINE_S, ""
        while (status := backend.status(handle)).agent_alive or status.sandbox_alive:
            if time.monotonic() > end:
                raise InfrastructureError(f"not over after {DEADLINE_S:g} s: {status.reason}")
            if (words := f"{status.state}: {status.reason}") != told:
                _say(words)
                told = words
            time.sleep(LOOK_S)
        backend.sync(handle)
        status = backend.status(handle)
        record = Path(settings.runs) / handle.run_id
        report = verify(record, None)
        if status.state != "done" or not report.ok:
            raise InfrastructureError(f"{status.state}: {status.reason}; {report.findings}")
        if (record / "outputs" / "answer.txt").read_text() != "42":
            raise InfrastructureError("the run's output is not what its cell wrote")
    finally:
        backend.delete(handle)
        backend.delete_record(handle)


def _say(words: str) -> None:
    print(words, flush=True)  # noqa: T201 - the log of the test's pod


if __name__ == "__main__":
    sys.exit(main())
