"""List, set and check the secrets that experiments name. Values are never shown.

On a cluster they are in Secrets of the team's namespace, where anybody who may start runs could
read them; on this machine they come from the environment or a .env file.
"""

from __future__ import annotations

import sys
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.backends.kubernetes.secrets import Held
    from runner.cluster import Cluster

LONGEST = 512 * 1024
"""Bytes of a value; a Kubernetes Secret holds 1 MiB in all."""
THERE, MISSING, UNKNOWN = "there", "missing", "unknown"

SecretName = Annotated[
    str, typer.Argument(metavar="NAME", help="The name experiments use.", show_default=False)
]
Experiments = Annotated[
    Path | None,
    typer.Argument(
        metavar="[FILE]",
        help="The experiment; without one, all that `list` shows is checked.",
        show_default=False,
    ),
]


@dataclass(frozen=True)
class Row:
    """A secret's name, where its value is to be, and whether it is there."""

    name: str
    place: str
    state: str


def list_(cli: Cli) -> int:
    """List the names of secrets, where each is, and whether it has a value there.

    On a cluster: the keys of the team's Secret, and what the chart's values name besides. On
    this machine: what .env has, and variables that are called a key, token, secret or password.
    """
    _show(cli, _known(cli))
    return 0


def set_(cli: Cli, context: typer.Context, name: SecretName) -> int:
    """Put a secret's value into the team's namespace, in place of the one that is there.

    The value is typed in, unseen, or read from stdin; it is never an argument, which others could
    see. A line break at its end is taken away.
    """
    from runner.config import checks
    from runner.errors import UsageError

    if context.args:  # not left to the parser, which would repeat it
        raise UsageError(
            "a value is no argument: whoever is on this machine can see it, and the shell keeps it",
            hint="nothing was changed; have the secret replaced where it came from, "
            "then: runner secrets set NAME",
        )
    if not checks.is_secret_name(name):
        raise UsageError(
            "that is no secret's name: it has upper case letters, digits and `_`",
            hint="runner secrets set NAME, and the value when it asks, or on stdin",
        )
    if not _on_cluster(cli):
        raise UsageError(
            f"`secrets set {name}` needs a cluster: on `local` there is no place for secrets "
            "but your own",
            hint=f"write {name}=… into .env beside the experiment, or export it; "
            "--backend kubernetes sets it in the cluster",
        )
    from runner.backends.kubernetes.secrets import put

    client, cluster = _cluster(cli)
    where = cluster.secrets.where(name)
    value = _value(cli, name)
    done = put(client, where, value)
    if done.owner:
        cli.note(f"note: {done.owner} writes this Secret too, and may put the old value back")
    if cli.json:
        cli.emit(name=name, secret=where.secret, key=where.key, created=done.made)
    else:
        made = ", which was made" if done.made else ""
        cli.say(f"{name}: set as the key {where.key} of the Secret {where.secret}{made}")
    return 0


def check(cli: Cli, file: Experiments = None) -> int:
    """Check that an experiment's secrets have values, the key of its model among them.

    Exit status 2 where one is missing; all of them are told.
    """
    from runner.errors import UsageError

    rows = _known(cli) if file is None else _of(cli, file)
    _show(cli, rows)
    missing = [row.name for row in rows if row.state == MISSING]
    if not missing:
        return 0
    if cli.json:
        return UsageError.exit_status
    commands = "; ".join(f"runner secrets set {name}" for name in missing)
    raise UsageError(
        f"missing secrets: {', '.join(missing)}",
        hint=commands if _on_cluster(cli) else "export them, or write NAME=value lines into .env",
    )


def _on_cluster(cli: Cli) -> bool:
    return cli.settings.backend == "kubernetes"


def _cluster(cli: Cli) -> tuple[Client, Cluster]:
    from runner.backends.kubernetes.client import connect
    from runner.backends.kubernetes.resolve import load_cluster

    own = cli.settings.kubernetes
    client = connect(context=own.context, namespace=own.namespace)
    return client, load_cluster(client)


def _known(cli: Cli) -> list[Row]:
    from runner import secrets
    from runner.config.experiment import DEFAULT_LLM_SECRET

    if _on_cluster(cli):
        from runner.backends.kubernetes.secrets import known

        return _rows(known(*_cluster(cli)))
    folders = [Path.cwd()]
    names = sorted({DEFAULT_LLM_SECRET, *secrets.known(folders)})
    return _local(names, folders)


def _of(cli: Cli, file: Path) -> list[Row]:
    from runner.config.load import load

    experiment = load(file)
    if _on_cluster(cli):
        from runner.backends.kubernetes.secrets import held

        client, cluster = _cluster(cli)
        return _rows(held(client, cluster, experiment.secrets))
    return _local(experiment.secrets, [file.absolute().parent, Path.cwd()])


def _rows(found: Iterable[Held]) -> list[Row]:
    states = {"there": THERE, "absent": MISSING, "hidden": UNKNOWN}
    return [Row(one.name, f"{one.where.secret}/{one.where.key}", states[one.look]) for one in found]


def _local(names: Iterable[str], folders: Iterable[Path]) -> list[Row]:
    from runner.secrets import places

    found = places(names, folders).items()
    return [Row(name, place or "", THERE if place else MISSING) for name, place in found]


def _show(cli: Cli, rows: Iterable[Row]) -> None:
    from runner.cli.list import table

    rows = list(rows)
    if cli.json:
        for row in rows:
            cli.emit(**vars(row))
    elif rows:
        table([("NAME", "PLACE", "STATE"), *((r.name, r.place or "–", r.state) for r in rows)], cli)
    else:
        cli.note("it names no secrets")
    if any(row.state == UNKNOWN for row in rows):
        cli.note("unknown: you may not read these Secrets")


def _value(cli: Cli, name: str) -> str:
    """The value, from the terminal or stdin, without the line break that ends it."""
    import getpass

    from runner.errors import UsageError

    if sys.stdin.isatty():
        try:
            data = getpass.getpass(f"value of {name}, which is not shown: ").encode()
        except (EOFError, UnicodeError):
            raise UsageError(f"no value of {name} was given", hint="nothing was changed") from None
        if data.startswith(b"-----BEGIN"):  # the terminal gives the first line alone
            hint = f"nothing was changed: runner secrets set {name} < FILE"
            raise UsageError(f"the value of {name} has more than one line", hint=hint)
    else:
        data = sys.stdin.buffer.read(LONGEST + 1)
    if len(data) > LONGEST:
        raise UsageError(f"the value of {name} is larger than {LONGEST // 1024} KiB")
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise UsageError(f"the value of {name} is no text in UTF-8") from None
    value = text.removesuffix("\n")
    if value != text:
        value = value.removesuffix("\r")
        cli.note("a line break at the end of the value was taken away")
    _check(name, value)
    if "\n" in value:
        cli.note(f"note: the value has {value.count(chr(10)) + 1} lines")
    return value


def _check(name: str, value: str) -> None:
    """Refuse what is surely no value; what it is like is not told."""
    from runner.errors import UsageError

    if not value.strip():
        raise UsageError(f"the value of {name} is empty", hint="nothing was changed")
    if "\0" in value or value != value.strip():
        raise UsageError(
            f"the value of {name} begins or ends with white space, or has NUL characters in it",
            hint="nothing was changed: give the value alone",
        )
    if value.startswith((f"{name}=", "export ")):
        raise UsageError(
            f"the value of {name} begins as a line of a .env file does",
            hint=f"nothing was changed: give what comes after `{name}=`",
        )


COMMANDS = {"list": list_, "set": set_, "check": check}
EXAMPLES = {
    "list": """
runner secrets list
runner secrets list --backend kubernetes --json | jq -r 'select(.state=="missing").name'
""",
    "set": """
runner secrets set ANTHROPIC_API_KEY --backend kubernetes
pass show lab/hf | runner secrets set HF_TOKEN --backend kubernetes
""",
    "check": """
runner secrets check experiment.toml
runner secrets check experiment.toml --backend kubernetes
""",
}
