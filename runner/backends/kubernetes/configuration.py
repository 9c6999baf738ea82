"""Which API server, as whom, in which namespace: from a kubeconfig, or from the pod we are in."""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from runner.errors import UsageError

if TYPE_CHECKING:  # 0.5 s to import
    from kubernetes.client import Configuration

SERVICE_ACCOUNT = Path("/var/run/secrets/kubernetes.io/serviceaccount")
_DEFAULT = "~/.kube/config"


@dataclass(frozen=True)
class Access:
    """A way to an API server. `configuration` holds credentials; its repr is left out."""

    namespace: str
    context: str
    user: str
    configuration: Configuration

    def __repr__(self) -> str:
        """Without the credentials."""
        return f"Access({self.context!r}, namespace={self.namespace!r}, user={self.user!r})"

    @property
    def server(self) -> str:
        """The API server's URL."""
        return str(self.configuration.host)

    def authorization(self) -> str | None:
        """The header of that name; a token that has expired is made anew first."""
        with plugin_words(self.context):
            settings = self.configuration.auth_settings()
        return settings["BearerToken"]["value"] if "BearerToken" in settings else None


def kubeconfig() -> str:
    """The file that kubectl would take, or several with colons between them."""
    return os.environ.get("KUBECONFIG") or _DEFAULT


def load(files: str, context: str | None, namespace: str | None) -> Access:
    """The configuration of a kubeconfig. Raises UsageError where there is none.

    Without one, in a pod, it is that of the pod's ServiceAccount. `context` and `namespace` win
    over those of the file.
    """
    there = any(Path(name).expanduser().exists() for name in files.split(os.pathsep) if name)
    if not there and context is None and (SERVICE_ACCOUNT / "token").is_file():
        return _in_cluster(namespace)
    if not there:
        raise UsageError(
            f"no kubeconfig: {files} does not exist",
            hint="ask the cluster's admin for one and save it there, or name it: "
            "export KUBECONFIG=FILE; `kubectl get pods` shows whether it works",
        )
    return _from_files(files, context, namespace)


@contextlib.contextmanager
def plugin_words(context: str) -> Iterator[None]:
    """Turn what the client only logs, that a credential plugin failed, into an UsageError."""
    heard = _Heard()
    root = logging.getLogger()
    root.addHandler(heard)
    try:
        yield
    finally:
        root.removeHandler(heard)
    if heard.words:
        raise UsageError(
            f"context {context}: no credentials: {heard.words[-1]}",
            hint="run `kubectl get pods` and log in as it says (the kubeconfig's `exec` command)",
        )


class _Heard(logging.Handler):
    """Keeps what the kubernetes package logs about plugins: `exec: …`, or the command's error."""

    def __init__(self) -> None:
        super().__init__(logging.ERROR)
        self.words: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name == "root" and record.module == "kube_config":
            self.words.append(record.getMessage())


def _from_files(files: str, context: str | None, namespace: str | None) -> Access:
    import yaml
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException
    from kubernetes.config.kube_config import KubeConfigLoader, KubeConfigMerger

    try:
        config = KubeConfigMerger(files).config
        names = [item.value["name"] for item in config.value.get("contexts") or ()]
        name = context or config.value.get("current-context") or ""
        if name not in names:
            raise _no_context(files, name, names)
        loader = KubeConfigLoader(config, active_context=name, config_base_path=None)
        configuration = Configuration()
        with plugin_words(name):
            loader.load_and_set(configuration)
    except (
        ConfigException,
        yaml.YAMLError,
        OSError,
        ValueError,
        TypeError,
        AttributeError,
        KeyError,
    ) as error:
        raise UsageError(
            f"{files}: not a kubeconfig that can be used: {_first_line(error)}",
            hint="`kubectl config view` checks it",
        ) from error
    chosen: dict[str, Any] = loader.current_context["context"]
    return Access(
        namespace or chosen.get("namespace") or "default",
        name,
        str(chosen.get("user") or ""),
        _ours(configuration),
    )


def _no_context(files: str, name: str, names: list[str]) -> UsageError:
    known = ", ".join(names) or "none"
    if not name:
        return UsageError(
            f"{files}: no context is chosen (there: {known})",
            hint="`kubectl config use-context NAME`, or `kubernetes.context` in the settings",
        )
    return UsageError(
        f"{files}: no context is named {name!r} (there: {known})",
        hint="`kubectl config get-contexts` lists them; set `kubernetes.context` in the settings, "
        "or `kubectl config use-context NAME`",
    )


def _in_cluster(namespace: str | None) -> Access:
    from kubernetes.client import Configuration
    from kubernetes.config import ConfigException, load_incluster_config

    configuration = Configuration()
    try:
        load_incluster_config(client_configuration=configuration)
        own = (SERVICE_ACCOUNT / "namespace").read_text("utf-8").strip()
    except (ConfigException, OSError) as error:
        raise UsageError(
            f"this pod's ServiceAccount cannot be used: {_first_line(error)}",
            hint="the pod needs `automountServiceAccountToken: true`",
        ) from error
    return Access(namespace or own, "in-cluster", "", _ours(configuration))


def _ours(configuration: Configuration) -> Configuration:
    """What we set besides: kept-alive connections, and retries of our own (client.py)."""
    configuration.keep_alive = True
    configuration.retries = False
    if not configuration.verify_ssl:  # the lab said so in its kubeconfig; once is enough
        import urllib3

        urllib3.disable_warnings(urllib3.exceptions.InsecureRequestWarning)
    return configuration


def _first_line(error: BaseException) -> str:
    return (str(error) or type(error).__name__).strip().splitlines()[0][:300]
