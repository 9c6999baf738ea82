"""The record store of a cluster where it is S3: with the user's own keys, or the cluster's."""

from __future__ import annotations

import base64
import os
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING

from runner.errors import InfrastructureError
from runner.store.objects import Denied, Keys
from runner.store.store import Store, open_store

if TYPE_CHECKING:
    from runner.backends.kubernetes.client import Client
    from runner.cluster import S3

_OWN = ("AWS_ACCESS_KEY_ID", "AWS_PROFILE", "AWS_WEB_IDENTITY_TOKEN_FILE")


def store_of(client: Client, s3: S3, run_id: str) -> Store:
    """The run's folder in the store, with the first keys that it lets in.

    Raises Denied where it lets in none, InfrastructureError where it does not answer.
    """
    refused: InfrastructureError | None = None
    for keys in _keys(client, s3):
        store = open_store(
            f"{s3.url.rstrip('/')}/{run_id}",
            endpoint_url=s3.endpoint_url,
            region=s3.region,
            keys=keys,
        )
        try:
            store.exists()
        except Denied as error:
            refused = error
        else:
            return store
    assert refused is not None  # noqa: S101 - the cluster's keys are tried at last
    raise refused


def _keys(client: Client, s3: S3) -> Iterator[Keys | None]:
    """None stands for what AWS's own variables and files say."""
    files = Path.home() / ".aws"
    if any(name in os.environ for name in _OWN) or (files / "credentials").exists():
        yield None
    data = client.read("secrets", s3.secret).get("data") or {}
    found = {name: base64.b64decode(value).decode() for name, value in data.items()}
    try:
        yield Keys(
            found["AWS_ACCESS_KEY_ID"],
            found["AWS_SECRET_ACCESS_KEY"],
            found.get("AWS_SESSION_TOKEN"),
        )
    except KeyError as error:
        raise InfrastructureError(
            f"the Secret {s3.secret} has no key {error}",
            hint="an admin puts the record store's keys there, or set your own AWS_PROFILE",
        ) from error
