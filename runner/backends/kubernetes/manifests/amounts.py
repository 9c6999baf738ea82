"""How much a run's containers and volumes get. Kubernetes quantities, normalised."""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from decimal import Decimal

from runner.cluster import Cluster
from runner.config.quantities import amount
from runner.plan import RunPlan

SMALL = "1Gi"
"""For temporary files of the small containers; and for what each writes elsewhere: its log."""
LARGE = "10Gi"
"""For temporary files of the sandbox and of `install`."""
INSTALLED = "30Gi"
"""The virtual environment: torch with CUDA takes a quarter."""
LAYER = "10Gi"
"""What the sandbox may write to its image's own file system, and its log."""

_PLAIN = re.compile(r"[1-9][0-9]*([kMGTPE]|[KMGTPE]i)?")
_BINARY = ("Ei", "Pi", "Ti", "Gi", "Mi", "Ki")


@dataclass(frozen=True)
class Amounts:
    """Of one run's sandbox.

    `disk` is what workspace and journal may hold; the server stops the run a little below it.
    """

    cpu: str
    cpu_limit: str | None
    memory: str
    disk: str
    shm: str


def amounts(plan: RunPlan, cluster: Cluster) -> Amounts:
    """What the experiment asks for, else what the cluster gives.

    Cores are a limit only where the experiment names them: throttled at a default,
    a run would wait beside idle cores.
    """
    own, given = plan.experiment.sandbox, cluster.resources
    memory = own.memory or given.memory
    return Amounts(
        cpu=cores(own.cpu or given.cpu),
        cpu_limit=cores(own.cpu) if own.cpu else None,
        memory=size(memory),
        disk=size(own.disk or given.disk),
        shm=size(min(given.shm, memory, key=amount)),
    )


def cores(text: str) -> str:
    """A quantity of cores as the API server writes it, rounded up to a thousandth."""
    thousandths = math.ceil(amount(text) * 1000)
    return str(thousandths // 1000) if thousandths % 1000 == 0 else f"{thousandths}m"


def size(text: str) -> str:
    """A quantity of bytes: as it was written where that is plain, else in the largest unit."""
    return text if _PLAIN.fullmatch(text) else _bytes(amount(text))


def total(*sizes: str) -> str:
    """The sum of quantities of bytes."""
    return _bytes(sum(map(amount, sizes), Decimal(0)))


def _bytes(number: Decimal) -> str:
    whole = math.ceil(number)
    for unit in _BINARY:
        if whole % int(amount(f"1{unit}")) == 0:
            return f"{whole // int(amount(f'1{unit}'))}{unit}"
    return str(whole)
