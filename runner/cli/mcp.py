"""`runner mcp`."""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from runner.cli.context import Cli
from runner.cli.options import Run

if TYPE_CHECKING:
    from runner.agent.tools import Others, Toolbox
    from runner.config.sandbox import ExecutionMode

Mode = Annotated[
    str | None,
    typer.Option(
        "--mode", metavar="MODE", help="notebook or cli: which tools; the experiment's if left out."
    ),
]
Served = Annotated[
    str | None,
    typer.Option(
        "--served",
        metavar="NAME",
        help="The functions of an interface that a script serves there, in place of those.",
    ),
]
Sandboxes = Annotated[
    bool,
    typer.Option(
        "--sandboxes",
        help="Tools that look after all of your sandboxes that go on, in place of one's own.",
    ),
]
Http = Annotated[
    int | None,
    typer.Option(
        "--http",
        metavar="PORT",
        min=0,
        max=65535,
        help="Serve streamable HTTP on this port of 127.0.0.1, 0 for a free one, with a token.",
    ),
]
Config = Annotated[
    bool, typer.Option("--config", help="Print what a client needs to start it, and serve nothing.")
]

EXAMPLES = """
runner mcp --config > .mcp.json
runner mcp --http 8931
runner mcp --sandboxes --config
claude mcp add runner -- runner mcp checkpoint-diffing-261123-0907-x7k2
"""


def command(
    cli: Cli,
    run: Run = None,
    mode: Mode = None,
    served: Served = None,
    sandboxes: Sandboxes = False,
    http: Http = None,
    config: Config = False,
) -> int:
    """Serve the notebook, shell and files of a run's sandbox as MCP tools.

    For Claude Code, Cursor and other clients of the Model Context Protocol, on stdin and stdout.
    With `--http` any number of clients on this machine connect instead: the entry with address and
    token is printed, and served until Ctrl-C.
    Cells are in the run's notebook, beside those of its agent, if it has one. A cell goes on when
    the client leaves. `--config` prints the entry for a client's own file.

    With `--sandboxes` the tools list, look into, use, snapshot and end your sandboxes: no other
    user's, as far as runs say whose they are.
    """
    from runner.agent.mcp_entry import SERVER
    from runner.api.mcp_config import SANDBOXES, management_config, mcp_config, not_installed
    from runner.config.sandbox import ExecutionMode
    from runner.errors import UsageError

    if sandboxes and (run or mode or served):
        raise UsageError("--sandboxes is for all of them: leave RUN, --mode and --served out")
    if mode not in (None, *ExecutionMode):
        raise UsageError(f"--mode: there is no mode {mode!r}", hint="notebook or cli")
    if config and http is not None:
        raise UsageError("--config and --http: one of them", hint="--http prints its entry itself")
    if config:
        if sandboxes:
            found = management_config(cli.settings)
        else:
            run_id = cli.attach(run)[1].run_id
            found = mcp_config(run_id, cli.settings, mode, served)
        cli.say(json.dumps({"mcpServers": found}, indent=None if cli.json else 2))
        return 0
    try:
        import runner.agent.mcp  # noqa: F401
    except ModuleNotFoundError as error:
        raise not_installed() from error
    if sandboxes:
        from runner.api.management import Management

        cli.note(f"serving tools for your sandboxes on {cli.settings.backend}")
        return _serve(cli, Management(cli.settings), SANDBOXES, http)
    with _tools_of(cli, run, mode, served) as tools:
        return _serve(cli, tools, served or SERVER, http)


@contextmanager
def _tools_of(
    cli: Cli, run: str | None, mode: str | None, served: str | None
) -> Iterator[Toolbox | Others]:
    """The tools of one run's sandbox, or of an interface that is served there."""
    from runner.agent.tools import Toolbox
    from runner.api.served import ServedTools, find
    from runner.cli.sandbox import connected
    from runner.config.sandbox import ExecutionMode

    path, handle = cli.attach(run)
    status = cli.engine.status(handle)
    chosen = ExecutionMode(mode) if mode else _mode_of(status.run.plan)
    with connected(cli, handle, status) as session:
        cli.note(f"serving the tools of {handle.run_id}; {path} is its record")
        yield ServedTools(find(session, served)) if served else Toolbox(session, chosen)


def _serve(cli: Cli, tools: Toolbox | Others, name: str, http: int | None) -> int:
    from runner.agent.mcp import http_server, serve
    from runner.agent.mcp_entry import http_entry
    from runner.api.mcp_config import listening

    if http is None:
        serve(tools)
        return 0
    with listening(http) as socket:
        token = secrets.token_urlsafe(32)
        entry = http_entry(socket.getsockname()[1], token, name)
        cli.say(json.dumps({"mcpServers": entry}, indent=None if cli.json else 2))
        http_server(tools, token).run(sockets=[socket])
    return 0


def _mode_of(plan: dict[str, object]) -> ExecutionMode:
    from runner.plan import RunPlan

    return RunPlan.model_validate(plan).experiment.sandbox.execution_mode
