"""`runner fetch`."""

from __future__ import annotations

import shlex
import shutil
from pathlib import Path
from typing import Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

Inner = Annotated[
    str | None,
    typer.Argument(metavar="PATH", help="A file or directory of the record.", show_default=False),
]
To = Annotated[
    Path | None,
    typer.Option("--to", metavar="DIR", help="Where to copy it; ./RUN if left out."),
]
Withheld = Annotated[
    bool,
    typer.Option("--withheld", help="Also outputs that were set aside, as they hold a secret."),
]

EXAMPLES = """
runner fetch
runner fetch checkpoint-diffing-261123-0907-x7k2 outputs --to results
runner fetch checkpoint-diffing-261123-0907-x7k2 notebook.ipynb
runner fetch checkpoint-diffing-261123-0907-x7k2 --withheld
"""


def command(
    cli: Cli, run: Run = None, path: Inner = None, to: To = None, withheld: Withheld = False
) -> int:
    """Copy a run's record, or a part of it.

    PATH is one such as outputs, outputs/report.md or notebook.ipynb.

    The copy is a record of its own: `runner verify --runs .` checks it, and `runner submit DIR`
    repeats it. Prints where the copy is. Nothing that is there already is overwritten. While
    the run goes on it is the record as it stands.
    """
    from runner.errors import InfrastructureError, UsageError

    record, handle = cli.look(run)
    if withheld:
        cli.engine.bring_withheld(handle)
    target = to if to is not None else Path(record.name)
    source = record if path is None else _inside(cli, record, path, withheld=withheld)
    if path is not None:
        target = target / source.relative_to(record.resolve())
    if target.exists():
        raise UsageError(
            f"{target} is there already", hint="name another place with --to, or move it away"
        )
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            _copy(record, source, target, whole=path is None, withheld=withheld)
        else:
            shutil.copy2(source, target, follow_symlinks=False)
    except OSError as error:
        raise InfrastructureError(
            f"{target}: cannot be copied: {error.strerror or error}"
        ) from error
    if cli.json:
        cli.emit(run_id=record.name, path=str(target))
    else:
        cli.say(str(target))
    return 0


def _inside(cli: Cli, record: Path, path: str, *, withheld: bool) -> Path:
    """What `path` names in the record; UsageError says what there is, where there is no such."""
    from runner.errors import UsageError
    from runner.record import WITHHELD

    root = record.resolve()
    found = (root / path).resolve()
    if not found.is_relative_to(root) or found == root:
        raise UsageError(f"{path}: expected a path inside of the record")
    if found.is_relative_to(root / WITHHELD) and not withheld:
        raise UsageError(
            f"{path}: was set aside, as it holds the value of a secret",
            hint="with --withheld it is copied as it is",
        )
    if found.exists():
        return found
    there = ", ".join(sorted(item.name for item in root.iterdir() if item.name[0] != "."))
    look = f"{cli.command('exec', record.name)} -- {shlex.join(['cat', path])}"
    raise UsageError(
        f"the record of {record.name} has no {path}; it has {there}",
        hint=f"a file that is in the sandbox only, while that runs: {look}",
    )


def _copy(record: Path, source: Path, target: Path, *, whole: bool, withheld: bool) -> None:
    """Copy a directory; of a whole record the truth first, so that what it names is in it."""
    from runner.record import WITHHELD, Record, rebuild

    if not whole:
        shutil.copytree(source, target, symlinks=True)
        return
    target.mkdir()
    # The journal is written before the transcript that names its lines: so it is copied after.
    for name in ("transcript.jsonl", "journal.jsonl"):
        if (source / name).exists():
            shutil.copy2(source / name, target / name)
    done = shutil.ignore_patterns(".lock", "transcript.jsonl", "journal.jsonl", ".*.tmp")

    def left_out(folder: str, names: list[str]) -> set[str]:
        aside = set() if withheld or Path(folder) != source else {WITHHELD}
        return {*done(folder, names), *aside}

    shutil.copytree(source, target, symlinks=True, ignore=left_out, dirs_exist_ok=True)
    if Record.open(record).alive():
        rebuild(target)
