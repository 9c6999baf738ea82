"""The record of a run that has not begun: in the Job's ConfigMap, not in the store yet."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import TYPE_CHECKING

from runner.backends.kubernetes.snapshot import Job
from runner.backends.kubernetes.translate import NotFound
from runner.errors import RunNotFound
from runner.record.travel import unpack

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client


def bring(client: Client, job: Job, local: Path) -> None:
    """Put the record that travels with a Job into the directory `local`.

    Raises RunNotFound where there is none.
    """
    from runner.pod.layout import TRAVELLING

    try:
        packed = (client.read("configmaps", job.name).get("binaryData") or {}).get(TRAVELLING.name)
    except NotFound:
        packed = None
    if packed is None:
        raise RunNotFound(
            f"the cluster has the Job of {job.run_id}, and not its record: "
            "that is on the machine where it was submitted",
            hint=f"there `runner resume {job.run_id}` starts it; anywhere "
            f"`runner delete --backend kubernetes {job.run_id}` removes it",
        )
    unpack(io.BytesIO(base64.b64decode(packed)), local, packed=True, only_new=True)
