"""What is true of the manifests of any plan on any cluster."""

from __future__ import annotations

import json
import re

from hypothesis import given, settings
from hypothesis import strategies as st
from plans import VALUES, clusters, plans
from pods import containers, spec, variables

from runner.backends.kubernetes import manifests
from runner.backends.kubernetes.manifests.environment import literal
from runner.cluster import Cluster
from runner.config.quantities import amount
from runner.plan import RunPlan

LABEL_VALUE = re.compile(r"(([A-Za-z0-9][-A-Za-z0-9_.]*)?[A-Za-z0-9])?")
DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")


def expanded(value: str, variables: dict[str, str]) -> str:
    """What kubelet makes of a value, as it documents it."""

    def one(match: re.Match[str]) -> str:
        return "$" if match[0] == "$$" else variables.get(match[1], match[0])

    return re.sub(r"\$\$|\$\(([^)]*)\)", one, value)


@given(VALUES)
def test_kubelet_leaves_values_as_they_are(value: str) -> None:
    assert expanded(literal(value), {"HOME": "/root"}) == value


@settings(max_examples=40)
@given(plans(), clusters(), st.integers(1, 10**9))
def test_names_and_labels_are_valid(plan: RunPlan, cluster: Cluster, number: int) -> None:
    job = manifests.job(plan, cluster, number)
    name = job["metadata"]["name"]
    assert len(name) <= 63
    assert DNS_LABEL.fullmatch(name)
    template = job["spec"]["template"]
    for labels in (job["metadata"]["labels"], template["metadata"]["labels"]):
        assert all(len(v) <= 63 and LABEL_VALUE.fullmatch(v) for v in labels.values())
    assert job["metadata"]["annotations"]["runner/owner"] == plan.author


@settings(max_examples=40)
@given(plans(), clusters())
def test_mounts_and_volumes_fit_together(plan: RunPlan, cluster: Cluster) -> None:
    pod = spec(plan, cluster)
    volumes = [volume["name"] for volume in pod["volumes"]]
    assert len(volumes) == len(set(volumes))
    assert {m["name"] for c in containers(pod).values() for m in c["volumeMounts"]} == set(volumes)
    for container in containers(pod).values():
        paths = [mount["mountPath"] for mount in container["volumeMounts"]]
        assert len(paths) == len(set(paths))


@settings(max_examples=40)
@given(plans(), clusters())
def test_variables_are_there_once_and_say_what_was_meant(plan: RunPlan, cluster: Cluster) -> None:
    for container in containers(spec(plan, cluster)).values():
        found = variables(container)
        assert len(found) == len(container["env"])
        for name in set(found) & set(cluster.pods.env):
            if container["name"] in ("clone", "install"):
                assert expanded(found[name], {}) == cluster.pods.env[name]


@settings(max_examples=40)
@given(plans(), clusters())
def test_the_experiments_own_variables_are_in_no_manifest_but_the_plan(
    plan: RunPlan, cluster: Cluster
) -> None:
    value = "do-not-show-me-in-a-pod"
    sandbox = plan.experiment.sandbox.model_copy(update={"env": {"OWN": value}})
    experiment = plan.experiment.model_copy(update={"sandbox": sandbox})
    plan = plan.model_copy(update={"experiment": experiment})
    assert value not in json.dumps(manifests.job(plan, cluster, 1))
    assert value in manifests.config_map(plan, 1, None, None, {})["data"]["plan.json"]


@settings(max_examples=40)
@given(plans(), clusters())
def test_the_pod_has_room_for_all_its_volumes(plan: RunPlan, cluster: Cluster) -> None:
    pod = spec(plan, cluster)
    found = containers(pod)
    on_disk = [
        amount(volume["emptyDir"]["sizeLimit"])
        for volume in pod["volumes"]
        if "emptyDir" in volume and "medium" not in volume["emptyDir"]
    ]
    stay = [found[name] for name in ("sandbox", "agent") if name in found]
    limits = [amount(c["resources"]["limits"]["ephemeral-storage"]) for c in stay]
    assert sum(limits) >= sum(on_disk)
    for container in found.values():
        requests, limits_of = container["resources"]["requests"], container["resources"]["limits"]
        assert requests["memory"] == limits_of["memory"]
        for key in set(requests) & set(limits_of):
            assert amount(requests[key]) <= amount(limits_of[key])


@settings(max_examples=40)
@given(plans(), clusters())
def test_pod_meets_pod_security_restricted(plan: RunPlan, cluster: Cluster) -> None:
    pod = spec(plan, cluster)
    assert pod["securityContext"]["runAsNonRoot"] is True
    assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert pod["automountServiceAccountToken"] is False
    allowed = {"configMap", "emptyDir", "secret", "persistentVolumeClaim"}
    assert all(set(volume) - {"name"} <= allowed for volume in pod["volumes"])
    for container in containers(pod).values():
        own = container["securityContext"]
        assert own["allowPrivilegeEscalation"] is False
        assert own["capabilities"] == {"drop": ["ALL"]}
        assert not {"ports", "livenessProbe", "startupProbe", "envFrom"} & set(container)
