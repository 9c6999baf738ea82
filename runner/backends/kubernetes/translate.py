"""What an API server or the way to it refused, in our words; the one place that does this.

InfrastructureError
├── Transient       may pass by itself: not reached, restarting, overloaded, a conflict of writers
├── NotFound        404: the object is not there
├── Conflict        409: there already, or changed meanwhile
└── Untrusted       TLS: the server's certificate is not the one the kubeconfig expects
UsageError
├── Unauthorized    401: the credentials have expired, or are unknown
├── Forbidden       403: no right to do this
├── Refused         403 of an admission rule, 400, 413, 422: the object itself is refused
└── NoNamespace     404: the namespace does not exist
"""

from __future__ import annotations

import contextlib
import json
import re
import ssl
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from runner.errors import InfrastructureError, RunnerError, UsageError

RESEARCHER = "runner-researcher"
"""The Role that the chart makes for those who submit."""

_RIGHT = re.compile(
    r'User "(?P<user>[^"]*)" cannot (?P<verb>\S+) resource "(?P<resource>[^"]+)" in API group '
    r'"(?P<group>[^"]*)"(?: in the namespace "(?P<namespace>[^"]+)")?'
)
_LONGEST = 600


class Transient(InfrastructureError):
    """May pass by itself."""


class NotTaken(Transient):
    """May pass by itself, and nothing was done: what was asked may be asked again."""


class NotFound(InfrastructureError):
    """The object is not there."""


class Conflict(InfrastructureError):
    """There is one of that name already, or somebody changed it meanwhile."""


class Untrusted(InfrastructureError):
    """The server at that address is not the one that the kubeconfig expects."""


class Unauthorized(UsageError):
    """The API server does not accept the credentials."""


class Forbidden(UsageError):
    """The user has no right to do this."""


class Refused(UsageError):
    """The cluster does not take this object."""


class NoNamespace(UsageError):
    """The namespace does not exist."""


@contextlib.contextmanager
def translated(what: str, *, server: str = "", gone_is_fine: bool = False) -> Iterator[None]:
    """Raise the client's errors as ours; `what` is what was tried, as in "create the Job x"."""
    import urllib3
    from kubernetes.client.exceptions import ApiException

    try:
        try:
            yield
        except ApiException as error:
            if not error.status:  # the client wraps urllib3's SSLError so
                raise untrusted(what, server, error) from error
            raise refusal(what, error.status, error.body or error.reason or "") from error
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise unreachable(what, server, error) from error
    except NotFound:
        if not gone_is_fine:
            raise


def refusal(what: str, status: int, body: str) -> RunnerError:
    """What an answer of the API server that is not 2xx means; `body` is its Status object."""
    said = _status(body)
    message = _cut(str(said.get("message") or body or f"HTTP {status}"))
    details: Mapping[str, Any] = said.get("details") or {}
    known: dict[int, Callable[[], RunnerError]] = {
        401: lambda: _unauthorized(what),
        403: lambda: _forbidden(what, message),
        404: lambda: _not_found(what, message, details),
        409: lambda: Conflict(
            f"cannot {what}: {message}", hint="somebody was quicker: look, and try again"
        ),
        410: lambda: Transient(f"cannot {what}: {message}"),
        413: lambda: Refused(
            f"cannot {what}: it is too large for the API server: {message}",
            hint="put large inputs into a volume or a repository",
        ),
        429: lambda: NotTaken(f"cannot {what}: the API server is overloaded: {message}"),
    }
    if status in known:
        return known[status]()
    if status == 500 and "failed calling webhook" in message:  # before anything is stored
        return NotTaken(
            f"cannot {what}: a webhook of the cluster does not answer: {message}",
            hint="try again; if it stays, an admin looks at what the webhook belongs to "
            "(Kueue's is `kubectl get pods -n kueue-system`)",
        )
    if status >= 500:
        return Transient(
            f"cannot {what}: the API server answers {status}: {message}",
            hint="try again; if it stays, the cluster's admin has to look at the API server",
        )
    shown = "`runner render FILE` shows the manifests" if status == 422 else ""
    return Refused(f"cannot {what}: the cluster refuses it: {message}", hint=shown)


def unreachable(what: str, server: str, error: BaseException) -> RunnerError:
    """What a request that got no answer means."""
    reason = _root(error)
    words = _cut(str(reason) or type(reason).__name__)
    if _about_certificates(reason):
        return untrusted(what, server, error)
    return Transient(
        f"cannot {what}: no cluster answers{f' at {server}' if server else ''}: {words}",
        hint="is the cluster up, and is the VPN or proxy it needs? `kubectl cluster-info` "
        "asks the same address",
    )


def untrusted(what: str, server: str, error: BaseException) -> RunnerError:
    """A TLS handshake failed for good."""
    words = _cut(str(_root(error)).replace("SSLError\n", "", 1))
    return Untrusted(
        f"cannot {what}: no trusted connection{f' to {server}' if server else ''}: {words}",
        hint="the kubeconfig's certificate-authority or server address is wrong or outdated: "
        "fetch a new kubeconfig from the cluster's admin",
    )


def _unauthorized(what: str) -> RunnerError:
    return Unauthorized(
        f"cannot {what}: the cluster does not accept the credentials of the kubeconfig",
        hint="they have expired, or were withdrawn: log in again as your lab does it, or ask the "
        "cluster's admin for a new kubeconfig; `kubectl auth whoami` shows when they are accepted",
    )


def _forbidden(what: str, message: str) -> RunnerError:
    right = _RIGHT.search(message)
    if right is None:
        return Refused(f"cannot {what}: {message}", hint=_admission_hint(message))
    user, verb, resource = right["user"], right["verb"], right["resource"]
    if user == "system:anonymous":
        return _unauthorized(what)
    where = f"in namespace {right['namespace']}" if right["namespace"] else "in the whole cluster"
    return Forbidden(
        f"cannot {what}: {user} may not {verb} {resource} {where}",
        hint=_grant(user, right["namespace"], verb, resource),
    )


def _grant(user: str, namespace: str | None, verb: str, resource: str) -> str:
    account = user.split(":")
    who = f"--user={user}"
    if account[:2] == ["system", "serviceaccount"] and len(account) == 4:
        who = f"--serviceaccount={account[2]}:{account[3]}"
    name = re.sub(r"[^a-z0-9]+", "-", account[-1].lower()).strip("-") or "user"
    if namespace is None:
        return (
            "this right is for the whole cluster; its admin may grant it, or do without: "
            f"kubectl create clusterrole NAME --verb={verb} --resource={resource}"
        )
    return (
        f"ask the cluster's admin: kubectl create rolebinding runner-{name} -n {namespace} "
        f"--role={RESEARCHER} {who}"
    )


def _admission_hint(message: str) -> str:
    if "exceeded quota" in message or "must specify" in message:
        return "`kubectl describe resourcequota` shows what is in use; ask for less, or wait"
    if "PodSecurity" in message:
        return "the namespace's Pod Security level forbids it; the cluster's admin sets the level"
    return "a rule of the cluster refuses this object; its admin knows the rule"


def _not_found(what: str, message: str, details: Mapping[str, Any]) -> RunnerError:
    if details.get("kind") == "namespaces":
        return NoNamespace(
            f"cannot {what}: there is no namespace {details.get('name')!r} in this cluster",
            hint="set `kubernetes.namespace` in the settings to your team's, or "
            "`kubectl config set-context --current --namespace=NAME`; "
            "an admin makes one with `helm install --create-namespace`",
        )
    return NotFound(f"cannot {what}: {message}")


def _status(body: str) -> Mapping[str, Any]:
    try:
        said = json.loads(body)
    except ValueError:
        return {}
    return said if isinstance(said, dict) else {}


def _root(error: BaseException) -> BaseException:
    """The error under the client's wrapping."""
    reason = getattr(error, "reason", None)
    if isinstance(reason, BaseException):
        return _root(reason)
    cause = error.__cause__ or error.__context__
    return _root(cause) if isinstance(cause, OSError) else error


def _about_certificates(error: BaseException) -> bool:
    from urllib3.exceptions import SSLError

    if isinstance(error, ssl.SSLEOFError | ssl.SSLZeroReturnError):
        return False  # cut off in the middle: a restart
    return isinstance(error, ssl.SSLError | SSLError)


def _cut(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= _LONGEST else line[:_LONGEST] + "…"
