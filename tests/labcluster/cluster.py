"""Start, break, mend and stop the cluster."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

from labcluster import access, control_plane, images, volumes
from labcluster.client import api_ready, kubectl
from labcluster.node import Node, address, nodes
from labcluster.places import BIN, ETCD, HERE, KUBECONFIG, LOGS, PKI, REGISTRY, RUN, STATE, VOLUMES
from labcluster.processes import ours, quiet, say, start, stop, wait

A100 = "NVIDIA-A100-SXM4-80GB"
SUDDEN_S = 1.0


def up(count: int) -> None:
    """Start that many nodes, each with 8 GPUs. Does nothing where they are up."""
    if not (BIN / "kubectl").exists():
        sys.exit(f"labcluster: not installed; run: python3 {HERE} install")
    if api_ready():
        names = [node.name for node in nodes()]
        if len(names) != count or not all(node.ready() for node in nodes()):
            sys.exit(f"labcluster: another cluster is up ({', '.join(names)}); `down` stops it")
        return
    down()
    here = address()
    access.write(here)
    control_plane.keep_addresses_here()
    members = [Node(number + 1) for number in range(count)]
    for node in members:
        node.start_containerd()
    control_plane.start_registry()
    control_plane.start_etcd()
    control_plane.start_apiserver(here)
    control_plane.start_controllers()
    for node in members:
        wait(f"{node.name}'s containerd", node.socket.exists)
    images.load_pause(members)
    for node in members:
        node.start_kubelet(here)
    control_plane.start_proxy()
    volumes.install()
    start("volumes", sys.executable, HERE, "provision", VOLUMES)
    for node in members:
        wait(f"node {node.name}", node.ready)
        gpu(8, A100, node.name)
    say(f"labcluster: Kubernetes is up: {', '.join(node.name for node in members)}")


def join() -> None:
    """Add the node lab2 to the cluster that is up: for tests that take a node away."""
    node = Node(2)
    if node.socket.exists():
        sys.exit(f"labcluster: {node.name} is there; `leave` takes it away")
    node.start_containerd()
    wait(f"{node.name}'s containerd", node.socket.exists)
    images.load_pause([node])
    node.start_kubelet(address())
    wait(f"node {node.name}", node.ready)
    gpu(8, A100, node.name)


def leave() -> None:
    """Take lab2 away again, with all that runs on it."""
    node = Node(2)
    stop(node.kubelet(), SUDDEN_S)
    node.remove_tasks()
    stop(node.containerd())
    quiet(BIN / "kubectl", "--kubeconfig", KUBECONFIG, "delete", "node", node.name)
    _unmount(node.run, node.state)
    for made in (node.run, node.state):
        shutil.rmtree(made, ignore_errors=True)


def gpu(count: int, product: str, node: str) -> None:
    """Advertise GPUs on a node, with GPU feature discovery's labels.

    An extended resource may be advertised by hand: there is no driver and no device, but what the
    scheduler and quotas do with it is real.
    """
    labels = (f"nvidia.com/gpu.product={product}", "nvidia.com/gpu.present=true")
    kubectl("label", "--overwrite", "node", node, *labels, stdout=subprocess.DEVNULL)
    amount = {"nvidia.com/gpu": str(count)}
    patch = json.dumps({"status": {"capacity": amount, "allocatable": amount}})
    words = ("patch", "node", node, "--subresource=status", "--type=merge", "-p", patch)
    kubectl(*words, stdout=subprocess.DEVNULL)


def fail(what: str) -> None:
    """Stop a node's kubelet, as if the node was lost, or the API server."""
    stop(ours("kube-apiserver") if what == "api" else _node(what).kubelet(), SUDDEN_S)


def heal(what: str) -> None:
    """Start what `fail` stopped, and wait for it."""
    if what == "api":
        control_plane.start_apiserver(address())
    else:
        node = _node(what)
        node.start_kubelet(address())
        wait(f"node {what}", node.ready)


def down() -> None:
    """Stop all of it and remove its state; what was built stays."""
    # First what would start a pod again. The API server would wait for who watches it.
    stop(ours("kubelet") + ours("kube-") + ours("python", "provision"), SUDDEN_S)
    for node in nodes():
        node.remove_tasks()
    stop(ours("containerd"))  # and its shims
    stop(ours("etcd") + ours("docker-registry"))
    control_plane.give_addresses_back()
    _unmount(STATE, RUN)
    for made in (RUN, Node(1).state, Node(2).state, ETCD, PKI, LOGS, VOLUMES, REGISTRY):
        shutil.rmtree(made, ignore_errors=True)


def environment() -> str:
    """What a person types to work with it."""
    return f'export KUBECONFIG={KUBECONFIG} PATH="{BIN}:$PATH"'


def _unmount(*places: Path) -> None:
    """All that is mounted in these directories."""
    for line in reversed(Path("/proc/mounts").read_text().splitlines()):
        where = line.split()[1]
        if where.startswith(tuple(f"{place}/" for place in places)):
            quiet("umount", "--lazy", where)


def _node(name: str) -> Node:
    for node in nodes():
        if node.name == name:
            return node
    sys.exit(f"labcluster: there is no node {name}; `up --nodes 2` starts lab and lab2")
