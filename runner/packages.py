"""Python packages, by uv: pins, a virtual environment, what is in it, where a Python is.

A package that does not exist or versions that conflict are the user's to mend (UsageError);
an index that does not answer is not (InfrastructureError). Both carry uv's own words.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from runner.config import checks
from runner.config.refuse import mask
from runner.errors import InfrastructureError, RunnerError, UsageError

BASE = ("ipykernel>=7.1,<8",)
"""What every sandbox's environment has besides what the experiment asks for."""

_UNREACHABLE = re.compile(
    r"request failed|error sending request|failed to connect|could not connect|couldn't connect"
    r"|dns error|timed out|network was disabled|could not resolve|status code 5\d\d"
    r"|\b5\d\d (internal|bad|service|gateway)|no space left|permission denied",
    re.IGNORECASE,
)
_INSTALL = ("pip", "install", "--link-mode", "hardlink")
_LONGEST = 4000
_INFO = re.compile(r"([^-]+)-([^-]+)(?:-[^-]+)?\.(?:dist|egg)-info")


def resolve(packages: Sequence[str], python: str, deadline_s: float) -> tuple[str, ...]:
    """Pins (`name==version`) of the packages, of `BASE` and of all they depend on.

    `python` is the interpreter or version to resolve for. Raises UsageError where uv finds
    no solution, InfrastructureError where an index does not answer within `deadline_s` s.
    """
    _check(packages)
    output = _uv(
        ["pip", "compile", "-", "--no-header", "--no-annotate", "--quiet", "--python", python],
        deadline_s,
        "resolve the Python packages",
        stdin="\n".join([*BASE, *packages]),
    )
    return _pins(output)


def _check(packages: Sequence[str]) -> None:
    for package in packages:
        if problem := checks.requirement_problem(package):
            raise UsageError(f"The Python package {mask(package)!r} is refused: {problem}.")


def _pins(output: str) -> tuple[str, ...]:
    """What uv compiled, without its remarks."""
    return tuple(line for line in output.splitlines() if line and not line.startswith(("#", "-")))


def resolve_over(
    packages: Sequence[str], there: Sequence[str], version: str, deadline_s: float
) -> tuple[str, ...]:
    """Pins of the packages and all they depend on, for Linux, beside what an image has.

    `there` are the image's packages, which keep their versions; `version` is that of its
    Python, which need not be on this machine. Raises as `resolve` does.
    """
    _check(packages)
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write("\n".join(_public(line) for line in there if "==" in line))
        constraints.flush()
        output = _uv(
            [
                *("pip", "compile", "-", "--no-header", "--no-annotate", "--quiet"),
                *("--python", sys.executable, "--python-version", version),
                *("--python-platform", "linux", "--constraints", constraints.name),
            ],
            deadline_s,
            "resolve the Python packages beside those of the image",
            stdin="\n".join(packages),
        )
    return _pins(output)


def make_venv(
    directory: Path, python: str, pins: Sequence[str], deadline_s: float, log: Path
) -> None:
    """Make a virtual environment with exactly these pins, hardlinked from uv's cache.

    What uv says goes to the end of `log`. Raises as `resolve` does; what was begun is
    removed then.
    """
    end = time.monotonic() + deadline_s
    interpreter = str(directory / "bin" / "python")
    try:
        _uv(["venv", "--python", python, str(directory)], deadline_s, f"make {directory}", log=log)
        _uv(
            [*_INSTALL, "--python", interpreter, "--no-deps", "--requirements", "-"],
            end - time.monotonic(),
            "install the Python packages",
            stdin="\n".join(pins),
            log=log,
        )
    except RunnerError:
        shutil.rmtree(directory, ignore_errors=True)
        raise


def install_editable(python: str, directory: Path, deadline_s: float, log: Path) -> None:
    """Install the project in `directory`, and what it needs beside what is there already.

    What is installed keeps its version: where the project needs another one, uv's words say
    so in a UsageError. Otherwise as `make_venv`.
    """
    pins = [line for line in freeze(python, deadline_s) if "==" in line]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write("\n".join(pins))
        constraints.flush()
        project = ("--constraints", constraints.name, "--editable", str(directory))
        _uv(
            [*_INSTALL, "--python", python, *project],
            deadline_s,
            f"install {directory.name}",
            log=log,
        )


def make_overlay(
    directory: Path, python: str, pins: Sequence[str], deadline_s: float, log: Path
) -> None:
    """Make a virtual environment with these pins, over all that another Python has.

    What `python` has is seen by way of a `.pth` file: it may be a virtual environment
    itself, whose packages `--system-site-packages` would not show. Links or copies from uv's
    cache, as UV_LINK_MODE says. The directory may be there, with more in it. Raises as
    `resolve` does.
    """
    end = time.monotonic() + deadline_s
    interpreter = str(directory / "bin" / "python")
    make = ["venv", "--no-project", "--allow-existing", "--python", python, str(directory)]
    _uv(make, deadline_s, f"make {directory}", log=log)
    places = _site_packages(python)
    (own,) = directory.glob("lib/python3*/site-packages")
    # Not the mere paths: packages there may have .pth files of their own.
    lines = (f"import site; site.addsitedir({place!r})\n" for place in places)
    (own / "_image.pth").write_text("".join(lines))
    if pins:
        _uv(
            ["pip", "install", "--python", interpreter, "--no-deps", "--requirements", "-"],
            end - time.monotonic(),
            "install the Python packages",
            stdin="\n".join(pins),
            log=log,
        )


def install_over(python: str, base: str, directory: Path, deadline_s: float, log: Path) -> None:
    """Install the project in `directory`, and what it needs beside what is there already.

    As `install_editable`, for the Python of an overlay: what `base` has counts as there.
    """
    end = time.monotonic() + deadline_s
    there = [_public(line) for each in (base, python) for line in freeze(each) if "==" in line]
    with tempfile.NamedTemporaryFile("w", suffix=".txt", encoding="utf-8") as constraints:
        constraints.write("\n".join(there))
        constraints.flush()
        options = ("--no-header", "--no-annotate", "--quiet", "--python", python)
        wanted = _uv(
            # Refreshed: to uv's cache, the project of another run in the same place is this one.
            ["pip", "compile", "-", "--refresh", *options, "--constraints", constraints.name],
            deadline_s,
            f"resolve what {directory.name} needs",
            stdin=f"-e {directory}",
            log=log,
        ).splitlines()
    names = {_name(line) for line in there}
    missing = [line for line in wanted if line[:1].isalnum() and _name(line) not in names]
    _uv(
        ["pip", "install", "--python", python, "--no-deps", "--requirements", "-"],
        end - time.monotonic(),
        f"install {directory.name}",
        stdin="\n".join([*missing, f"-e {directory}"]),
        log=log,
    )


def installed(*pythons: Path) -> tuple[str, ...]:
    """What these Pythons have, as `name==version` in order; of two versions the first one's.

    Looks at names of directories only, which takes milliseconds: no Python is started.
    """
    found: dict[str, str] = {}
    for python in pythons:
        prefix = python.parent.parent
        for root in (prefix, prefix / "local"):
            for info in root.glob("lib/python3*/*-packages/*.*-info"):
                if match := _INFO.fullmatch(info.name):
                    found.setdefault(_name(match[1]), match[2])
    return tuple(f"{name}=={found[name]}" for name in sorted(found))


def _site_packages(python: str) -> list[str]:
    """The directories in which a Python finds packages."""
    code = "import site, sysconfig; print(*site.getsitepackages(), sysconfig.get_path('platlib'))"
    try:
        said = subprocess.run(
            [python, "-I", "-c", code], capture_output=True, text=True, check=True
        )
    except (OSError, subprocess.CalledProcessError) as error:
        raise InfrastructureError(f"{python} cannot be started: {error}.") from error
    return list(dict.fromkeys(said.stdout.split()))


def _public(pin: str) -> str:
    """A pin without the local part of its version (`+cu121`), which no index knows."""
    return pin.partition("+")[0]


def _name(requirement: str) -> str:
    """The name in a requirement, as PEP 503 normalises it."""
    name = re.match(r"[A-Za-z0-9._-]*", requirement)
    return re.sub(r"[-_.]+", "-", name[0]).lower() if name else ""


def freeze(python: str, deadline_s: float = 60.0) -> tuple[str, ...]:
    """What is installed for this interpreter, as `name==version` lines in order."""
    listing = _uv(["pip", "freeze", "--quiet", "--python", python], deadline_s, "list packages")
    return tuple(listing.splitlines())


def find_python(version: str | None, deadline_s: float = 60.0) -> str:
    """The path of an installed Python of this version, or of any that uv prefers.

    Downloads none. Raises UsageError where there is none.
    """
    return _uv(
        ["python", "find", "--no-project", *([version] if version else [])],
        deadline_s,
        f"find Python {version or ''}".rstrip(),
    ).strip()


def _uv(
    arguments: Sequence[str],
    deadline_s: float,
    what: str,
    *,
    stdin: str = "",
    log: Path | None = None,
) -> str:
    """What one uv command printed; an error carries uv's own words."""
    from uv import find_uv_bin

    environment = {**os.environ, "UV_PYTHON_DOWNLOADS": "never", "NO_COLOR": "1"}
    environment.pop("VIRTUAL_ENV", None)
    try:
        done = subprocess.run(
            [find_uv_bin(), "--no-progress", *arguments],
            input=stdin,
            capture_output=True,
            text=True,
            timeout=max(deadline_s, 0.01),
            env=environment,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        raise InfrastructureError(f"uv did not {what} within {deadline_s:.0f} s.") from error
    except OSError as error:
        raise InfrastructureError(f"uv cannot be started: {error}.") from error
    said = mask(done.stderr).strip()
    if log is not None:
        with log.open("a", encoding="utf-8") as stream:
            stream.write(f"$ uv {' '.join(arguments)}\n{said}\n")
    if done.returncode == 0:
        return done.stdout
    said = said[max(said.find("error:"), 0) :]  # before it are warnings about other Pythons
    message = f"uv could not {what}:\n{said[:_LONGEST]}"
    if _UNREACHABLE.search(said):
        raise InfrastructureError(message, hint="Is the network, and the package index, there?")
    raise UsageError(message)
