"""Whether a pod could ever run: its requests held against nodes, quotas and limit ranges. Pure.

Only what no waiting can mend is a problem: a quota that is used up now, or a node that is full
now, is not.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from decimal import Decimal
from typing import Any

from runner.config.quantities import amount

Spec = Mapping[str, Any]
Amounts = dict[str, Decimal]

FIELDS = {
    "cpu": "sandbox.cpu",
    "memory": "sandbox.memory",
    "ephemeral-storage": "sandbox.disk",
}
"""The field of an experiment that a resource mostly comes from."""

_PASSING = ("node.kubernetes.io/", "node.cloudprovider.kubernetes.io/", "ToBeDeletedBy")
"""Beginnings of the taints that come and go by themselves."""
_MATCHING_SCOPES = {"NotBestEffort", "Terminating"}
"""Scopes of quotas that count a run's pod: it has requests, and a deadline."""
_COMPUTE = ("cpu", "memory")
COUNTED = (
    *("pods", "secrets", "configmaps"),
    *("count/pods", "count/jobs.batch", "count/secrets", "count/configmaps"),
)


def total(spec: Spec, kind: str) -> Amounts:
    """`requests` or `limits` of a whole pod, as the scheduler and quotas count them.

    Containers run beside each other, and beside the sidecars; an init container runs beside
    the sidecars that come before it.
    """
    beside: Amounts = {}
    peak: Amounts = {}
    for one in spec.get("initContainers") or ():
        own = _of(one, kind)
        if one.get("restartPolicy") == "Always":
            beside = _sum(beside, own)
            own = {}
        peak = _most(peak, _sum(beside, own))
    running = beside
    for one in spec["containers"]:
        running = _sum(running, _of(one, kind))
    return _most(peak, running)


def with_defaults(spec: Spec, ranges: Iterable[Spec]) -> dict[str, Any]:
    """The pod as LimitRanges change it: a container without a request or limit is given one."""
    given = [item for item in _limit_items(ranges) if item.get("type") == "Container"]
    made = dict(spec)
    for key in ("initContainers", "containers"):
        made[key] = [_defaulted(one, given) for one in spec.get(key) or ()]
    return made


def quota_problems(spec: Spec, quotas: Iterable[Spec]) -> Iterator[tuple[str, str]]:
    """What no quota of this size would ever admit: words, and the field that has to be less."""
    requests, limits = total(spec, "requests"), total(spec, "limits")
    for quota in quotas:
        scopes = set(quota["spec"].get("scopes") or ())
        if quota["spec"].get("scopeSelector") or not scopes <= _MATCHING_SCOPES:
            continue
        name = quota["metadata"]["name"]
        for resource, hard in (quota["spec"].get("hard") or {}).items():
            asked = resource.removeprefix("requests.").removeprefix("limits.")
            counted = limits if resource.startswith("limits.") else requests
            wanted = Decimal(1) if resource in COUNTED else counted.get(asked, Decimal(0))
            if wanted > amount(hard):
                words = (
                    f"the run needs {resource} {show(wanted)}, and the ResourceQuota {name} "
                    f"never allows more than {hard}"
                )
                yield words, _field(asked)
            elif asked in _COMPUTE and (lacking := _without(spec, resource, asked)):
                words = (
                    f"the ResourceQuota {name} on {resource} admits only pods whose containers "
                    f"all have one, and {lacking} has none"
                )
                yield words, _field(asked)


def range_problems(spec: Spec, ranges: Iterable[Spec]) -> Iterator[tuple[str, str]]:
    """What a LimitRange refuses."""
    every = [*(spec.get("initContainers") or ()), *spec["containers"]]
    for item in _limit_items(ranges):
        if item.get("type") == "Container":
            subjects = [
                (f"the container {one['name']}", _of(one, "requests"), _of(one, "limits"))
                for one in every
            ]
        elif item.get("type") == "Pod":
            subjects = [("the pod", total(spec, "requests"), total(spec, "limits"))]
        else:
            continue
        for who, requests, limits in subjects:
            yield from _against(item, who, requests, limits)


def node_problems(
    spec: Spec, nodes: Sequence[Spec], classes: Mapping[str, Sequence[str]]
) -> Iterator[tuple[str, str]]:
    """Why no node of the cluster could run the pod, even if it were empty.

    `classes` are the GPU classes asked for: values by node label. Nothing is said of a
    cluster without nodes.
    """
    if not nodes:
        return
    labelled = [node for node in nodes if _selected(spec, node)]
    if not labelled and classes:
        yield _no_such_gpu(nodes, classes), "sandbox.gpu"
        return
    if not labelled:
        wanted = ", ".join(f"{k}={v}" for k, v in (spec.get("nodeSelector") or {}).items())
        yield f"no node has the labels {wanted} of the chart's pods.nodeSelector", ""
        return
    stood = spec.get("tolerations") or ()
    kept_out = [(node, untolerated(stood, node["spec"].get("taints") or ())) for node in labelled]
    open_to = [node for node, taints in kept_out if not taints]
    if not open_to:
        taints = sorted({taint for _, found in kept_out for taint in found})
        yield f"every node for it has a taint that the run does not stand: {', '.join(taints)}", ""
        return
    requests = total(spec, "requests")
    largest: Amounts = {}
    for node in open_to:
        largest = _most(largest, _offered(node))
    short = [name for name, wanted in requests.items() if wanted > largest.get(name, Decimal(0))]
    for name in short:
        words = (
            f"the run needs {name} {show(requests[name])}, with all its containers; the largest "
            f"node for it has {show(largest.get(name, Decimal(0)))}"
        )
        yield words, _field(name)
    if not short and not any(_fits(requests, _offered(node)) for node in open_to):
        wanted = ", ".join(f"{name} {show(value)}" for name, value in requests.items())
        yield f"no single node has all that the run needs: {wanted}", "sandbox.memory"


def untolerated(stood: Iterable[Spec], taints: Iterable[Spec]) -> list[str]:
    """The taints of a node that a pod does not stand, but for those that pass by themselves."""
    found = []
    for taint in taints:
        lasting = not taint["key"].startswith(_PASSING) and taint["effect"] != "PreferNoSchedule"
        if lasting and not any(_stands(one, taint) for one in stood):
            value = f"={taint['value']}" if taint.get("value") else ""
            found.append(f"{taint['key']}{value}:{taint['effect']}")
    return found


def show(value: Decimal) -> str:
    """A number as Kubernetes writes it, rounded to be read."""
    for unit, power in (("Ti", 4), ("Gi", 3), ("Mi", 2)):
        size = Decimal(1024) ** power
        if value >= size:
            return f"{value / size:.1f}".removesuffix(".0") + unit
    return f"{value:.3f}".rstrip("0").rstrip(".")


def _field(resource: str) -> str:
    """The field of an experiment that has to be less; GPUs have names with a `/`."""
    extended = "/" in resource and not resource.startswith("count/")
    return FIELDS.get(resource) or ("sandbox.gpu_count" if extended else "")


def _of(one: Spec, kind: str) -> Amounts:
    """What a container asks for; a limit without a request is one."""
    given = one.get("resources") or {}
    named = {**(given.get("limits") or {}), **(given.get(kind) or {})}
    chosen = named if kind == "requests" else given.get("limits") or {}
    return {name: amount(str(value)) for name, value in chosen.items()}


def _sum(one: Amounts, other: Amounts) -> Amounts:
    zero = Decimal(0)
    return {name: one.get(name, zero) + other.get(name, zero) for name in {**one, **other}}


def _most(one: Amounts, other: Amounts) -> Amounts:
    zero = Decimal(0)
    return {name: max(one.get(name, zero), other.get(name, zero)) for name in {**one, **other}}


def _limit_items(ranges: Iterable[Spec]) -> list[Spec]:
    return [item for each in ranges for item in each["spec"].get("limits") or ()]


def _defaulted(one: Spec, items: Iterable[Spec]) -> dict[str, Any]:
    own = one.get("resources") or {}
    limits, requests = dict(own.get("limits") or {}), dict(own.get("requests") or {})
    for name, value in limits.items():
        requests.setdefault(name, value)
    for item in items:
        for name, value in (item.get("default") or {}).items():
            limits.setdefault(name, value)
        for name, value in (item.get("defaultRequest") or {}).items():
            requests.setdefault(name, value)
    return {**one, "resources": {"limits": limits, "requests": requests}}


def _without(spec: Spec, resource: str, asked: str) -> str:
    """The containers that have no request, or limit, of a resource."""
    kind = "limits" if resource.startswith("limits.") else "requests"
    every = [*(spec.get("initContainers") or ()), *spec["containers"]]
    return ", ".join(one["name"] for one in every if asked not in _of(one, kind))


def _against(item: Spec, who: str, requests: Amounts, limits: Amounts) -> Iterator[tuple[str, str]]:
    for name, most in (item.get("max") or {}).items():
        wanted = max(limits.get(name, Decimal(0)), requests.get(name, Decimal(0)))
        if wanted > amount(most):
            words = f"{who} needs {name} {show(wanted)}, and a LimitRange allows {most} at most"
            yield words, _field(name)
        elif name not in limits:
            yield f"a LimitRange on {name} wants a limit of {who}, which has none", _field(name)
    for name, least in (item.get("min") or {}).items():
        if name in requests and requests[name] < amount(least):
            yield f"{who} has {name} {show(requests[name])}, and a LimitRange wants {least}", ""
    for name, wanted in requests.items():
        if name in limits and limits[name] < wanted:
            words = f"a LimitRange limits {who} to {name} {show(limits[name])}, below its request"
            yield words, _field(name)


def _selected(spec: Spec, node: Spec) -> bool:
    labels = node["metadata"].get("labels") or {}
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()):
        return False
    affinity = (spec.get("affinity") or {}).get("nodeAffinity") or {}
    required = affinity.get("requiredDuringSchedulingIgnoredDuringExecution") or {}
    terms = required.get("nodeSelectorTerms")
    return not terms or any(
        all(labels.get(rule["key"]) in rule["values"] for rule in term["matchExpressions"])
        for term in terms
    )


def _stands(one: Spec, taint: Spec) -> bool:
    if one.get("effect") not in (None, "", taint["effect"]):
        return False
    if not one.get("key"):
        return one.get("operator") == "Exists"
    same = one["key"] == taint["key"]
    return same and (one.get("operator") == "Exists" or one.get("value") == taint.get("value"))


def _no_such_gpu(nodes: Sequence[Spec], classes: Mapping[str, Sequence[str]]) -> str:
    parts = []
    for label, values in classes.items():
        there = Counter(node["metadata"].get("labels", {}).get(label) for node in nodes)
        there.pop(None, None)
        has = ", ".join(f"{value} ({count})" for value, count in there.items())
        has = f"the nodes have {has}" if has else "no node has that label"
        parts.append(f"{label} = {' or '.join(values)}: {has}")
    return f"no node has {'; nor '.join(parts)}"


def _offered(node: Spec) -> Amounts:
    given: Mapping[str, str] = (node.get("status") or {}).get("allocatable") or {}
    return {name: amount(value) for name, value in given.items()}


def _fits(requests: Amounts, offered: Amounts) -> bool:
    return all(value <= offered.get(name, Decimal(0)) for name, value in requests.items())
