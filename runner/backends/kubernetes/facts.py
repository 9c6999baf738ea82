"""What is looked up in the cluster before a run is started: all at once, nothing is changed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, field, replace
from enum import StrEnum
from typing import Any, NamedTuple, Protocol
from urllib.parse import quote

from runner.backends.kubernetes.resources import path_of
from runner.backends.kubernetes.translate import Forbidden, NotFound

MOST = 500
"""Of a longer list nothing is known."""

AT_ONCE = 12
"""Requests to the API server."""
WHAT = "look up what the namespace has"

AUTHORIZATION = "authorization.k8s.io/v1"
KUEUE = "kueue.x-k8s.io"
_OF_KUEUE = ("LocalQueue", "WorkloadPriorityClass")
_PLURALS = {
    "Secret": "secrets",
    "ConfigMap": "configmaps",
    "PersistentVolumeClaim": "persistentvolumeclaims",
    "ServiceAccount": "serviceaccounts",
    "PriorityClass": "priorityclasses",
    "RuntimeClass": "runtimeclasses",
    "LocalQueue": "localqueues",
    "WorkloadPriorityClass": "workloadpriorityclasses",
}


class Ref(NamedTuple):
    """An object of the cluster."""

    kind: str
    name: str


class Right(NamedTuple):
    """What somebody may do in the namespace; one of the verbs, divided by `|`, is enough."""

    verb: str
    group: str
    resource: str

    def __str__(self) -> str:
        kind = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb.split('|')[0]} {kind}"


class Look(StrEnum):
    """What came of looking for an object."""

    THERE = "there"
    ABSENT = "absent"
    HIDDEN = "hidden"
    """The user may not know."""


@dataclass(frozen=True)
class Answer:
    """What the API server said. Of a Secret the keys that are not empty, never a value."""

    look: Look
    data: Mapping[str, Any] = field(default_factory=dict, repr=False)
    keys: frozenset[str] = frozenset()
    """Of a Secret or ConfigMap."""
    others: tuple[str, ...] = ()
    """Where it is absent: names of the same kind that are there, if they were looked for."""
    no_kueue: bool = False
    """It is Kueue's, which is not installed."""


ABSENT, HIDDEN = Answer(Look.ABSENT), Answer(Look.HIDDEN)


@dataclass(frozen=True)
class Facts:
    """What the run's own objects are checked against; None for a list that may not be read."""

    objects: Mapping[Ref, Answer] = field(default_factory=dict)
    denied: tuple[Right, ...] = ()
    nodes: tuple[Mapping[str, Any], ...] | None = None
    quotas: tuple[Mapping[str, Any], ...] | None = None
    limits: tuple[Mapping[str, Any], ...] | None = None


class Asked(Protocol):
    """What is used of a Client."""

    @property
    def namespace(self) -> str:
        """The team's."""
        ...

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        what: str = "",
    ) -> dict[str, Any]:
        """The API server's JSON. Raises NotFound, Forbidden and what translate.py has besides."""
        ...


def look_up(
    client: Asked, refs: Iterable[Ref], rights: Sequence[Right], pool: Executor
) -> Callable[[], Facts]:
    """Begin to look all of this up; the function that is returned waits for it."""
    space = client.namespace
    found = objects(client, refs, pool)
    denied = pool.submit(denied_of, client, rights)
    nodes = pool.submit(_items, client, path_of("nodes", space))
    quotas = pool.submit(_items, client, path_of("resourcequotas", space))
    limits = pool.submit(_items, client, path_of("limitranges", space))

    def wait() -> Facts:
        return Facts(
            objects=found(),
            denied=denied.result(),
            nodes=nodes.result(),
            quotas=quotas.result(),
            limits=limits.result(),
        )

    return wait


def objects(client: Asked, refs: Iterable[Ref], pool: Executor) -> Callable[[], dict[Ref, Answer]]:
    """Begin to look up objects, each once; the function that is returned waits for them."""
    begun = {ref: pool.submit(_object, client, ref) for ref in dict.fromkeys(refs)}
    return lambda: {ref: future.result() for ref, future in begun.items()}


def _object(client: Asked, ref: Ref) -> Answer:
    if ref.kind in _OF_KUEUE:
        return _of_kueue(client, ref)
    answer = _get(client, path_of(_PLURALS[ref.kind], client.namespace, ref.name))
    if ref.kind not in ("Secret", "ConfigMap"):
        return answer
    filled = (key for key, value in (answer.data.get("data") or {}).items() if value)
    return Answer(answer.look, keys=frozenset(filled))


def _of_kueue(client: Asked, ref: Ref) -> Answer:
    """By the version that this cluster's Kueue prefers."""
    group = _get(client, f"/apis/{KUEUE}")
    if group.look is not Look.THERE:
        return replace(group, no_kueue=group.look is Look.ABSENT)
    version = group.data["preferredVersion"]["groupVersion"]
    space = f"/namespaces/{quote(client.namespace)}" if ref.kind == "LocalQueue" else ""
    folder = f"/apis/{version}{space}/{_PLURALS[ref.kind]}"
    answer = _get(client, f"{folder}/{quote(ref.name)}")
    if answer.look is not Look.ABSENT:
        return answer
    names = (item["metadata"]["name"] for item in _items(client, folder) or ())
    return Answer(Look.ABSENT, others=tuple(names))


def _get(client: Asked, path: str, query: Mapping[str, str] | None = None) -> Answer:
    try:
        return Answer(Look.THERE, client.request("GET", path, query, what=WHAT))
    except NotFound:
        return ABSENT
    except Forbidden:
        return HIDDEN


def _items(client: Asked, path: str) -> tuple[Mapping[str, Any], ...] | None:
    answer = _get(client, path, {"limit": str(MOST)})
    if answer.look is not Look.THERE or answer.data.get("metadata", {}).get("continue"):
        return None
    return tuple(answer.data.get("items") or ())


def denied_of(client: Asked, rights: Sequence[Right]) -> tuple[Right, ...]:
    """The rights that are missing. What the review of rules does not tell is asked one by one."""
    said = _review(client, "SelfSubjectRulesReview", {"namespace": client.namespace})
    rules = said.get("resourceRules") or ()
    doubtful = [right for right in rights if not any(_allows(rule, right) for rule in rules)]
    return tuple(right for right in doubtful if not _may(client, right))


def _review(client: Asked, kind: str, spec: Mapping[str, Any]) -> Mapping[str, Any]:
    body = {"apiVersion": AUTHORIZATION, "kind": kind, "spec": spec}
    path = f"/apis/{AUTHORIZATION}/{kind.lower()}s"
    return client.request("POST", path, None, body, what=WHAT).get("status") or {}


def _allows(rule: Mapping[str, Any], right: Right) -> bool:
    sub = right.resource.partition("/")[2]
    names = {"*", right.resource, *([f"*/{sub}"] if sub else [])}
    return (
        not rule.get("resourceNames")
        and bool({"*", *right.verb.split("|")} & set(rule.get("verbs") or ()))
        and bool({"*", right.group} & set(rule.get("apiGroups") or ()))
        and bool(names & set(rule.get("resources") or ()))
    )


def _may(client: Asked, right: Right) -> bool:
    resource, _, sub = right.resource.partition("/")
    for verb in right.verb.split("|"):
        asked = {
            "namespace": client.namespace,
            "verb": verb,
            "group": right.group,
            "resource": resource,
            **({"subresource": sub} if sub else {}),
        }
        if _review(client, "SelfSubjectAccessReview", {"resourceAttributes": asked}).get("allowed"):
            return True
    return False
