"""A node: one kubelet with a containerd of its own. Two share this machine."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

from labcluster.client import kubectl
from labcluster.places import BIN, PKI, RUN, STATE
from labcluster.processes import ours, quiet, sh, start


class Node:
    """The first is `lab`, the second `lab2`."""

    def __init__(self, number: int) -> None:
        self.number = number
        self.name = "lab" if number == 1 else f"lab{number}"
        self.state, self.run = STATE / self.name, RUN / self.name
        self.socket = self.run / "containerd.sock"

    def start_containerd(self) -> None:
        for directory in (self.state / "cni", self.state / "kubelet", self.run):
            directory.mkdir(parents=True, exist_ok=True)
        (self.state / "containerd.toml").write_text(_containerd(self))
        (self.state / "cni" / "10-lab.conflist").write_text(json.dumps(_network(self)))
        start(f"{self.name}-containerd", "containerd", "-c", self.state / "containerd.toml")

    def start_kubelet(self, address: str) -> None:
        (self.state / "kubelet.yaml").write_text(json.dumps(_kubelet(self)))
        _make_cgroups(self.name)
        start(
            f"{self.name}-kubelet",
            *(BIN / "kubelet", "--config", self.state / "kubelet.yaml"),
            *("--kubeconfig", PKI / f"{self.name}.kubeconfig"),
            *("--hostname-override", self.name, "--node-ip", address),
            *("--root-dir", self.state / "kubelet"),
        )

    def kubelet(self) -> list[int]:
        return ours("kubelet", self.name)

    def containerd(self) -> list[int]:
        return ours("containerd", str(self.state / "containerd.toml"))

    def load(self, archive: Path) -> None:
        """Import a `docker save` archive, for imagePullPolicy Never or IfNotPresent."""
        sh(*self._ctr, "images", "import", archive, stdout=subprocess.DEVNULL)

    def ready(self) -> bool:
        told = kubectl("get", "node", self.name, "-o", "json", capture_output=True).stdout
        conditions = json.loads(told)["status"]["conditions"]
        return any(c["type"] == "Ready" and c["status"] == "True" for c in conditions)

    def remove_tasks(self) -> None:
        """Kill what still runs in containers; for a node without a kubelet."""
        listed = subprocess.run([*self._ctr, "tasks", "ls", "-q"], capture_output=True, text=True)
        for task in listed.stdout.split():
            quiet(*self._ctr, "tasks", "rm", "-f", task)

    @property
    def _ctr(self) -> list[str]:
        return ["ctr", "-a", str(self.socket), "-n", "k8s.io"]


def nodes() -> list[Node]:
    """Those whose containerd was started."""
    return [node for node in (Node(1), Node(2)) if node.socket.exists()]


def load(archive: Path) -> None:
    for node in nodes():
        node.load(archive)


def address() -> str:
    """This machine's, by which nodes, pods and the API server reach each other."""
    return str(sh("hostname", "-I", capture_output=True, text=True).stdout).split()[0]


def _containerd(node: Node) -> str:
    return f"""\
version = 2
root = "{node.state}/containerd"
state = "{node.run}/containerd"
[grpc]
  address = "{node.socket}"
[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "localhost/pause:1"
  # Without CAP_SYS_RESOURCE a lower oom_score_adj is refused and no pod starts
  # ("can't get final child's PID from pipe").
  restrict_oom_score_adj = true
  # Not in /run/netns, which `ip netns` mounts over: pods then never end.
  netns_mounts_under_state_dir = true
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "{node.state}/cni"
"""


def _network(node: Node) -> dict[str, Any]:
    ipam = {
        "type": "host-local",
        "dataDir": f"{node.state}/ipam",
        "routes": [{"dst": "0.0.0.0/0"}],
        "ranges": [[{"subnet": f"10.244.{node.number - 1}.0/24"}]],
    }
    bridge = {
        "type": "bridge",
        "bridge": f"cni-{node.name}",
        "isGateway": True,
        "ipMasq": True,
        "hairpinMode": True,
        "ipam": ipam,
    }
    ports = {"type": "portmap", "capabilities": {"portMappings": True}}
    # Keeps pods connected where dockerd has set the FORWARD policy to DROP.
    firewall = {"type": "firewall"}
    return {"cniVersion": "1.0.0", "name": node.name, "plugins": [bridge, ports, firewall]}


def _kubelet(node: Node) -> dict[str, Any]:
    shift = 100 * (node.number - 1)
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {"anonymous": {"enabled": True}, "webhook": {"enabled": False}},
        "authorization": {"mode": "AlwaysAllow"},
        "port": 10250 + shift,
        "healthzPort": 10248 + shift,
        "cgroupDriver": "cgroupfs",
        # A kubelet kills what it does not know under its root.
        "cgroupRoot": f"/{node.name}",
        # 1.34 still runs on cgroup v1; 1.35 wants this said.
        "failCgroupV1": False,
        "failSwapOn": False,
        # A kubelet removes the logs of pods that it does not know from where it keeps its own.
        "podLogsDir": f"{node.state}/pod-logs",
        "containerRuntimeEndpoint": f"unix://{node.socket}",
        # Never collect: what was loaded cannot be pulled again.
        "imageGCHighThresholdPercent": 100,
        "evictionHard": {"memory.available": "100Mi"},
    }


def _make_cgroups(name: str) -> None:
    """The root that kubelet is told to work under; it does not make it itself."""
    top = Path("/sys/fs/cgroup")
    for controller in top.iterdir():
        if (controller / "cgroup.procs").exists():
            (controller / name).mkdir(exist_ok=True)
    for file in ("cpuset.cpus", "cpuset.mems"):
        inherited = top / "cpuset" / file
        if inherited.exists():
            (top / "cpuset" / name / file).write_text(inherited.read_text())
