"""The chart rendered for tests, and values that try its options."""

from __future__ import annotations

import copy
import json
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import yaml

CHART = Path(__file__).resolve().parent.parent / "charts" / "runner"
KUBERNETES = "1.34.0"
NAMESPACE = "team"

IMAGES: dict[str, Any] = {
    "images": {
        "agent": "registry.example.org/runner/agent@sha256:" + "a" * 64,
        "client": "registry.example.org/runner/client@sha256:" + "c" * 64,
        "catalogue": [
            {
                "name": "base",
                "image": "registry.example.org/runner/base@sha256:" + "b" * 64,
                "python": "/opt/python/bin/python",
                "pythonVersion": "3.11.2",
                "packages": ["numpy==2.3.5"],
                "systemPackages": ["git"],
            }
        ],
    }
}

_GPU = {"key": "nvidia.com/gpu", "operator": "Exists", "effect": "NoSchedule"}
_GROUP = {"kind": "Group", "name": "interpretability"}
_ROBOT = {"kind": "ServiceAccount", "name": "ci", "namespace": "build"}

OPTIONS: dict[str, dict[str, Any]] = {
    "images": {"images": {"pullSecrets": ["lab-registry"], "pullPolicy": "Always"}},
    "pre-pull": {"prePull": {"enabled": True, "nodeSelector": {"gpu": "true"}}},
    "gpu-class": {
        "gpuHourUsd": 2.5,
        "gpuIdleTimeout": None,
        "gpuClasses": {
            "T4": None,
            "A100": {
                "values": ["nvidia-tesla-a100", "nvidia-a100-80gb"],
                "label": "cloud.google.com/gke-accelerator",
                "resource": "nvidia.com/gpu",
                "runtimeClassName": "nvidia",
                "tolerations": [{**_GPU, "tolerationSeconds": 5}],
            },
        },
    },
    "secrets": {
        "secrets": {
            "create": False,
            "default": "keys",
            "named": {"HF_TOKEN": {"secret": "huggingface", "key": "token"}},
            "git": "git-credentials",
        }
    },
    "claims": {
        "records": {
            "claim": {
                "name": "kept",
                "size": "1Ti",
                "storageClass": "",
                "accessModes": ["ReadWriteOnce"],
            }
        },
        "cache": {"enabled": True, "claim": {"storageClass": "nfs"}},
    },
    "existing-claims": {
        "records": {"existingClaim": "records"},
        "cache": {"enabled": True, "existingClaim": "cache"},
        "volumes": {"checkpoints": {"claim": "lab", "subPath": "gpt2", "readOnly": False}},
    },
    "s3": {
        "records": {
            "s3": {
                "url": "s3://bucket/prefix",
                "endpointUrl": "https://s3.example.org",
                "region": "eu-central-1",
                "secret": "runner-s3",
            }
        }
    },
    "retention": {"records": {"retentionDays": 90, "retentionSchedule": "0 4 * * 0"}},
    "network": {
        "network": {
            "denyOthers": True,
            "dns": {
                "namespace": "openshift-dns",
                "podLabels": {"dns": "default"},
                "cidrs": [],
                "ports": [5353],
            },
            "blocked": ["198.35.26.0/24", "2620:0:861::/48"],
            "allow": [
                {"cidr": "10.0.5.7/32", "ports": [443, {"port": 8000, "endPort": 8100}]},
                {"cidr": "fd00:10::/64"},
                {"namespace": "gateway", "podLabels": {"app": "llm"}, "ports": [4000]},
                {"namespace": "mirrors"},
            ],
        }
    },
    "no-internet": {"network": {"internet": False, "dns": {"namespace": ""}}},
    "no-dns": {"network": {"internet": False, "dns": {"namespace": "", "cidrs": []}}},
    "no-policies": {"network": {"policies": False}},
    "proxy": {
        "network": {
            "httpProxy": "http://proxy.example.org:3128",
            "httpsProxy": "http://proxy.example.org:3128",
            "noProxy": ".example.org",
            "caBundle": {"configMap": "lab-ca"},
        }
    },
    "ca": {
        "network": {
            "caBundle": {"pem": "-----BEGIN CERTIFICATE-----\nAA==\n-----END CERTIFICATE-----\n"}
        }
    },
    "pods": {
        "resources": {"cpu": 4, "memory": "16Gi", "shm": "2Gi", "disk": "50Gi"},
        "pods": {
            "labels": {"cost-centre": "42"},
            "annotations": {"note": 'a "quoted"\nnote'},
            "nodeSelector": {"pool": "research"},
            "tolerations": [{"key": "team", "operator": "Equal", "value": "a"}],
            "env": {"UV_DEFAULT_INDEX": "https://packages.example.org/simple"},
            "terminationGraceS": 90,
            "runtimeClassName": "kata",
            "hostUsers": False,
        },
        "jobTtl": "1d12h",
    },
    "queue": {
        "queue": {"name": "runs", "priorityClass": "normal"},
        "kueue": {"clusterQueue": "lab"},
    },
    "flavors": {
        "queue": {"name": "runs"},
        "kueue": {
            "clusterQueue": "lab",
            "flavors": [
                {
                    "name": "a100",
                    "nodeLabels": {"nvidia.com/gpu.product": "NVIDIA-A100-SXM4-80GB"},
                    "tolerations": [_GPU],
                    "quota": {"cpu": 128, "memory": "1Ti", "nvidia.com/gpu": 8},
                },
                {"name": "cpu", "quota": {"nvidia.com/gpu": 0, "memory": "64Gi", "cpu": "500m"}},
            ],
        },
    },
    "people": {
        "rbac": {
            "researchers": [_GROUP, _ROBOT, {"kind": "ServiceAccount", "name": "here"}],
            "viewers": [{"kind": "User", "name": "jane@example.org"}],
        },
        "clusterRole": {"create": True},
    },
    "bounds": {
        "quota": {"requests.nvidia.com/gpu": 8, "count/jobs.batch": "200"},
        "limits": [{"type": "Container", "max": {"memory": "512Gi"}, "default": {"cpu": 1}}],
    },
    "labels": {
        "commonLabels": {"team": "interpretability"},
        "commonAnnotations": {"contact": "admin@example.org"},
    },
}
"""Each by itself."""

TOGETHER = [name for name in OPTIONS if name not in ("existing-claims", "s3", "no-policies", "ca")]
"""Those that do not exclude one another; the later one wins where they overlap."""


def merged(*parts: dict[str, Any]) -> dict[str, Any]:
    """Values as helm merges them: tables by key, anything else by the later one."""
    made: dict[str, Any] = {}
    for part in parts:
        for key, value in part.items():
            old = made.get(key)
            both = isinstance(old, dict) and isinstance(value, dict)
            made[key] = merged(old, value) if both else copy.deepcopy(value)
    return made


def values(*names: str) -> dict[str, Any]:
    """Those of some options, with images."""
    return merged(IMAGES, *(OPTIONS[name] for name in names))


def told(*words: str | Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    """What helm says."""
    helm = shutil.which("helm")
    if helm is None:
        pytest.fail("there is no helm on PATH; `make test-cluster` sets it", False)
    argv = [helm, *(str(word) for word in words)]
    return subprocess.run(argv, input=stdin, capture_output=True, text=True, check=False)


def render(given: dict[str, Any], namespace: str = NAMESPACE) -> list[dict[str, Any]]:
    """The chart's objects for these values, hooks included, without a cluster."""
    ran = template(given, namespace)
    assert ran.returncode == 0, ran.stderr
    return [thing for thing in yaml.safe_load_all(ran.stdout) if thing]


def template(given: dict[str, Any], namespace: str = NAMESPACE) -> subprocess.CompletedProcess[str]:
    """`helm template`, which may refuse the values."""
    where = ("--namespace", namespace, "--kube-version", KUBERNETES, "--values", "-")
    return told("template", "r", CHART, *where, stdin=json.dumps(given))


def find(objects: list[dict[str, Any]], kind: str, name: str) -> dict[str, Any]:
    """The one object of this kind and name."""
    (found,) = [x for x in objects if (x["kind"], x["metadata"]["name"]) == (kind, name)]
    return found
