"""The Secret and the ConfigMap of a run's Job."""

from __future__ import annotations

import base64
import json
from collections.abc import Mapping
from typing import Any

from runner import hidden
from runner.backends.kubernetes.manifests.meta import job_name, run_labels
from runner.plan import RunPlan
from runner.pod import layout

MOST_BYTES = 1024**2
"""That a ConfigMap may hold."""

AGENT_FILE = "agent.json"


def secret(
    plan: RunPlan, number: int, owner: Mapping[str, Any] | None, token: str
) -> dict[str, Any]:
    """Holds the token of the run's sandbox server; goes with the Job."""
    return {
        "apiVersion": "v1",
        "kind": "Secret",
        "metadata": _metadata(plan, number, owner),
        "type": "Opaque",
        "immutable": True,
        "stringData": {layout.TOKEN.name: token},
    }


def config_map(
    plan: RunPlan,
    number: int,
    owner: Mapping[str, Any] | None,
    record: bytes | None,
    agent: Mapping[str, Any],
) -> dict[str, Any]:
    """Holds the plan, what the agent is told besides, and the record so far if it travels."""
    shown = hidden.shown(plan).model_dump_json(indent=2) if hidden.any_in(plan) else ""
    binary = {layout.TRAVELLING.name: base64.b64encode(record).decode()} if record else {}
    return {
        "apiVersion": "v1",
        "kind": "ConfigMap",
        "metadata": _metadata(plan, number, owner),
        "immutable": True,
        "data": {
            layout.PLAN.name: plan.model_dump_json(indent=2) + "\n",
            **({layout.SHOWN: shown + "\n"} if shown else {}),
            AGENT_FILE: json.dumps(agent, indent=2, ensure_ascii=False) + "\n",
        },
        **({"binaryData": binary} if binary else {}),
    }


def fits(made: Mapping[str, Any]) -> bool:
    """Whether a ConfigMap is not larger than the API server takes."""
    text = sum(len(value.encode()) for value in made["data"].values())
    binary = sum(len(value) * 3 // 4 for value in made.get("binaryData", {}).values())
    keys = sum(len(key) for table in ("data", "binaryData") for key in made.get(table, {}))
    return bool(text + binary + keys <= MOST_BYTES)


def _metadata(plan: RunPlan, number: int, owner: Mapping[str, Any] | None) -> dict[str, Any]:
    return {
        "name": job_name(plan.run_id, number),
        "labels": run_labels(plan, number),
        **({"ownerReferences": [dict(owner)]} if owner else {}),
    }
