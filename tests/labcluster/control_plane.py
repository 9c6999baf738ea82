"""etcd, the API server, the controllers, the scheduler, the Services' proxy, and a registry."""

from __future__ import annotations

from pathlib import Path

from labcluster import access
from labcluster.client import api_ready
from labcluster.places import (
    BIN,
    ETCD,
    PKI,
    POD_ADDRESSES,
    REGISTRY,
    REGISTRY_ADDRESS,
    SERVICE_ADDRESSES,
    STATE,
)
from labcluster.processes import quiet, sh, start, wait

ETCD_URL = "http://127.0.0.1:2379"
SERVICES_LINK = "lab-services"


def start_etcd() -> None:
    start(
        "etcd",
        *(BIN / "etcd", "--data-dir", ETCD, "--unsafe-no-fsync"),
        *("--listen-client-urls", ETCD_URL, "--advertise-client-urls", ETCD_URL),
        *("--listen-peer-urls", "http://127.0.0.1:2380"),
    )


def start_apiserver(address: str) -> None:
    """Start it, and wait until it answers."""
    start(
        "kube-apiserver",
        *(BIN / "kube-apiserver", "--etcd-servers", ETCD_URL),
        *("--secure-port", "6443", "--advertise-address", address),
        *("--tls-cert-file", PKI / f"{access.SERVER}.crt"),
        *("--tls-private-key-file", PKI / f"{access.SERVER}.key"),
        *("--cert-dir", PKI, "--service-cluster-ip-range", SERVICE_ADDRESSES),
        *("--token-auth-file", PKI / "tokens.csv", "--authorization-mode", "Node,RBAC"),
        *("--enable-admission-plugins", "NodeRestriction,PodSecurity", "--allow-privileged"),
        *("--client-ca-file", PKI / f"{access.CA}.crt"),
        *("--service-account-issuer", "https://kubernetes.default.svc"),
        *("--service-account-key-file", PKI / f"{access.ACCOUNTS}.pub"),
        *("--service-account-signing-key-file", PKI / f"{access.ACCOUNTS}.key"),
        *("--kubelet-preferred-address-types", "InternalIP"),
        # Lets aggregated APIs, as Kueue's visibility API is one, trust the API server.
        *("--requestheader-client-ca-file", PKI / f"{access.FRONT_PROXY}.crt"),
        *("--requestheader-username-headers", "X-Remote-User"),
        *("--requestheader-group-headers", "X-Remote-Group"),
        *("--requestheader-extra-headers-prefix", "X-Remote-Extra-"),
        *("--proxy-client-cert-file", PKI / f"{access.FRONT_PROXY}.crt"),
        *("--proxy-client-key-file", PKI / f"{access.FRONT_PROXY}.key"),
    )
    wait("the API server", api_ready)


def start_controllers() -> None:
    start(
        "kube-controller-manager",
        *(BIN / "kube-controller-manager", "--kubeconfig", PKI / "manager.kubeconfig"),
        *("--service-account-private-key-file", PKI / f"{access.ACCOUNTS}.key"),
        *("--root-ca-file", PKI / f"{access.CA}.crt"),
        *("--use-service-account-credentials", "--leader-elect=false"),
    )
    start(
        "kube-scheduler",
        *(BIN / "kube-scheduler", "--kubeconfig", PKI / "scheduler.kubeconfig"),
        "--leader-elect=false",
    )


def start_proxy() -> None:
    start(
        "kube-proxy",
        *(BIN / "kube-proxy", "--kubeconfig", PKI / "proxy.kubeconfig"),
        *("--proxy-mode", "iptables", "--cluster-cidr", POD_ADDRESSES),
        *("--hostname-override", "lab", "--conntrack-max-per-core", "0"),
    )


def start_registry() -> None:
    REGISTRY.mkdir(parents=True, exist_ok=True)
    settings = STATE / "registry.yml"
    settings.write_text(f"""\
version: 0.1
storage: {{filesystem: {{rootdirectory: {REGISTRY}}}, delete: {{enabled: true}}}}
http: {{addr: "{REGISTRY_ADDRESS}"}}
""")
    start("registry", "docker-registry", "serve", settings)


def keep_addresses_here() -> None:
    """Give the addresses of Services and pods a route that ends on this machine.

    Those that no rule has caught yet would leave it, and some gateway may answer them: the API
    server then keeps such a connection for an aggregated API.
    """
    if not Path(f"/sys/class/net/{SERVICES_LINK}").exists():
        sh("ip", "link", "add", SERVICES_LINK, "type", "bridge")
    sh("ip", "link", "set", SERVICES_LINK, "up")
    sh("ip", "route", "replace", SERVICE_ADDRESSES, "dev", SERVICES_LINK)
    sh("ip", "route", "replace", "unreachable", POD_ADDRESSES)


def give_addresses_back() -> None:
    for link in (SERVICES_LINK, "cni-lab", "cni-lab2"):
        quiet("ip", "link", "delete", link)
    quiet("ip", "route", "delete", "unreachable", POD_ADDRESSES)
