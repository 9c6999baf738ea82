"""The rendered NetworkPolicies against what is to be allowed and what is not. Needs helm alone."""

from __future__ import annotations

from functools import cache
from ipaddress import IPv4Address, IPv6Address, ip_address
from typing import Any

import pytest
from chart_parts import NAMESPACE, OPTIONS, render, values
from hypothesis import given
from hypothesis import strategies as st
from network_policies import End, egress, ingress

from runner.backends.kubernetes.manifests import meta
from runner.cluster import example

pytestmark = pytest.mark.cluster

COMPONENTS = ("run", "store", "retention", "pre-pull", "test")


@cache
def policies(*options: str, testing: bool = False) -> tuple[dict[str, Any], ...]:
    """Those of a release; with `testing` also those that are there while `helm test` runs."""
    objects = render(values(*options))
    found = [thing for thing in objects if thing["kind"] == "NetworkPolicy"]
    hooked = [
        thing for thing in found if "helm.sh/hook" in thing["metadata"].get("annotations", {})
    ]
    return tuple(thing for thing in found if testing or thing not in hooked)


def ours(component: str) -> End:
    """A pod of ours, with the labels that the code gives it."""
    labels = meta.labels("some-run", component, example())
    return End("10.244.0.9", NAMESPACE, labels)


RUN = ours("run")
DNS = End("10.244.0.3", "kube-system", {"k8s-app": "kube-dns"})
NEIGHBOUR = End("10.244.0.10", NAMESPACE, meta.labels("other-run", "run", example()))
NOTEBOOK = End("10.244.0.11", NAMESPACE, {"app": "notebook"})
GATEWAY = End("10.244.1.7", "gateway", {"app": "llm"})
PUBLIC = ("1.1.1.1", "140.82.121.4", "11.0.0.1", "172.32.0.1", "192.169.0.1", "2606:4700::1111")
INSIDE = (
    "10.0.0.1",
    "10.96.0.1",
    "10.255.255.255",
    "172.16.0.1",
    "172.31.255.255",
    "192.168.1.1",
    "100.64.0.1",
    "127.0.0.1",
    "0.0.0.0",
    "224.0.0.1",
    "255.255.255.255",
    "fd00::1",
    "fe80::1",
    "ff02::1",
    "::1",
    "64:ff9b::a00:1",
    "2002:a00:1::1",
)
METADATA = (
    "169.254.169.254",
    "169.254.170.2",
    "100.100.100.200",
    "192.0.0.192",
    "168.63.129.16",
    "fd00:ec2::254",
    "fd20:ce::254",
)


@pytest.mark.parametrize(
    ("to", "port", "protocol", "allowed"),
    [
        (DNS, 53, "UDP", True),
        (DNS, 53, "TCP", True),
        (DNS, 9153, "TCP", False),
        (End("10.244.0.4", "kube-system", {"app": "dashboard"}), 53, "UDP", False),
        (End("10.244.0.5", "elsewhere", {"k8s-app": "kube-dns"}), 53, "UDP", False),
        (End("169.254.20.10"), 53, "UDP", True),
        (End("169.254.20.10"), 80, "TCP", False),
        (End("169.254.169.254"), 53, "UDP", False),
        (NEIGHBOUR, 8888, "TCP", False),
        (NOTEBOOK, 80, "TCP", False),
        (GATEWAY, 4000, "TCP", False),
        *((End(address), 443, "TCP", True) for address in PUBLIC),
        *((End(address), 22, "TCP", True) for address in PUBLIC),
        *((End(address), 443, "TCP", False) for address in INSIDE),
        *((End(address), 80, "TCP", False) for address in METADATA),
    ],
)
def test_a_run_reaches(to: End, port: int, protocol: str, allowed: bool) -> None:
    assert egress(policies(), RUN, to, port, protocol) == allowed


@given(st.ip_addresses())
def test_a_run_reaches_nothing_that_is_not_public(address: IPv4Address | IPv6Address) -> None:
    public = address.is_global and not address.is_multicast
    reached = egress(policies(), RUN, End(str(address)), 443)
    assert public or not reached


@given(st.ip_addresses(network="0.0.0.0/0").filter(lambda a: a.is_global and not a.is_multicast))
def test_a_run_reaches_what_is_public(address: IPv4Address) -> None:
    azure = ip_address("168.63.129.16")
    relays = address in (azure, ip_address("192.0.0.9"), ip_address("192.0.0.10"))
    assert egress(policies(), RUN, End(str(address)), 443) or relays


@pytest.mark.parametrize(
    ("to", "port", "protocol", "allowed"),
    [
        (End("10.0.5.7"), 443, "TCP", True),
        (End("10.0.5.7"), 443, "UDP", False),
        (End("10.0.5.7"), 80, "TCP", False),
        (End("10.0.5.7"), 8000, "TCP", True),
        (End("10.0.5.7"), 8100, "TCP", True),
        (End("10.0.5.7"), 8101, "TCP", False),
        (End("10.0.5.8"), 443, "TCP", False),
        (End("fd00:10::5"), 9999, "TCP", True),
        (End("fd00:11::5"), 9999, "TCP", False),
        (GATEWAY, 4000, "TCP", True),
        (GATEWAY, 4001, "TCP", False),
        (End("10.244.1.8", "gateway", {"app": "database"}), 4000, "TCP", False),
        (End("10.244.1.9", NAMESPACE, {"app": "llm"}), 4000, "TCP", False),
        (End("10.244.2.1", "mirrors", {"any": "thing"}), 3141, "TCP", True),
        (End("198.35.26.96"), 443, "TCP", False),
        (End("2620:0:861::1"), 443, "TCP", False),
        (End("198.35.27.1"), 443, "TCP", True),
        (
            End("10.244.3.1", "openshift-dns", {"dns": "default"}),
            5353,
            "UDP",
            True,
        ),
        (DNS, 53, "UDP", False),
        (End("169.254.169.254"), 80, "TCP", False),
    ],
)
def test_a_run_reaches_what_the_values_list(
    to: End, port: int, protocol: str, allowed: bool
) -> None:
    assert egress(policies("network"), RUN, to, port, protocol) == allowed


def test_without_the_internet() -> None:
    found = policies("no-internet")
    assert not any(egress(found, RUN, End(address), 443) for address in (*PUBLIC, *INSIDE))
    assert egress(found, RUN, End("169.254.20.10"), 53, "UDP")
    assert not egress(found, RUN, DNS, 53, "UDP")


def test_without_dns() -> None:
    ends = (DNS, NEIGHBOUR, *map(End, (*PUBLIC, *INSIDE, *METADATA, "169.254.20.10")))
    assert not any(egress(policies("no-dns"), RUN, to, 53, "UDP") for to in ends)


@pytest.mark.parametrize("component", COMPONENTS)
@pytest.mark.parametrize("source", [NEIGHBOUR, NOTEBOOK, GATEWAY, End("1.1.1.1"), End("10.0.0.1")])
def test_nothing_reaches_our_pods(component: str, source: End) -> None:
    for found in (policies(), policies("network"), policies(testing=True)):
        assert not ingress(found, ours(component), source, 8888)


@pytest.mark.parametrize("component", [name for name in COMPONENTS if name != "run"])
def test_our_other_pods_reach_nothing(component: str) -> None:
    ends = (DNS, NEIGHBOUR, GATEWAY, *map(End, (*PUBLIC, *INSIDE, *METADATA)))
    for found in (policies(), policies("network")):
        assert not any(egress(found, ours(component), to, 53, "UDP") for to in ends)
        assert not any(egress(found, ours(component), to, 443) for to in ends)


def test_the_test_is_a_client_while_it_runs() -> None:
    assert egress(policies(testing=True), ours("test"), End("10.96.0.1"), 443)
    assert not egress(policies(testing=True), RUN, End("10.96.0.1"), 443)


def test_pods_of_others_are_left_alone_unless_asked() -> None:
    assert egress(policies(), NOTEBOOK, End("10.0.0.1"), 443)
    assert ingress(policies(), NOTEBOOK, GATEWAY, 80)
    assert not egress(policies("network"), NOTEBOOK, End("10.0.0.1"), 443)
    assert not ingress(policies("network"), NOTEBOOK, GATEWAY, 80)


def test_labels_of_the_values_open_nothing() -> None:
    """`pods.labels` cannot make a pod of ours one that no policy selects."""
    cluster = example(pods={"labels": {"app.kubernetes.io/name": "other"}})
    pod = End("10.244.0.9", NAMESPACE, meta.labels("some-run", "run", cluster))
    assert not egress(policies(), pod, End("10.0.0.1"), 443)


def test_policies_can_be_left_out() -> None:
    assert policies("no-policies", testing=True) == ()
    assert all(policies(name) for name in OPTIONS if name != "no-policies")
