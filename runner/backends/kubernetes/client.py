"""The API server, by the official client: JSON in, JSON out, our errors, retries with a deadline.

The package's API classes (`CoreV1Api`) are not used: importing two of them takes 1.9 s of CPU,
as they make a pydantic validator for each of their methods; the rest of the package takes 0.5 s.
"""

from __future__ import annotations

import json
import threading
import time
from collections.abc import Callable, Iterator, Mapping, MutableSequence
from datetime import datetime
from email.utils import parsedate_to_datetime
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlencode

import tenacity

from runner.backends.kubernetes.configuration import Access, kubeconfig, load
from runner.backends.kubernetes.resources import path_of
from runner.backends.kubernetes.translate import (
    Forbidden,
    NotFound,
    NotTaken,
    Transient,
    Unauthorized,
    refusal,
    translated,
)
from runner.errors import InfrastructureError

if TYPE_CHECKING:
    from kubernetes.client import ApiClient
    from urllib3 import BaseHTTPResponse

__all__ = ["Client", "connect", "translated"]

FIRST_S = 2.0
"""How long a cluster that has never answered is tried."""
PATIENCE_S = 20.0
"""How long one that has answered before is: its API server may be restarting."""
SETTLES_S = 30.0
"""After it was away it may refuse for some seconds what it allows: its Roles are not loaded yet."""
T = TypeVar("T")

CONNECT_S, READ_S = 5.0, 30.0
PAGE = 500
FIELD_MANAGER = "runner"
MERGE = "application/merge-patch+json"
_AGAIN_METHODS = ("GET", "DELETE", "PATCH")
"""Doing these twice is as doing them once; a POST is done again if it was not sent or taken."""


def connect(context: str | None = None, namespace: str | None = None) -> Client:
    """The client for a context of the kubeconfig, as kubectl would choose it; asks nothing yet.

    Raises UsageError where there is no kubeconfig, or no such context.
    """
    again = partial(load, kubeconfig(), context, namespace)
    return Client(again(), again=again)


class Client:
    """Calls of one namespace's API; any thread may use it.

    `resource` is the plural name in the API (`pods`, `jobs`): resources.py has those we know.
    All methods raise the errors of translate.py.
    """

    def __init__(self, access: Access, *, again: Callable[[], Access] | None = None) -> None:
        """Use this access; `again()` loads it anew when its credentials are refused."""
        self.access = access
        self.namespace = access.namespace
        self._again = again
        self.reached = False
        self._away = float("-inf")  # when it did not answer last
        self._lock = threading.Lock()

    def __repr__(self) -> str:
        """Where, and no credentials."""
        return f"Client({self.access!r})"

    # -- objects ---------------------------------------------------------------------------

    def create(
        self,
        resource: str,
        manifest: Mapping[str, Any],
        *,
        dry_run: bool = False,
        warnings: MutableSequence[str] | None = None,
    ) -> dict[str, Any]:
        """Make an object; `warnings` gets what the API server warns of."""
        query = {"fieldManager": FIELD_MANAGER, **({"dryRun": "All"} if dry_run else {})}
        name = manifest.get("metadata", {}).get("name", "")
        what = f"create {resource}/{name}"
        path = path_of(resource, self.namespace)
        return self.request("POST", path, query, manifest, what=what, warnings=warnings)

    def read(self, resource: str, name: str) -> dict[str, Any]:
        """One object. Raises NotFound."""
        path = path_of(resource, self.namespace, name)
        return self.request("GET", path, what=f"read {resource}/{name}")

    def list(
        self, resource: str, *, labels: str = "", fields: str = "", everywhere: bool = False
    ) -> list[dict[str, Any]]:
        """The objects that the selectors choose; `everywhere`: of all namespaces."""
        query = {"limit": str(PAGE), "labelSelector": labels, "fieldSelector": fields}
        path = path_of(resource, self.namespace, everywhere=everywhere)
        items: list[dict[str, Any]] = []
        while True:
            page = self.request("GET", path, query, what=f"list {resource}")
            items += page.get("items") or ()
            query["continue"] = page["metadata"].get("continue") or ""
            if not query["continue"]:
                return items

    def patch(self, resource: str, name: str, patch: Mapping[str, Any]) -> dict[str, Any]:
        """Change an object by a merge patch."""
        path = path_of(resource, self.namespace, name)
        query = {"fieldManager": FIELD_MANAGER}
        return self.request("PATCH", path, query, patch, what=f"change {resource}/{name}")

    def delete(
        self,
        resource: str,
        name: str,
        *,
        propagation: str = "Background",
        grace_s: int | None = None,
    ) -> None:
        """Remove an object; one that is gone is no error."""
        options = _delete_options(propagation, grace_s)
        path = path_of(resource, self.namespace, name)
        try:
            self.request("DELETE", path, body=options, what=f"delete {resource}/{name}")
        except NotFound:
            return

    def delete_all(self, resource: str, *, labels: str, grace_s: int | None = None) -> None:
        """Remove the objects with these labels."""
        options, path = _delete_options("Background", grace_s), path_of(resource, self.namespace)
        query = {"labelSelector": labels}
        self.request("DELETE", path, query, options, what=f"delete {resource} with {labels}")

    def log(
        self, pod: str, container: str, *, follow: bool = False, tail: int | None = None
    ) -> Iterator[bytes]:
        """What a container has printed, in pieces as they come; with `follow` until it ends."""
        query = {
            "container": container,
            "follow": "true" if follow else "",
            "tailLines": "" if tail is None else str(tail),
        }
        what = f"read the log of {pod}/{container}"
        path = path_of("pods", self.namespace, pod) + "/log"
        response = self._send("GET", path, query, what=what, read_s=None if follow else READ_S)
        with translated(what, server=self.access.server):
            try:
                yield from response.stream(amt=None)
            finally:
                response.close()

    def may(self, verb: str, resource: str, subresource: str = "") -> bool:
        """Whether the user has this right in the namespace."""
        group = path_of(resource, self.namespace).split("/")
        asked = {
            "namespace": self.namespace,
            "verb": verb,
            "group": group[2] if group[1] == "apis" else "",
            "resource": resource,
            "subresource": subresource,
        }
        path = path_of("selfsubjectaccessreviews", self.namespace)
        review = {"spec": {"resourceAttributes": asked}}
        answer = self.request("POST", path, body=review, what="ask what you may do")
        return bool(answer["status"].get("allowed"))

    def clock(self) -> datetime:
        """The API server's, to the second."""
        what = "ask for the server's time"
        response = self._send("GET", "/version", what=what)
        with translated(what, server=self.access.server):
            response.release_conn()
        return parsedate_to_datetime(response.headers["Date"])

    # -- requests --------------------------------------------------------------------------

    def request(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        what: str = "",
        warnings: MutableSequence[str] | None = None,
    ) -> dict[str, Any]:
        """Any request of the API whose answer is JSON; empty values of `query` are left out."""
        what = what or f"{method} {path}"
        response = self._send(method, path, query, body, what=what)
        with translated(what, server=self.access.server):
            text = response.data
        try:
            data: dict[str, Any] = json.loads(text)
        except ValueError as error:
            raise InfrastructureError(
                f"cannot {what}: {self.access.server} answers, but not as Kubernetes does",
                hint="is `server` in the kubeconfig right, or does a proxy or login page answer?",
            ) from error
        if warnings is not None:
            warnings.extend(text.split('"')[1] for text in response.headers.getlist("Warning"))
        return data

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str] | None = None,
        body: Mapping[str, Any] | None = None,
        *,
        what: str,
        read_s: float | None = READ_S,
    ) -> BaseHTTPResponse:
        asked = urlencode({key: value for key, value in (query or {}).items() if value})
        target = f"{path}?{asked}" if asked else path
        return self.patiently(
            lambda: self._answer(method, target, body, what, read_s),
            passes=lambda error: _passes(error, method),
        )

    def patiently(self, call: Callable[[], T], *, passes: Callable[[BaseException], bool]) -> T:
        """Call until it succeeds, while its errors are of those that pass, until a deadline.

        Credentials that are refused are loaded anew, once. An API server that has just been
        started again is not believed when it refuses.
        """

        def once() -> T:
            access = self.access
            try:
                return call()
            except Unauthorized:
                if self._again is None:
                    raise
                self._renew(access)
                return call()
            except Transient:
                self._away = time.monotonic()
                raise

        def again(error: BaseException) -> bool:
            settles = time.monotonic() - self._away < SETTLES_S
            return passes(error) or (settles and isinstance(error, Forbidden | Unauthorized))

        return tenacity.Retrying(
            retry=tenacity.retry_if_exception(again),
            stop=tenacity.stop_after_delay(PATIENCE_S if self.reached else FIRST_S),
            wait=tenacity.wait_exponential(0.1, 2.0) + tenacity.wait_random(0, 0.2),
            reraise=True,
        )(once)

    def _answer(
        self, method: str, target: str, body: Any, what: str, read_s: float | None
    ) -> BaseHTTPResponse:
        headers = {"Accept": "application/json", "User-Agent": FIELD_MANAGER}
        if body is not None:
            headers["Content-Type"] = MERGE if method == "PATCH" else "application/json"
        authorization = self.access.authorization()
        if authorization:
            headers["Authorization"] = authorization
        with translated(what, server=self.access.server):
            given = self.api.rest_client.request(
                method,
                self.access.server + target,
                headers=headers,
                body=body,
                _request_timeout=(CONNECT_S, read_s),
            )
            response: BaseHTTPResponse = given.response
            self.reached = True
            if not 200 <= response.status < 300:
                raise refusal(what, response.status, response.data.decode("utf-8", "replace"))
        return response

    def _renew(self, refused: Access) -> None:
        """Load the credentials anew, unless another thread has just done it."""
        with self._lock:
            if self.access is refused and self._again is not None:
                self.access = self._again()
                self.__dict__.pop("api", None)

    # -- the official client ---------------------------------------------------------------

    @cached_property
    def api(self) -> ApiClient:
        """The official client with this configuration."""
        from kubernetes.client import ApiClient

        return ApiClient(self.access.configuration)


def _passes(error: BaseException, method: str) -> bool:
    """Whether to try again."""
    if not isinstance(error, Transient):
        return False
    if method in _AGAIN_METHODS or isinstance(error, NotTaken):
        return True
    from urllib3.exceptions import ConnectTimeoutError, NewConnectionError

    return isinstance(error.__cause__, NewConnectionError | ConnectTimeoutError)


def _delete_options(propagation: str, grace_s: int | None) -> dict[str, Any]:
    options: dict[str, Any] = {"propagationPolicy": propagation}
    if grace_s is not None:
        options["gracePeriodSeconds"] = grace_s
    return options
