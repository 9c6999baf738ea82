"""A provisioner: a claim of the storage class `lab` gets a directory of this machine.

Claims may be ReadWriteMany, as both nodes are this machine. Deleting a claim deletes its directory,
as most classes do it. The volumes are of the type `local`, which honours fsGroup (a `hostPath` does
not).
"""

from __future__ import annotations

import json
import shutil
import threading
import time
import urllib.error
from collections.abc import Iterator
from typing import Any

from labcluster.client import apply, request
from labcluster.node import nodes
from labcluster.places import VOLUMES
from labcluster.processes import say

CLASS = "lab"
PROVISIONER = "labcluster/volumes"
CLAIMS, PERSISTENT_VOLUMES = "/api/v1/persistentvolumeclaims", "/api/v1/persistentvolumes"

Object = dict[str, Any]


def install() -> None:
    """Make the storage class, the default one as on most clusters."""
    apply(storage_class())


def provision() -> None:
    """Answer claims for ever. Survives an API server that goes and comes."""
    VOLUMES.mkdir(parents=True, exist_ok=True)
    threading.Thread(target=_each, args=(PERSISTENT_VOLUMES, _reclaim), daemon=True).start()
    _each(CLAIMS, _answer)


def storage_class() -> Object:
    return {
        "apiVersion": "storage.k8s.io/v1",
        "kind": "StorageClass",
        "metadata": {
            "name": CLASS,
            "annotations": {"storageclass.kubernetes.io/is-default-class": "true"},
        },
        "provisioner": PROVISIONER,
    }


def volume(claim: Object, on: list[str]) -> Object:
    """The PersistentVolume that is made for a claim, bound to it, usable on these nodes."""
    meta, spec = claim["metadata"], claim["spec"]
    name = f"{CLASS}-{meta['uid']}"
    here = {"key": "kubernetes.io/hostname", "operator": "In", "values": on}
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": name,
            # Tells the volume controller that deleting it is not its business.
            "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER},
        },
        "spec": {
            "storageClassName": CLASS,
            "accessModes": spec["accessModes"],
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "persistentVolumeReclaimPolicy": "Delete",
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                **{key: meta[key] for key in ("name", "namespace", "uid")},
            },
            "local": {"path": str(VOLUMES / name)},
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [here]}]}},
        },
    }


def _answer(claim: Object) -> None:
    meta, spec = claim["metadata"], claim["spec"]
    waits = claim["status"]["phase"] == "Pending" and "volumeName" not in spec
    if spec.get("storageClassName") != CLASS or not waits or "deletionTimestamp" in meta:
        return
    made = volume(claim, [node.name for node in nodes()])
    (VOLUMES / made["metadata"]["name"]).mkdir(exist_ok=True)
    with request(PERSISTENT_VOLUMES, "POST", made):
        say(f"{meta['namespace']}/{meta['name']}: {made['metadata']['name']}")


def _reclaim(known: Object) -> None:
    name = known["metadata"]["name"]
    ours = known["spec"].get("storageClassName") == CLASS
    if not ours or known["status"].get("phase") != "Released":
        return
    if known["spec"]["persistentVolumeReclaimPolicy"] != "Delete":
        return
    shutil.rmtree(VOLUMES / name, ignore_errors=True)
    with request(f"{PERSISTENT_VOLUMES}/{name}", "DELETE"):
        say(f"{name}: deleted")


def _each(path: str, act: Any) -> None:
    """Call for each object that is there, or comes, or changes."""
    for known in _watched(path):
        try:
            act(known)
        except urllib.error.HTTPError as error:
            # 409: made already; 404: deleted already. The watch tells an object's state twice.
            if error.code not in (404, 409):
                say(f"{path}: {error}")
        except OSError as error:
            say(f"{path}: {error}")


def _watched(path: str) -> Iterator[Object]:
    while True:
        try:
            # A new watch first tells all that is there, so nothing is missed in between.
            with request(f"{path}?watch=true", timeout=300) as events:
                for line in events:
                    event = json.loads(line)
                    if event["type"] in ("ADDED", "MODIFIED"):
                        yield event["object"]
        except (OSError, ValueError) as error:
            say(f"{path}: {error}")
        time.sleep(0.5)
