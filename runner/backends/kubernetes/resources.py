"""Where the API has what: the paths of the resources that we use."""

from __future__ import annotations

from urllib.parse import quote

_BATCH = "/apis/batch/v1"
_KUEUE = "/apis/kueue.x-k8s.io/v1beta1"
_NETWORKING = "/apis/networking.k8s.io/v1"
_RBAC = "/apis/rbac.authorization.k8s.io/v1"
_STORAGE = "/apis/storage.k8s.io/v1"

NAMESPACED = {
    **dict.fromkeys(
        (
            "configmaps",
            "events",
            "limitranges",
            "persistentvolumeclaims",
            "pods",
            "resourcequotas",
            "secrets",
            "serviceaccounts",
            "services",
        ),
        "/api/v1",
    ),
    "jobs": _BATCH,
    "localqueues": _KUEUE,
    "networkpolicies": _NETWORKING,
    "rolebindings": _RBAC,
    "roles": _RBAC,
    "workloads": _KUEUE,
}
PENDING = "/apis/visibility.kueue.x-k8s.io/v1beta1/namespaces/{}/localqueues/{}/pendingworkloads"
"""Who waits in a queue, in order."""
CLUSTER_WIDE = {
    "clusterqueues": _KUEUE,
    "namespaces": "/api/v1",
    "nodes": "/api/v1",
    "persistentvolumes": "/api/v1",
    "priorityclasses": "/apis/scheduling.k8s.io/v1",
    "resourceflavors": _KUEUE,
    "runtimeclasses": "/apis/node.k8s.io/v1",
    "selfsubjectaccessreviews": "/apis/authorization.k8s.io/v1",
    "storageclasses": _STORAGE,
    "workloadpriorityclasses": _KUEUE,
}


def path_of(resource: str, namespace: str, name: str = "", *, everywhere: bool = False) -> str:
    """The path of a collection, or of an object in it; `everywhere`: of all namespaces."""
    if everywhere:
        return f"{NAMESPACED[resource]}/{resource}"
    if resource in NAMESPACED:
        collection = f"{NAMESPACED[resource]}/namespaces/{quote(namespace, safe='')}/{resource}"
    else:
        collection = f"{CLUSTER_WIDE[resource]}/{resource}"
    return f"{collection}/{quote(name, safe='')}" if name else collection
