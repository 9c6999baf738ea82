"""The command line: python3 tests/labcluster COMMAND."""

from __future__ import annotations

import argparse
from collections.abc import Callable
from pathlib import Path

from labcluster import cluster, engine, images, install, kueue, node, volumes
from labcluster.processes import say

EPILOG = """\
`ready` does `install`, `up`, `kueue` and `engine`, each where it has not been done yet. Needs root.
"""


def main() -> None:
    parser = argparse.ArgumentParser(
        prog="labcluster",
        description="A real Kubernetes on this machine, for tests.",
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    commands = parser.add_subparsers(required=True, metavar="COMMAND")

    def command(name: str, run: Callable[..., object], help: str) -> argparse.ArgumentParser:
        made = commands.add_parser(name, help=help)
        made.set_defaults(run=run)
        return made

    command("ready", _ready, "install and start all of it")
    command("install", install.install, "install Debian packages, build Kubernetes, Helm and Kueue")
    up = command("up", cluster.up, "start Kubernetes, with 8 GPUs advertised on each node")
    up.add_argument("--nodes", dest="count", type=int, default=1, choices=(1, 2))
    command("join", cluster.join, "add the node lab2 to the cluster that is up")
    command("leave", cluster.leave, "take lab2 away again")
    command("kueue", kueue.up, "install Kueue in it")
    command("engine", engine.up, f"install and start dockerd, and load {images.BASE_IMAGE}")
    load = command("load", node.load, "import a `docker save` archive on every node")
    load.add_argument("archive", type=Path)
    gpu = command("gpu", cluster.gpu, "advertise GPUs and their label on a node")
    gpu.add_argument("count", type=int)
    gpu.add_argument("product", nargs="?", default=cluster.A100)
    gpu.add_argument("--node", default="lab")
    for name, run, help in (
        ("fail", cluster.fail, "stop a node's kubelet, as a lost node, or the API server"),
        ("heal", cluster.heal, "start again what `fail` stopped"),
    ):
        command(name, run, help).add_argument("what", choices=("lab", "lab2", "api"))
    command("environment", lambda: say(cluster.environment()), "print what a shell needs to use it")
    command("down", _down, "stop it and remove its state")
    provision = command("provision", lambda place: volumes.provision(), "(started by `up`)")
    provision.add_argument("place")

    given = vars(parser.parse_args())
    given.pop("run")(**given)


def _ready() -> None:
    install.install()
    cluster.up(len(node.nodes()) or 1)
    kueue.up()
    engine.up()


def _down() -> None:
    cluster.down()
    engine.down()
