"""What NetworkPolicies allow, by the rules of their documentation.

Connections within a pod, and answers to a connection that was allowed, are not their business.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address, ip_network
from typing import Any

Policy = Mapping[str, Any]


@dataclass(frozen=True)
class End:
    """One end of a connection: an address, and where it is a pod's, its namespace and labels."""

    address: str
    namespace: str | None = None
    labels: Mapping[str, str] = field(default_factory=dict)


def egress(policies: Iterable[Policy], pod: End, to: End, port: int, protocol: str = "TCP") -> bool:
    """Whether the policies let the pod connect to there."""
    return _allowed(policies, pod, to, port, protocol, ("Egress", "egress", "to"))


def ingress(
    policies: Iterable[Policy], pod: End, source: End, port: int, protocol: str = "TCP"
) -> bool:
    """Whether the policies let a connection from there into the pod."""
    return _allowed(policies, pod, source, port, protocol, ("Ingress", "ingress", "from"))


def _allowed(
    policies: Iterable[Policy],
    pod: End,
    other: End,
    port: int,
    protocol: str,
    direction: tuple[str, str, str],
) -> bool:
    """One policy that selects the pod turns all into denied but what one of them allows."""
    kind, rules, peers = direction
    chosen = [policy["spec"] for policy in policies if _selects(policy, pod, kind)]
    return not chosen or any(
        _peer(rule.get(peers), other, spec_namespace=pod.namespace)
        and _port(rule.get("ports"), port, protocol)
        for spec in chosen
        for rule in spec.get(rules) or ()
    )


def _selects(policy: Policy, pod: End, kind: str) -> bool:
    spec = policy["spec"]
    kinds = spec.get("policyTypes") or ["Ingress", *(["Egress"] if "egress" in spec else [])]
    here = policy["metadata"]["namespace"] == pod.namespace
    return here and kind in kinds and _labels(spec["podSelector"], pod.labels)


def _peer(peers: list[Mapping[str, Any]] | None, other: End, spec_namespace: str | None) -> bool:
    if not peers:
        return True
    return any(_matches(peer, other, spec_namespace) for peer in peers)


def _matches(peer: Mapping[str, Any], other: End, spec_namespace: str | None) -> bool:
    if block := peer.get("ipBlock"):
        inside = _contains(block["cidr"], other.address)
        return inside and not any(_contains(x, other.address) for x in block.get("except") or ())
    if other.namespace is None:
        return False
    selector = peer.get("namespaceSelector")
    here = (
        other.namespace == spec_namespace
        if selector is None
        else _labels(selector, {"kubernetes.io/metadata.name": other.namespace})
    )
    return here and _labels(peer.get("podSelector") or {}, other.labels)


def _labels(selector: Mapping[str, Any], labels: Mapping[str, str]) -> bool:
    assert set(selector) <= {"matchLabels"}, "expressions are not understood here"
    return (selector.get("matchLabels") or {}).items() <= labels.items()


def _port(ports: list[Mapping[str, Any]] | None, port: int, protocol: str) -> bool:
    if not ports:
        return True
    return any(
        rule.get("protocol", "TCP") == protocol
        and ("port" not in rule or rule["port"] <= port <= rule.get("endPort", rule["port"]))
        for rule in ports
    )


def _contains(block: str, address: str) -> bool:
    ours, theirs = ip_network(block), ip_address(address)
    return ours.version == theirs.version and theirs in ours
