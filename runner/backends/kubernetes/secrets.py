"""The team's secrets in the namespace: which there are, and how one is put there. No value is read.

A Secret comes from the API server as a whole; only the names of its keys are kept.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

from runner.backends.kubernetes.facts import AT_ONCE, Answer, Asked, Look, Ref, objects
from runner.backends.kubernetes.resources import path_of
from runner.backends.kubernetes.translate import Conflict, NotFound, Refused
from runner.cluster import Cluster, SecretKey
from runner.config import checks
from runner.config.experiment import DEFAULT_LLM_SECRET
from runner.errors import UsageError

LABELS = {
    "app.kubernetes.io/name": "runner",
    "app.kubernetes.io/component": "secrets",
    "app.kubernetes.io/managed-by": "runner",
}
"""Of a Secret that we make; one that is there keeps its own."""
_FIELD_MANAGER = {"fieldManager": "runner"}


@dataclass(frozen=True)
class Held:
    """Where the value of a name has to be, and what is there."""

    name: str
    where: SecretKey
    look: Look


@dataclass(frozen=True)
class Put:
    """What came of putting a value there."""

    made: bool
    """The Secret was not there before."""
    owner: str
    """Who else writes the Secret, and may put back what was there; usually nobody."""


def held(client: Asked, cluster: Cluster, names: Iterable[str]) -> list[Held]:
    """Whether the values of these names are there; one look-up for each Secret."""
    wanted = {name: cluster.secrets.where(name) for name in names}
    answers = _look(client, {where.secret for where in wanted.values()})
    return [Held(name, where, _of(answers[where.secret], where)) for name, where in wanted.items()]


def known(client: Asked, cluster: Cluster) -> list[Held]:
    """All the names that experiments can use, and the default key of the model's provider."""
    default = _look(client, {cluster.secrets.default})[cluster.secrets.default]
    keys = {key for key in default.keys if checks.is_secret_name(key)}
    return held(client, cluster, sorted({DEFAULT_LLM_SECRET, *cluster.secrets.named, *keys}))


def put(client: Asked, where: SecretKey, value: str) -> Put:
    """Set the value of a key; a Secret that is missing is made.

    Raises UsageError where the user may not, or the Secret cannot be changed.
    """
    data = {"data": {where.key: base64.b64encode(value.encode()).decode()}}
    what = f"set the key {where.key} of the Secret {where.secret}"
    try:
        try:
            return _patch(client, where, data, what)
        except NotFound:
            return _create(client, where, data, what)
    except Refused as error:
        raise UsageError(
            error.message,
            hint=f"kubectl describe secret {where.secret} --namespace "
            f"{client.namespace}; one that is immutable has to be deleted and made anew",
        ) from error


def _create(client: Asked, where: SecretKey, data: Mapping[str, Any], what: str) -> Put:
    metadata = {"name": where.secret, "labels": LABELS}
    body = {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "type": "Opaque", **data}
    path = path_of("secrets", client.namespace)
    try:
        client.request("POST", path, _FIELD_MANAGER, body, what=what)
    except Conflict:  # somebody else has just made it
        return _patch(client, where, data, what)
    return Put(made=True, owner="")


def _patch(client: Asked, where: SecretKey, data: Mapping[str, Any], what: str) -> Put:
    path = path_of("secrets", client.namespace, where.secret)
    metadata = client.request("PATCH", path, _FIELD_MANAGER, data, what=what)["metadata"]
    owners = [f"{one['kind']} {one['name']}" for one in metadata.get("ownerReferences") or ()]
    return Put(made=False, owner=", ".join(owners))


def _look(client: Asked, secrets: Iterable[str]) -> dict[str, Answer]:
    refs = [Ref("Secret", name) for name in secrets]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        return {ref.name: answer for ref, answer in objects(client, refs, pool)().items()}


def _of(answer: Answer, where: SecretKey) -> Look:
    if answer.look is Look.THERE and where.key not in answer.keys:
        return Look.ABSENT
    return answer.look
