"""The kernel's Python of a lab's image: a virtual environment that sees all the lab's has.

Run by the runner's Python while the image is built: `overlay.py PYTHON DIRECTORY`. ipykernel
and what it needs are added where they are missing; what is there keeps its version.
"""

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

LOCK = Path("/opt/images/python.txt")
KERNEL = "ipykernel"
_PLACES = """
import json, os, site, sysconfig
places = [*site.getsitepackages(), sysconfig.get_path("platlib")]
print(json.dumps([place for place in places if os.path.isdir(place)]))
"""
_THERE = """
import json
from importlib.metadata import distributions
print(json.dumps([[i.metadata["Name"], i.version, i.requires or []] for i in distributions()]))
"""

There = dict[str, tuple[str, list[str]]]
"""The version and the requirements of each package, by its name."""


def main(lab: str, directory: Path) -> None:
    """Make the environment, or exit with one line that says why not."""
    subprocess.run([lab, "-m", "venv", "--without-pip", directory], check=True)
    python = str(directory / "bin" / "python")
    extra = [path for path in os.environ.get("LAB_PYTHONPATH", "").split(":") if path]
    (own,) = directory.glob("lib/python3*/site-packages")
    (own / "_image.pth").write_text(pth([*extra, *ask(lab, _PLACES)]))
    there = packages(python)
    if KERNEL not in there:
        install(python, [line for line in locked() if name_of(line) not in there])
        for problem in problems(KERNEL, packages(python)):
            sys.exit(f"refused: {problem}; `pip install ipykernel` there finds one that suits it")
    tried = subprocess.run([python, "-c", "import ipykernel.kernelapp"], stderr=subprocess.PIPE)
    if tried.returncode:
        sys.exit(f"refused: its ipykernel fails: {tried.stderr.decode().splitlines()[-1]}")


def pth(places: list[str]) -> str:
    """Lines that add these directories, and what .pth files in them add."""
    return "".join(f"import site; site.addsitedir({place!r})\n" for place in dict.fromkeys(places))


def packages(python: str) -> There:
    """What a Python has; of two versions the one that it finds first."""
    found: There = {}
    for name, version, requires in ask(python, _THERE):
        found.setdefault(canonicalize_name(name), (version, requires))
    return found


def ask(python: str, code: str) -> list:
    """The JSON that the code prints."""
    return json.loads(
        subprocess.run([python, "-c", code], check=True, stdout=subprocess.PIPE).stdout
    )


def locked() -> list[str]:
    """The entries of the lock, each with its hashes on one line."""
    return LOCK.read_text().replace("\\\n", " ").splitlines()


def name_of(line: str) -> str:
    """The name that a requirement begins with."""
    return canonicalize_name(re.match(r"[A-Za-z0-9._-]+", line)[0])


def install(python: str, lines: list[str]) -> None:
    """Add these packages, and nothing that they need."""
    missing = LOCK.with_name("missing.txt")
    missing.write_text("\n".join(lines))
    pip = [sys.executable, "-m", "pip", "--python", python, "install"]
    subprocess.run([*pip, "--no-cache-dir", "--no-deps", "--requirement", missing], check=True)


def problems(package: str, there: There) -> Iterator[str]:
    """What a package needs, and all that is needed for it, and is not there or too old."""
    seen, left = {package}, [package]
    while left:
        name = left.pop()
        version, requires = there[name]
        for needed in map(Requirement, requires):
            if needed.marker and not needed.marker.evaluate({"extra": ""}):
                continue
            wanted = canonicalize_name(needed.name)
            has = there.get(wanted, ("none", []))[0]
            if wanted not in there or not needed.specifier.contains(has, prereleases=True):
                yield f"its {wanted} is {has}, and {name} {version} needs {needed}"
            elif wanted not in seen:
                seen.add(wanted)
                left.append(wanted)


if __name__ == "__main__":
    main(sys.argv[1], Path(sys.argv[2]))
