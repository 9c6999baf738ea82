"""An API server of one namespace in memory, at the seam that look-ups before a run use."""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any

from runner.backends.kubernetes.resources import path_of
from runner.backends.kubernetes.translate import Conflict, Forbidden, NotFound

SPACE = "team"
EVERYTHING = {"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}


class FakeApi:
    """Objects by their paths; whatever is below a path of `forbidden` may not be read."""

    namespace = SPACE

    def __init__(self, *, forbidden: tuple[str, ...] = (), rules: Any = (EVERYTHING,)) -> None:
        self.objects: dict[str, dict[str, Any]] = {}
        self.forbidden, self.rules = forbidden, rules
        self.allowed: set[tuple[str, str, str]] = set()
        self.requests: list[tuple[str, str]] = []
        self._lock = threading.Lock()

    def put(self, resource: str, name: str, **content: Any) -> None:
        meta = {"name": name, **content.pop("metadata", {})}
        self.objects[path_of(resource, SPACE, name)] = {"metadata": meta, **content}

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        what: str = "",
    ) -> dict[str, Any]:
        with self._lock:
            self.requests.append((method, path))
            if path.endswith("reviews"):
                assert body is not None
                return {"status": self._reviewed(body)}
            if any(path.startswith(prefix) for prefix in self.forbidden):
                raise Forbidden(f"cannot {what}")
            return getattr(self, f"_{method.lower()}")(path, body)

    def _reviewed(self, body: Mapping[str, Any]) -> dict[str, Any]:
        if body["kind"] == "SelfSubjectReview":
            return {"userInfo": {"username": "jane"}}
        if body["kind"] == "SelfSubjectRulesReview":
            assert body["spec"] == {"namespace": SPACE}
            return {"resourceRules": list(self.rules), "incomplete": False}
        asked = body["spec"]["resourceAttributes"]
        name = "/".join(filter(None, (asked["resource"], asked.get("subresource"))))
        return {"allowed": (asked["verb"], asked["group"], name) in self.allowed}

    def _get(self, path: str, _: Any) -> dict[str, Any]:
        if path in self.objects:
            return self.objects[path]
        if path.rpartition("/")[2] in ("nodes", "resourcequotas", "limitranges", "localqueues"):
            below = [o for p, o in self.objects.items() if p.startswith(f"{path}/")]
            return {"metadata": {}, "items": below}
        raise NotFound(f"{path} not found")

    def _post(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        place = f"{path}/{body['metadata']['name']}"
        if place in self.objects:
            raise Conflict(f"{place} is there")
        self.objects[place] = dict(body)
        return self.objects[place]

    def _patch(self, path: str, body: Mapping[str, Any]) -> dict[str, Any]:
        if path not in self.objects:
            raise NotFound(f"{path} not found")
        self.objects[path].setdefault("data", {}).update(body["data"])
        return self.objects[path]
