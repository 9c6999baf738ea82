"""Sessions: the notebook of a sandbox, or its shell, with a workspace put in place."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from runner.agent.mcp_entry import SERVER
from runner.agent.prompt import model_facts
from runner.api.driven import DrivenRun
from runner.api.files import text_of
from runner.api.mcp_config import mcp_config
from runner.api.sandbox import TIMEOUT_S, Sandbox, checked, heeding
from runner.api.served import SERVED, Relay, Served
from runner.api.workspace import Workspace
from runner.config.sandbox import ExecutionMode, SandboxConfig
from runner.errors import UsageError
from runner.session import Channel, Result


@dataclass(frozen=True, eq=False)
class NotebookSession:
    """Where an agent works: the tools of a notebook, or of a shell alone."""

    sandbox: Sandbox
    workspace: Workspace
    mode: ExecutionMode

    def exec(
        self,
        code: str,
        *,
        hidden: bool = False,
        timeout: float = TIMEOUT_S,
        check: bool = True,
    ) -> Result:
        """Run code in a new cell; a hidden one is in the journal, and not in the notebook.

        Raises Failed where it raises, or goes on after `timeout` seconds, unless `check` is false.
        """
        with heeding(self.sandbox.session) as session:
            result = session.run(code, hidden=hidden, timeout_s=timeout)
        return checked("the cell", result, check=check)

    def exec_file(
        self, path: Path | str, *, hidden: bool = False, timeout: float = TIMEOUT_S
    ) -> Result:
        """Run a Python file of this machine in a new cell; as `exec`."""
        return self.exec(text_of(Path(path)), hidden=hidden, timeout=timeout)

    def terminate(self) -> None:
        """End its sandbox, as `Sandbox.terminate` does."""
        self.sandbox.terminate()

    @cached_property
    def mcp_config(self) -> Mapping[str, Any]:
        """How an MCP client starts a server of this session's tools; `run_agent` needs none.

        It works while the sandbox lives, for Claude's Agent SDK and others too.
        """
        return mcp_config(self.sandbox.run_id, self.sandbox.run.settings, self.mode.value)

    @property
    def jupyter_url(self) -> str:
        """The address of the live page, which lets one browser in, for a minute."""
        return self.sandbox.jupyter_url

    @property
    def model_info_text(self) -> str:
        """What the prompt says of models: their variables, or where they are; empty without any."""
        return "\n".join(model_facts(self.sandbox.run.plan))


_SESSIONS: list[NotebookSession] = []


def create_notebook_session(
    sandbox: Sandbox, workspace: Workspace | None = None
) -> NotebookSession:
    """Put a workspace into a sandbox's notebook.

    Raises UsageError for what is not there, and Failed where `custom_init_code` raises.
    """
    return _session(sandbox, workspace, ExecutionMode.NOTEBOOK)


def create_cli_session(sandbox: Sandbox, workspace: Workspace | None = None) -> NotebookSession:
    """The same for an agent that works with shell commands alone."""
    return _session(sandbox, workspace, ExecutionMode.CLI)


def create_local_notebook_session(
    workspace: Workspace | None = None,
    name: str | None = None,
    *,
    config: SandboxConfig | None = None,
    port: int | None = None,
    notebook_dir: Path | str | None = None,
    workspace_dir: Path | str | None = None,
) -> NotebookSession:
    """A notebook on this machine: a sandbox of its own on `local`, which `terminate` ends.

    `config` has its packages and secrets. Raises as `Sandbox.start` and `create_notebook_session`
    do, and UsageError for `notebook_dir` and `workspace_dir`: both are in the run's record.
    """
    given = {"notebook_dir": notebook_dir, "workspace_dir": workspace_dir}
    return _local(create_notebook_session, workspace, name, config, port, given)


def create_local_session(
    workspace: Workspace | None = None,
    name: str | None = None,
    *,
    config: SandboxConfig | None = None,
    workspace_dir: Path | str | None = None,
) -> NotebookSession:
    """The same for an agent that works with shell commands alone."""
    given = {"workspace_dir": workspace_dir}
    return _local(create_cli_session, workspace, name, config, None, given)


@dataclass(frozen=True)
class Place:
    """Where an agent works: a session if it has one, and what is served to it.

    `others` are entries of MCP servers that this process did not make, by name.
    """

    session: NotebookSession | None
    served: tuple[Served, ...]
    others: Mapping[str, Mapping[str, Any]]

    @property
    def driven(self) -> DrivenRun:
        """The run whose record has what it says: the session's, or the first interface's."""
        if self.session:
            return self.session.sandbox.driven
        return next(served.driven for served in self.served if served.driven)


def place_of(mcp_config: Mapping[str, Any]) -> Place:
    """What the entries of a config mean: `session.mcp_config`, what `serve` has returned, others.

    Raises UsageError where none of them is of this process.
    """
    session, served, others = None, [], {}
    for name, entry in mcp_config.items():
        own = [made for made in _SESSIONS if entry == made.mcp_config[SERVER]]
        theirs = [made for made in SERVED if entry == made.entry.get(made.name)]
        if not (own or theirs):
            others[name] = entry
        session = own[0] if own else session
        served += theirs
    if session is None and not served:
        raise UsageError(
            "mcp_config: no session of this process made it", hint="pass session.mcp_config"
        )
    return Place(session, tuple(served), others)


def _local(
    create: Callable[[Sandbox, Workspace | None], NotebookSession],
    workspace: Workspace | None,
    name: str | None,
    config: SandboxConfig | None,
    port: int | None,
    places: Mapping[str, Path | str | None],
) -> NotebookSession:
    if refused := sorted(key for key, place in places.items() if place is not None):
        raise UsageError(
            f"{', '.join(refused)}: notebook and files of a session are in the record of its run",
            hint="leave it out: session.sandbox.record is the directory, and "
            "`runner fetch RUN --to DIR` copies it",
        )
    config = config or SandboxConfig()
    if port is not None:
        config = SandboxConfig.model_validate(config.model_dump() | {"jupyter_port": port})
    sandbox = Sandbox(config, name=name, backend="local").start()
    try:
        return create(sandbox, workspace)
    except BaseException:
        sandbox.terminate()
        raise


def _relay(sandbox: Sandbox, served: Served) -> None:
    """Let code in this sandbox call what another one serves."""
    channel = Channel(sandbox.run.beside(), served.name)
    tokens = channel.open()
    known = json.dumps({"url": tokens.url, "token": tokens.caller})
    sandbox.write_file(f"{served.name}/_channel.json", known)
    Relay(channel, served)


def _session(sandbox: Sandbox, workspace: Workspace | None, mode: ExecutionMode) -> NotebookSession:
    workspace = workspace or Workspace()
    skills = workspace.all_skills
    for source, place in (*workspace.local_dirs, *workspace.local_files):
        sandbox.upload(source, place)
    for skill in skills:
        sandbox.upload(skill.path, skill.place)
    for library in workspace.libraries:
        for path, content in library.files:
            sandbox.write_file(path, content)
        if library.served is not None:
            _relay(sandbox, library.served)
    session = NotebookSession(sandbox, workspace, mode)
    for library in workspace.libraries:
        # An import that fails is better told now than to the agent.
        session.exec(f"import {library.name}", hidden=True)
    if workspace.custom_init_code:
        session.exec(workspace.custom_init_code, hidden=True)
    _SESSIONS.append(session)
    return session
