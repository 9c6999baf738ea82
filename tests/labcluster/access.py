"""Who may talk to the API server: certificates, users, kubeconfigs."""

from __future__ import annotations

import base64
import json
from typing import NamedTuple

from labcluster.places import API, PKI
from labcluster.processes import sh


class User(NamedTuple):
    """A line of the API server's static token file: a test cluster's shortcut."""

    name: str
    group: str = ""


# By the name of the kubeconfig; the token is lab-NAME.
USERS = {
    "admin": User("admin", "system:masters"),
    "lab": User("system:node:lab", "system:nodes"),
    "lab2": User("system:node:lab2", "system:nodes"),
    "manager": User("system:kube-controller-manager"),
    "scheduler": User("system:kube-scheduler"),
    "proxy": User("system:kube-proxy"),
    # People, with no rights but those that a test or a chart gives them.
    "researcher": User("researcher"),
    "viewer": User("viewer"),
}

NEW_KEY = ("-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256")
NEW_CERTIFICATE = (
    *("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"),
    *("-nodes", "-days", "365"),
)
CA, SERVER, ACCOUNTS, FRONT_PROXY = "ca", "server", "accounts", "front-proxy"


def write(address: str) -> None:
    """Make the keys, the token file and a kubeconfig for each user."""
    PKI.mkdir(parents=True, exist_ok=True)
    if not (PKI / f"{SERVER}.crt").exists():
        _keys(address)
    rows = (
        f"lab-{key},{user.name},{number}" + (f',"{user.group}"' if user.group else "")
        for number, (key, user) in enumerate(USERS.items())
    )
    (PKI / "tokens.csv").write_text("".join(f"{row}\n" for row in rows))
    authority = base64.b64encode((PKI / f"{CA}.crt").read_bytes()).decode()
    for key in USERS:
        (PKI / f"{key}.kubeconfig").write_text(json.dumps(kubeconfig(key, authority)))


def kubeconfig(user: str, authority: str) -> dict[str, object]:
    cluster = {"server": API, "certificate-authority-data": authority}
    return {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "lab",
        "clusters": [{"name": "lab", "cluster": cluster}],
        "users": [{"name": user, "user": {"token": f"lab-{user}"}}],
        "contexts": [{"name": "lab", "context": {"cluster": "lab", "user": user}}],
    }


def _keys(address: str) -> None:
    for name in (CA, FRONT_PROXY):
        _openssl(
            *NEW_CERTIFICATE,
            *(
                "-subj",
                f"/CN=labcluster {name}",
                "-addext",
                "keyUsage=digitalSignature,keyCertSign",
            ),
            *("-keyout", f"{name}.key", "-out", f"{name}.crt"),
        )
    names = ["localhost", "kubernetes", "kubernetes.default", "kubernetes.default.svc"]
    addresses = ["127.0.0.1", "10.96.0.1", address]
    alternative = ",".join([f"DNS:{n}" for n in names] + [f"IP:{a}" for a in addresses])
    _openssl(
        *NEW_CERTIFICATE,
        *("-CA", f"{CA}.crt", "-CAkey", f"{CA}.key", "-subj", "/CN=kube-apiserver"),
        *("-addext", f"subjectAltName={alternative}", "-addext", "extendedKeyUsage=serverAuth"),
        *("-addext", "basicConstraints=critical,CA:FALSE"),
        *("-keyout", f"{SERVER}.key", "-out", f"{SERVER}.crt"),
    )
    _openssl("genpkey", *NEW_KEY, "-out", f"{ACCOUNTS}.key")
    _openssl("pkey", "-in", f"{ACCOUNTS}.key", "-pubout", "-out", f"{ACCOUNTS}.pub")


def _openssl(*words: str) -> None:
    sh("openssl", *words, cwd=PKI, capture_output=True)
