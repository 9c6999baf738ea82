"""The ways to a run's record on an engine: its agent's container, or one that is made for it."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING

from runner.backends.docker import containers
from runner.backends.docker.exec import Exec
from runner.backends.docker.names import RECORD, RUN, STEP, STORE, thing
from runner.backends.docker.snapshot import snapshot
from runner.backends.reach import COMMAND, Agent
from runner.errors import InfrastructureError, RunNotFound
from runner.images.engine import translated

if TYPE_CHECKING:
    from docker import DockerClient

    from runner.store.store import Store


BEGIN_S = 5.0
"""How long an agent may take from its container's start to having its record."""


class ContainerReach:
    """The ways to one run's record."""

    store_name = "the Docker engine"

    def __init__(self, client: DockerClient, run_id: str) -> None:
        """Nothing is reached yet."""
        self._client, self._run_id = client, run_id

    def agent(self, *, coming: bool = False) -> Agent | None:
        """The agent that runs now, also while others still prepare.

        With `coming`, one that has just been started counts as not running yet: the record
        may end with an earlier agent's words, and nobody have taken it over.
        """
        agent = snapshot(self._client, self._run_id).get("agent")
        if agent is None or not agent.runs or agent.started is None:
            return None
        age = datetime.now(UTC) - datetime.fromisoformat(agent.started)
        return Agent(agent.id, agent.id, running=not coming or age.total_seconds() > BEGIN_S)

    def in_agent(self, place: str, *words: str, stdin: Iterable[bytes] | None) -> Exec:
        """Start a command in the agent's container."""
        return Exec(self._client, place, [*COMMAND, *words], stdin)

    @contextlib.contextmanager
    def opened(self) -> Iterator[str]:
        """A container that has the volume of the record, removed afterwards."""
        from docker.errors import DockerException, NotFound
        from requests.exceptions import RequestException

        volume = thing(self._run_id, RECORD)
        with translated(f"reaching the record of {self._run_id}"):
            try:
                self._client.api.inspect_volume(volume)
            except NotFound as error:
                raise RunNotFound(
                    f"the Docker engine has no run {self._run_id!r}",
                    hint="`runner list` shows the runs; was it made elsewhere?",
                ) from error
            labels = {RUN: self._run_id, STEP: STORE}
            body = containers.store(labels, self._run_id, self._image())
            name = thing(self._run_id, f"{STORE}-{secrets.token_hex(2)}")
            made = self._client.api.create_container_from_config(body, name)["Id"]
        try:
            with translated(f"reaching the record of {self._run_id}"):
                self._client.api.start(made)
            yield made
        finally:
            # It goes by itself as well; an engine that is gone has said so already.
            with contextlib.suppress(DockerException, RequestException):
                self._client.api.remove_container(made, force=True, v=True)

    def in_store(self, place: str, *words: str, stdin: Iterable[bytes] | None) -> Exec:
        """Start a command in such a container."""
        return Exec(self._client, place, [*COMMAND, *words], stdin)

    def store(self) -> Store | None:
        """None: records are on volumes."""
        return None

    def _image(self) -> str:
        """An image with our commands: that of the run's agent, else the newest agent's."""
        from runner.images.local import agents

        agent = snapshot(self._client, self._run_id).get("agent")
        if agent is not None:
            return agent.image
        if found := agents(self._client):
            return found[0].id
        raise InfrastructureError(
            "the engine has no image of the agent, in which the record can be read",
            hint="runner images build agent",
        )
