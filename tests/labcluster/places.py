"""Where the lab cluster's files are, and the versions that it is built from."""

from pathlib import Path

HERE = Path(__file__).resolve().parent

KUBERNETES, HELM, KUEUE = "v1.34.4", "v3.22.0", "v0.15.0"

STATE = Path("/var/lib/labcluster")
RUN = Path("/run/labcluster")
# Kept by `down`: what took long to make.
BIN = STATE / "bin"
BASE = STATE / "base"
DOCKER = STATE / "docker"
# Removed by `down`.
PKI = STATE / "pki"
LOGS = STATE / "logs"
VOLUMES = STATE / "volumes"
ETCD = STATE / "etcd"
REGISTRY = STATE / "registry"

KUBECONFIG = PKI / "admin.kubeconfig"
API = "https://127.0.0.1:6443"
REGISTRY_ADDRESS = "127.0.0.1:5000"
POD_ADDRESSES, SERVICE_ADDRESSES = "10.244.0.0/16", "10.96.0.0/16"
