"""Why the scheduler finds no node for a pod: its words, read, and what mends it. Pure.

Its message counts the reasons of all nodes: "0/3 nodes are available: 1 Insufficient
nvidia.com/gpu, 2 node(s) didn't match Pod's node affinity/selector. preemption: …". The first
of `_RULES` that is found in it is the one that keeps the run waiting: a node that is full is
closer to taking it than one of another kind.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from typing import NamedTuple

from runner.backends.base import Cause
from runner.backends.kubernetes import fits
from runner.backends.kubernetes.fits import FIELDS, untolerated
from runner.backends.kubernetes.snapshot import Claim, Node, Pod, Snapshot
from runner.config.quantities import amount

_UNREAD = (
    "nodes may not be read here, so the scheduler's words are all there is "
    "(`clusterRole.create` in the chart's values)"
)


class _Case(NamedTuple):
    """What a rule matched in the scheduler's message, and what there is besides."""

    found: re.Match[str]
    pod: Pod
    snap: Snapshot

    @property
    def said(self) -> str:
        """The scheduler's first sentence: what comes after it is about preemption."""
        return re.split(r"\. (?:preemption|no new claims)", self.pod.unscheduled)[0].rstrip(".")

    @property
    def resource(self) -> str:
        """The resource that there is too little of."""
        return self.found["resource"]

    @property
    def asked(self) -> str:
        """How much of it the pod asks for; of GPUs which ones."""
        wanted = fits.show(self.pod.requests.get(self.resource, Decimal(0)))
        kinds = [v for key, given in self.pod.selects.items() if _of_gpus(key) for v in given]
        if "/" in self.resource and kinds:
            return f"{wanted} × {' or '.join(kinds)}"
        return f"{wanted} {self.resource}" if "/" in self.resource else f"{self.resource} {wanted}"

    @property
    def offered(self) -> list[Decimal]:
        """How much of it each of `nodes` has, were it empty."""
        return [amount(node.allocatable.get(self.resource, "0")) for node in self.nodes]

    @property
    def nodes(self) -> list[Node]:
        """Those that have the labels which the pod asks for, as far as they may be read."""
        return [
            node
            for node in self.snap.nodes or ()
            if all(node.labels.get(key) in values for key, values in self.pod.selects.items())
        ]


def cause(snap: Snapshot) -> Cause:
    """Why the pod of a snapshot has no node."""
    pod = snap.pod
    if pod is None or not pod.unscheduled:
        return Cause("the scheduler looks for a node")
    for pattern, read in _RULES:
        if found := re.search(pattern, pod.unscheduled):
            return read(_Case(found, pod, snap))
    return Cause(pod.unscheduled, "an admin knows what the scheduler means")


def _claims(case: _Case) -> Cause:
    """A claim that has no volume: its own event says why."""
    waiting = [claim for claim in case.snap.claims if claim.phase != "Bound"]
    names = ", ".join(claim.name for claim in waiting) or case.found.group()
    why = next((claim.message for claim in waiting if claim.message), "")
    words = f"the claim {names} has no volume{f': {why}' if why else ''}"
    classes = " ".join({_named(claim) for claim in waiting})
    return Cause(
        words,
        f"`kubectl describe pvc{f' {waiting[0].name}' if waiting else ''}`; an admin gives it "
        f"one{classes}; the run starts by itself then",
    )


def _named(claim: Claim) -> str:
    return f", of the storage class {claim.storage_class}" if claim.storage_class else ""


def _no_claim(case: _Case) -> Cause:
    return Cause(
        f"the claim {case.found['name']} is not there",
        "an admin makes it, or corrects the chart's value; the run starts by itself then",
    )


def _gpus(case: _Case) -> Cause:
    if case.snap.nodes is None:
        words = f"no node has {case.asked} free: {case.said}"
        return Cause(words, f"it starts by itself when a run ends; {_UNREAD}")
    if never := _too_large(case):
        return never
    count, total = case.pod.requests[case.resource], sum(case.offered)
    there = f"{_count(len(case.offered), 'node')} with {_count(int(total), 'GPU')}"
    words = f"no node has {case.asked} free: there {_is(case.offered)} {there}"
    if count == 1:
        words = f"{words}, all in use" if total > 1 else f"{words}, in use"
    return Cause(
        f"{words}: {case.said}",
        "it starts by itself when a run ends; sandbox.gpu can name other classes as well",
    )


def _resource(case: _Case) -> Cause:
    if case.snap.nodes and (never := _too_large(case)):
        return never
    field = FIELDS.get(case.resource, "[sandbox]")
    return Cause(
        f"no node has {case.asked} left: {case.said}",
        f"it starts by itself when runs end; less in {field} is easier to place",
    )


def _too_large(case: _Case) -> Cause | None:
    """What no node has, were it empty; so it was let in because nodes come as they are needed."""
    if case.pod.requests.get(case.resource, Decimal(0)) <= max(case.offered, default=Decimal(0)):
        return None
    field = FIELDS.get(case.resource, "sandbox.gpu_count")
    return Cause(
        f"the run asks for {case.asked}, and no node for it has more than "
        f"{fits.show(max(case.offered, default=Decimal(0)))}: {case.said}",
        f"if no larger node comes it can never start: cancel it, and ask for less in {field}",
    )


def _full(case: _Case) -> Cause:
    words = f"the nodes have as many pods as they may: {case.said}"
    return Cause(words, "it starts by itself when pods end; maxPods of the kubelet is an admin's")


def _taint(case: _Case) -> Cause:
    if silent := [node.name for node in case.nodes if node.unready]:
        return Cause(
            f"node {silent[0]} does not answer: {case.said}",
            "it starts by itself when a node is back; `kubectl get nodes` shows how they are",
        )
    found = {one for node in case.nodes for one in untolerated(case.pod.tolerations, node.taints)}
    which = f"the taint {' or '.join(sorted(found))}" if found else "a taint"
    return Cause(
        f"every node for it has {which}, which the run does not stand: {case.said}",
        "it starts by itself when the taint is taken away; else an admin adds a toleration to the "
        "GPU class, or to `pods`, in the chart's values, and you submit again",
    )


def _cordoned(case: _Case) -> Cause:
    closed = [node.name for node in case.nodes if node.unschedulable]
    names = " ".join(closed) or "NODE"
    return Cause(
        f"every node for it is cordoned{f' ({names})' if closed else ''}: {case.said}",
        f"it starts by itself when one is open again; an admin does: kubectl uncordon {names}",
    )


def _apart(case: _Case) -> Cause:
    return Cause(
        f"the volume of a claim is on another node: {case.said}",
        "claims of one node keep all runs there: ReadWriteMany, or records in S3, let them move",
    )


def _no_label(case: _Case) -> Cause:
    selects = sorted(case.pod.selects.items())
    wanted = "; ".join(f"{key} = {' or '.join(values)}" for key, values in selects)
    mend = (
        "an admin compares `kubectl get nodes --show-labels` with gpuClasses and pods.nodeSelector "
        "in the chart's values; cancel it, and submit again then"
    )
    if case.snap.nodes is None:
        return Cause(f"no node has the label {wanted}: {case.said}", f"{mend}; {_UNREAD}")
    parts = []
    for key, values in selects:
        there = Counter(node.labels[key] for node in case.snap.nodes if key in node.labels)
        if not set(values) & set(there):
            has = ", ".join(f"{value} ({count})" for value, count in sorted(there.items()))
            parts.append(f"{key} = {' or '.join(values)}: {f'they have {has}' if has else 'none'}")
    return Cause(f"no node has {'; '.join(parts) or wanted}: {case.said}", mend)


_RULES: tuple[tuple[str, Callable[[_Case], Cause]], ...] = (
    (r'persistentvolumeclaim "(?P<name>[^"]+)" not found', _no_claim),
    (r"unbound immediate PersistentVolumeClaims", _claims),
    (r"Insufficient (?P<resource>[\w.-]+/[\w.-]*\w)", _gpus),
    (r"Insufficient (?P<resource>[\w-]+)", _resource),
    (r"Too many pods", _full),
    (r"volume node affinity conflict", _apart),
    (r"untolerated taint", _taint),
    (r"node\(s\) were unschedulable", _cordoned),
    (r"didn't match Pod's node affinity", _no_label),
)


def _of_gpus(label: str) -> bool:
    return any(word in label for word in ("gpu", "accelerator"))


def _is(things: Sequence[object]) -> str:
    return "is" if len(things) == 1 else "are"


def _count(number: int, what: str) -> str:
    return f"{number} {what}{'' if number == 1 else 's'}"
