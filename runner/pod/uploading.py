"""Copying the record to its store while the agent's container runs, where that is not a claim."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path


def uploading(
    record: Path,
    superseded: Callable[[], object],
    environ: Mapping[str, str] = os.environ,
) -> AbstractContextManager[None]:
    """Copy the record up while the context lasts, and completely at its end.

    `superseded` is called where another pod has written to the store. Does nothing where
    the store is a claim: then the record is in it already.
    """
    url = environ.get("RUNNER_RECORD_URL")
    if not url:
        return nullcontext()
    from runner.store import open_store  # a pod with a claim needs no S3 client
    from runner.store.uploader import uploading as to_store

    return to_store(open_store(url), record, superseded)
