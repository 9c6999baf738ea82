"""Talk to the lab cluster's API server."""

from __future__ import annotations

import json
import ssl
import subprocess
import urllib.request
from typing import Any

from labcluster.places import API, BIN, KUBECONFIG, PKI
from labcluster.processes import sh


def kubectl(*words: str, **options: Any) -> subprocess.CompletedProcess[Any]:
    return sh(BIN / "kubectl", "--kubeconfig", KUBECONFIG, *words, **options)


def apply(*objects: dict[str, Any]) -> None:
    """Make or change objects."""
    everything = {"apiVersion": "v1", "kind": "List", "items": list(objects)}
    kubectl("apply", "-f", "-", input=json.dumps(everything).encode(), stdout=subprocess.DEVNULL)


def request(
    path: str, method: str = "GET", body: object = None, timeout: float | None = 10.0
) -> Any:
    """The open response of the API server to its administrator; errors are OSErrors."""
    trust = ssl.create_default_context(cafile=str(PKI / "ca.crt"))
    headers = {"Authorization": "Bearer lab-admin", "Content-Type": "application/json"}
    data = None if body is None else json.dumps(body).encode()
    asked = urllib.request.Request(API + path, data, headers, method=method)
    return urllib.request.urlopen(asked, context=trust, timeout=timeout)


def api_ready() -> bool:
    try:
        with request("/readyz", timeout=2) as response:
            return bool(response.read() == b"ok")
    except OSError:
        return False
