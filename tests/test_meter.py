"""What nvidia-smi prints, and when GPUs count as unused."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime

import pytest

from runner.sandbox.meter import (
    ACTIVITY,
    SMI,
    Gpu,
    Meter,
    Reading,
    of_activity,
    of_smi,
    parse,
    span,
)

A = "GPU-5f6b0f1c-0000-0000-0000-000000000000"
B = "GPU-5f6b0f1c-0000-0000-0000-000000000001"


@pytest.mark.parametrize(
    ("listing", "gpus"),
    [
        (f"{A}, 0, 3\n", [Gpu(0, 3)]),
        (f"{A}, 97, 41275\n{B}, 0, 0\n", [Gpu(97, 41275), Gpu(0, 0)]),
        (f"{A}, [N/A], [N/A]\n", [Gpu(None, None)]),  # MIG, vGPU
        (f"{A}, [N/A], 36537\n", [Gpu(None, 36537)]),
        (f"{A}, [Not Supported], [Not Supported]\n", [Gpu(None, None)]),  # drivers before 440
        (f"{A}, [Unknown Error], 12\n", [Gpu(None, 12)]),
        (f"{A}, [GPU requires reset], [GPU requires reset]\n", [Gpu(None, None)]),
        (f"{A}, [Insufficient Permissions], 0\n", [Gpu(None, 0)]),
        (f"{A}, ERR!, ERR!\n", [Gpu(None, None)]),
        (
            f"Unable to determine the device handle for GPU1: 0000:44:00.0: Unknown Error\n{A}, 5, 9\n",
            [Gpu(5, 9)],
        ),
        ("No devices were found\n", []),
        (
            "NVIDIA-SMI has failed because it couldn't communicate with the NVIDIA driver. Make "
            "sure that the latest NVIDIA driver is installed and running.\n\n",
            [],
        ),
        ("Failed to initialize NVML: Driver/library version mismatch\n", []),
        ('Field "utilization.gpu" is not a valid field to query.\n', []),
        ("", []),
        ("\n,,\n, 5, 5\n", []),
    ],
)
def test_what_nvidia_smi_prints(listing: str, gpus: list[Gpu]) -> None:
    assert parse(listing) == gpus


def test_only_the_run_s_own_gpus_count() -> None:
    listing = f"{A}, 97, 41275\n{B}, 0, 0\n"
    assert parse(listing, [B]) == [Gpu(0, 0)]
    assert parse(listing, ["GPU-of-another-machine"]) == []


def test_a_reading() -> None:
    assert of_smi([]) is None
    assert of_smi([Gpu(None, 5)]) is None
    assert of_smi([Gpu(2, 14541), Gpu(0, 0)]) == Reading(
        0, SMI, "nvidia-smi shows 2 %, and 14.2 GiB of memory held"
    )
    some = of_smi([Gpu(3, None), Gpu(None, 0), Gpu(100, 0)])
    assert some is not None
    assert (some.in_use, some.source) == (2, SMI)
    assert of_activity(4, active=True).in_use == 4
    assert of_activity(4, active=False).source == ACTIVITY


def played(meter: Meter, *looks: tuple[float, int | None]) -> Iterator[tuple[float, str]]:
    """What comes of looks: a time, and how many GPUs are in use (None: no answer)."""
    for time, in_use in looks:
        found = None if in_use is None else Reading(in_use, SMI, "seen")
        if news := meter.take(time, found):
            yield time, news


def test_an_unused_gpu_is_told_of_once_and_then_is_over_for_good() -> None:
    meter = Meter(1, 100, begin=0)
    looks = [(float(time), 0) for time in range(10, 150, 10)]
    assert list(played(meter, *looks)) == [(50, "near"), (100, "over")]
    assert list(played(meter, (160, 1), (400, 0))) == [], "it was told to end; use mends it not"
    assert meter.over_at == 100


def test_use_begins_another_stretch() -> None:
    meter = Meter(1, 100, begin=0)
    told = list(played(meter, (50, 0), (90, 0), (95, 1), (140, 0), (145, 0), (195, 0)))
    assert told == [(50, "near"), (145, "near"), (195, "over")]
    assert meter.used_s == 5


def test_nobody_is_ended_without_having_been_told() -> None:
    meter = Meter(1, 100, begin=0)
    assert list(played(meter, (500, 0), (510, 0))) == [(500, "near"), (510, "over")]


def test_without_a_limit_it_only_counts() -> None:
    meter = Meter(1, None, begin=1000)
    assert list(played(meter, (1010, 1), (90_000, 0))) == []
    assert (meter.used_s, meter.idle_s) == (10, 88_990)


def test_no_answer_changes_nothing_while_time_goes_on() -> None:
    meter = Meter(1, 100, begin=0)
    assert list(played(meter, (10, 1), (20, None), (30, 0), (90, None), (130, None))) == [
        (90, "near"),
        (130, "over"),
    ]
    assert meter.used_s == 20
    assert list(played(Meter(1, 100, begin=0), (60, None))) == [(60, "near")]


def test_seconds_of_several_gpus_add_up() -> None:
    meter = Meter(2, 100, begin=0, used_s=7.0)
    list(played(meter, (10, 2), (20, 1), (30, 0), (40, 9)))  # it may see others' as well
    assert meter.used_s == 7 + 20 + 10 + 20
    assert meter.view() == {"count": 2, "source": SMI, "used_s": 57, "idle_s": 0}


def test_words() -> None:
    now = datetime(2026, 11, 27, 12, 0, 0, tzinfo=UTC)
    one, two = Meter(1, 7200, begin=0), Meter(2, 7200, begin=0)
    one.take(3600, of_smi([Gpu(0, 14541)]))
    two.take(5400, of_activity(2, active=False))
    assert one.unused(now) == (
        "the GPU was not used for 60 minutes (since 11:00:00 UTC; nvidia-smi shows 0 %, and "
        "14.2 GiB of memory held)"
    )
    assert two.unused(now) == (
        "none of the 2 GPUs was used for 90 minutes (since 10:30:00 UTC; no cell or command ran, "
        "and nvidia-smi does not tell)"
    )
    assert [span(time) for time in (1, 119, 120, 5400, 7200, 9000)] == [
        "1 seconds",
        "119 seconds",
        "2 minutes",
        "90 minutes",
        "2 hours",
        "2.5 hours",
    ]
