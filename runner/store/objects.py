"""The objects of one run in a bucket. Every error of the store is put into words here."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import aiohttp
import botocore.exceptions
import s3fs

from runner.errors import InfrastructureError

CONNECT_S, READ_S = 10.0, 60.0
PART_BYTES, PARTS_AT_ONCE = 16 << 20, 2
"""Of a large file, so that 32 MiB of memory are enough."""


class Denied(InfrastructureError):
    """The store does not let these keys in."""


@dataclass(frozen=True)
class Keys:
    """An access key of the store; its values are in no repr."""

    id: str = field(repr=False)
    secret: str = field(repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Item:
    """One object: its key below the run's folder, bytes, ETag, and when it was written (ns)."""

    key: str
    size: int
    tag: str
    written_ns: int


def open_objects(
    url: str,
    *,
    endpoint_url: str | None = None,
    region: str | None = None,
    keys: Keys | None = None,
) -> Objects:
    """The folder at `url` (`s3://bucket/prefix/run`); by AWS's own variables and files if no keys.

    `AWS_ENDPOINT_URL` and `AWS_DEFAULT_REGION` of the environment count where the others are None.
    """
    endpoint_url = endpoint_url or os.environ.get("AWS_ENDPOINT_URL")
    config: dict[str, Any] = {"retries": {"max_attempts": 3, "mode": "standard"}}
    if endpoint_url:
        # Stores other than AWS's know neither names of buckets in DNS nor the newer checksums.
        config |= {
            "s3": {"addressing_style": "path"},
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        }
    given = {"key": keys.id, "secret": keys.secret, "token": keys.token} if keys else {}
    files = s3fs.S3FileSystem(
        endpoint_url=endpoint_url,
        client_kwargs={"region_name": region} if region else {},
        config_kwargs={**config, "connect_timeout": CONNECT_S, "read_timeout": READ_S},
        skip_instance_cache=True,
        use_listings_cache=False,
        **given,
    )
    return Objects(files, url)


class Objects:
    """The objects below one URL."""

    def __init__(self, files: Any, url: str) -> None:
        """Use `open_objects`."""
        self._files = files
        self.url = url.rstrip("/")
        self._top = self.url.removeprefix("s3://")

    def list(self, folder: str = "") -> list[Item]:
        """All objects, or those in a folder."""
        top = f"{self._top}/{folder}".rstrip("/")
        with self._translated("list"):
            try:
                found = self._files.find(top, detail=True)
            except FileNotFoundError:
                return []
        return [
            Item(
                name.removeprefix(f"{self._top}/"),
                item["size"],
                item.get("ETag", "").strip('"'),
                int(item["LastModified"].timestamp() * 1e9),
            )
            for name, item in sorted(found.items())
            if name.startswith(f"{top}/") and item["type"] == "file"
        ]

    def read(self, key: str, begin: int, end: int) -> bytes:
        """The bytes of an object from `begin` up to `end`."""
        with self._translated(f"read {key}"):
            return bytes(self._files.cat_file(f"{self._top}/{key}", start=begin, end=end))

    def write(self, key: str, data: bytes) -> None:
        """Write an object: whole, or not at all."""
        with self._translated(f"write {key}"):
            self._files.pipe_file(f"{self._top}/{key}", data)

    def put(self, key: str, source: Path) -> None:
        """Copy a file up."""
        with self._translated(f"write {key}"):
            self._files.put_file(
                str(source),
                f"{self._top}/{key}",
                chunksize=PART_BYTES,
                max_concurrency=PARTS_AT_ONCE,
            )

    def get(self, key: str, target: Path) -> None:
        """Copy an object into a file."""
        with self._translated(f"read {key}"):
            self._files.get_file(f"{self._top}/{key}", str(target))

    def delete(self, first: str) -> None:
        """Remove every object below the URL, those that begin with `first` before the others.

        One that is cut off in the middle so leaves what nobody takes for a record.
        """
        names = [f"{self._top}/{item.key}" for item in self.list()]
        with self._translated("delete"):
            for name in sorted(
                names, key=lambda name: not name.startswith(f"{self._top}/{first}/")
            ):
                self._files.rm_file(name)

    @contextlib.contextmanager
    def _translated(self, what: str) -> Iterator[None]:
        try:
            yield
        except PermissionError as error:
            raise Denied(
                f"{self.url}: the record store refuses to {what}: {error}",
                hint="its keys are in the Secret that `records.s3.secret` of the chart names",
            ) from error
        except botocore.exceptions.NoCredentialsError as error:
            raise Denied(
                f"{self.url}: there are no keys for the record store",
                hint="set AWS_PROFILE, or AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
            ) from error
        except FileNotFoundError as error:
            raise InfrastructureError(
                f"{self.url}: cannot {what}: {error}",
                hint="does the bucket exist? The admin's `records.s3.url` of the chart names it",
            ) from error
        except (
            OSError,
            botocore.exceptions.BotoCoreError,
            botocore.exceptions.ClientError,
            aiohttp.ClientError,
        ) as error:
            raise InfrastructureError(
                f"{self.url}: cannot {what}: {error or type(error).__name__}",
                hint="is the store up, and reachable from here?",
            ) from error
