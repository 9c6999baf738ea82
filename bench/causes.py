"""From a cause's appearing in the API to `runner status` naming it: each row of docs/causes.json.

`python bench/causes.py [--json] [--quick]` with KUBECONFIG and TEST_IMAGES as for the tests on a
cluster, which make the causes; README.md says how to read it.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOP = Path(__file__).parent.parent
sys.path[:0] = [str(TOP), str(TOP / "tests")]

import causes_seen

TESTS = {
    False: ("cluster/test_waiting.py", "cluster/test_queue.py"),
    True: ("cluster/test_disruptions.py",),
}
MOST_S = 5.0


def main() -> None:
    """Make the causes, one after the other, and print how long each took to be named."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--json", action="store_true", help="a line of JSON instead of the table")
    parser.add_argument("--quick", action="store_true", help="without those that take a node away")
    given = parser.parse_args()
    with tempfile.TemporaryDirectory() as top:
        file = Path(top) / "times.jsonl"
        file.touch()
        failed = [
            name
            for alone, names in TESTS.items()
            if not (alone and given.quick)
            for name in names
            if not _run(file, "alone" if alone else "cluster", f"tests/{name}")
        ]
        found = dict(causes_seen.times(file))
    _tell(found, as_json=given.json)
    if failed:
        sys.exit(f"{' and '.join(failed)} failed: some causes are missing above")


def _tell(found: dict[str, float], *, as_json: bool) -> None:
    if as_json:
        print(json.dumps(found))
        return
    wide = max(map(len, found), default=5)
    print(f"{'cause':{wide}}  seconds from its appearing to its words in `status`")
    for cause, seconds in found.items():
        print(f"{cause:{wide}}  {seconds:.1f}{'' if seconds <= MOST_S else '  more than 5'}")


def _run(file: Path, marker: str, test: str) -> bool:
    env = {**os.environ, "SEEN_TIMES": str(file)}
    argv = [sys.executable, "-m", "pytest", "-q", "-m", marker, "--timeout", "300", test]
    return subprocess.run(argv, cwd=TOP, env=env, stdout=sys.stderr).returncode == 0


if __name__ == "__main__":
    main()
