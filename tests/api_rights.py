"""What somebody may do with each resource of an API server: every verb is tried for real.

Requests that would change something are dry runs, of names that nothing has. The API server
asks whether a request is allowed before it looks at anything else of it.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Any

from kubernetes.client import ApiClient

NOTHING = "no-such-thing"
METHODS = {"get": "GET", "create": "POST", "update": "PUT", "patch": "PATCH", "delete": "DELETE"}
COLLECTIONS = {"list": "GET", "watch": "GET", "deletecollection": "DELETE"}
_QUERIES = {"watch": "watch=1&timeoutSeconds=1", "deletecollection": "labelSelector=no=such"}

Right = tuple[str, str]
"""A verb, and a resource as `kubectl auth can-i` has it: `jobs.batch`, `pods/log`."""


@dataclass(frozen=True)
class Resource:
    """One of the API; `base` is the path of its group's version."""

    base: str
    group: str
    name: str
    namespaced: bool

    def __str__(self) -> str:
        return f"{self.name}.{self.group}" if self.group else self.name

    def path(self, verb: str, space: str | None, name: str) -> str:
        """What a verb is a request for."""
        kind, _, sub = self.name.partition("/")
        within = f"/namespaces/{space}" if space and kind != "namespaces" else ""
        alone = verb in COLLECTIONS or (verb == "create" and not sub)
        own = "" if alone else f"/{space if space and kind == 'namespaces' else name}"
        return f"{self.base}{within}/{kind}{own}{f'/{sub}' if sub else ''}"

    def verbs(self) -> Iterable[str]:
        """All that there are."""
        return METHODS if "/" in self.name else {**METHODS, **COLLECTIONS}


class Person:
    """Who has a kubeconfig."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    def ask(
        self, method: str, target: str, body: Any = None, **headers: str
    ) -> tuple[int, dict[str, Any]]:
        """The status, and the JSON of the answer if it is any."""
        configuration = self._api.configuration
        token = configuration.get_api_key_with_prefix("BearerToken", alias="authorization")
        known = {"Authorization": token} if token else {}
        kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
        answer = self._api.rest_client.pool_manager.request(
            method,
            configuration.host + target,
            headers={"Content-Type": kind, **known, **headers},
            body=None if body is None else json.dumps(body),
            retries=False,
        )
        try:
            return answer.status, json.loads(answer.data)
        except ValueError:
            return answer.status, {}

    def may(self, resource: Resource, verb: str, space: str | None, name: str = NOTHING) -> bool:
        """Whether the API server lets it through to what it does next."""
        dry = "" if verb in ("get", "list", "watch") else "dryRun=All"
        query = "&".join(filter(None, (dry, _QUERIES.get(verb, ""))))
        method = {**METHODS, **COLLECTIONS}[verb]
        body = {} if method in ("POST", "PUT", "PATCH") else None
        path = resource.path(verb, space, name)
        status, said = self.ask(method, f"{path}?{query}", body)
        assert status != 401, (path, said)
        # Admission refuses with 403 as well, but in other words.
        message = str(said.get("message", ""))
        return not (status == 403 and " cannot " in message and " resource " in message)

    def rights(self, resources: Iterable[Resource], space: str | None) -> set[Right]:
        """All that there are, in a namespace, or of the whole cluster for None."""
        return {
            (verb, str(resource))
            for resource in resources
            for verb in resource.verbs()
            if self.may(resource, verb, space)
        }


def resources(person: Person) -> Iterator[Resource]:
    """Every one that the API server has, subresources too."""
    groups = person.ask("GET", "/apis")[1]["groups"]
    bases = {f"/apis/{one['preferredVersion']['groupVersion']}": one["name"] for one in groups}
    for base, group in {"/api/v1": "", **bases}.items():
        status, said = person.ask("GET", base)
        assert status == 200, (base, said)
        for item in said["resources"]:
            yield Resource(base, group, item["name"], bool(item["namespaced"]))
