"""The record of a run that has not begun, out of its Job's ConfigMap."""

from __future__ import annotations

import base64
import os
from pathlib import Path
from typing import Any, cast

import pytest
from pods import packed
from test_record import PLAN

from runner.backends.kubernetes.client import Client
from runner.backends.kubernetes.snapshot import Job
from runner.backends.kubernetes.translate import NotFound
from runner.backends.kubernetes.travelling import bring
from runner.errors import RunNotFound
from runner.record import Record
from runner.record.travel import TRAVELS_BYTES, pack
from runner.record.verify import verify

JOB = Job("r1-1", "uid", "r1", 1, "2026-01-01T00:00:00Z", suspended=True)


class ConfigMaps:
    """What the API server has."""

    def __init__(self, *made: dict[str, Any]) -> None:
        self.made = made

    def read(self, resource: str, name: str) -> dict[str, Any]:
        assert (resource, name) == ("configmaps", "r1-1")
        if not self.made:
            raise NotFound("not found")
        return self.made[0]


def client(*made: dict[str, Any]) -> Client:
    return cast("Client", ConfigMaps(*made))


def test_the_record_comes_with_the_job(tmp_path: Path) -> None:
    record = Record.create(tmp_path / "there", "r1", PLAN)
    record.close()
    text = base64.b64encode(packed(record.path)).decode()
    here = tmp_path / "here" / "r1"
    bring(client({"binaryData": {"record.tar.gz": text}}), JOB, here)
    assert verify(here, None).ok
    assert Record.open(here).state().name == "demo"


@pytest.mark.parametrize("made", [(), ({"data": {}},)])
def test_a_job_without_a_record_is_told_with_what_can_be_done(
    made: tuple[dict[str, Any], ...], tmp_path: Path
) -> None:
    with pytest.raises(RunNotFound, match="where it was submitted") as caught:
        bring(client(*made), JOB, tmp_path / "r1")
    assert "runner delete --backend kubernetes r1" in caught.value.hint
    assert not (tmp_path / "r1").exists()


def test_a_large_record_does_not_travel(tmp_path: Path) -> None:
    record = Record.create(tmp_path, "r1", PLAN)
    record.add_input(os.urandom(TRAVELS_BYTES))
    record.close()
    assert pack(record.path) is None
