"""Looks every few seconds whether a sandbox's GPUs are used; tells when they are not for long."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime

from runner.sandbox import processes
from runner.sandbox.core import Sandbox
from runner.sandbox.meter import Gpu, Meter, Reading, of_activity, of_smi, parse, span

COMMAND = (
    "nvidia-smi",
    "--query-gpu=uuid,utilization.gpu,memory.used",
    "--format=csv,noheader,nounits",
)
EVERY_S, LOOKS = 10.0, 20
"""How often it is looked; in any case so often in the time that GPUs may be unused."""
ANSWER_S = 5.0
"""How long nvidia-smi may take: it hangs where a driver does."""
LONGEST_ANSWER = 1 << 16
MOST_FAILURES = 3
"""So often in a row nvidia-smi may fail before what runs in the sandbox counts instead."""
NOTE_EVERY_S = 60.0
READY_S = 0.1


async def watch(sandbox: Sandbox) -> None:
    """Measure from the kernel's readiness on; the journal has it every minute."""
    clock, options, book = asyncio.get_running_loop().time, sandbox.options, sandbox.book
    while sandbox.ready_at is None:
        await asyncio.sleep(READY_S)
    limit_s, looked = options.gpu_idle_s, sandbox.ready_at
    meter = sandbox.gpus = Meter(options.gpus, limit_s, looked, book.gpus.get("used_s", 0.0))
    smi = Smi(options.gpu_uuids, _environment(sandbox))
    noted = looked
    while True:
        await asyncio.sleep(min(EVERY_S, limit_s / LOOKS) if limit_s else EVERY_S)
        found: Reading | None = None
        with contextlib.suppress(NoAnswer):
            found = await smi.read() or of_activity(
                options.gpus, active=sandbox.busy or sandbox.ran_at > looked
            )
        looked = clock()
        news = meter.take(looked, found)
        if news or looked >= noted + NOTE_EVERY_S:
            noted = looked
            book.note("gpus", **meter.view())
        if news and limit_s:
            unused = meter.unused(datetime.now(UTC))
            if news == "near":
                book.warn(_notice(unused, limit_s))
            else:
                sandbox.gpus_unused = _end(unused, limit_s)


def _notice(unused: str, limit_s: float) -> str:
    return (
        f"{unused}. After {span(limit_s)} without use the run is wound up: what is in outputs/ is "
        "kept, variables and other files are gone. Use it, or write what is to be kept into "
        "outputs/ and end the run"
    )


def _end(unused: str, limit_s: float) -> str:
    return (
        f"{unused}; {span(limit_s)} is the most, by sandbox.gpu_idle_timeout or the lab's settings"
    )


def _environment(sandbox: Sandbox) -> Mapping[str, str]:
    """The server's own, without the experiment's secrets; ended with all that it started."""
    own = {key: text for key, text in os.environ.items() if key not in sandbox.options.secrets}
    return own | {processes.MARK: str(sandbox.options.state)}


class NoAnswer(Exception):
    """nvidia-smi is there, and said nothing of use this time."""


class Smi:
    """Asks nvidia-smi about these GPUs, or all that it shows."""

    def __init__(self, uuids: Sequence[str], env: Mapping[str, str]) -> None:
        self._uuids, self._env = uuids, env
        self._asked: asyncio.subprocess.Process | None = None
        self._failures = 0

    async def read(self) -> Reading | None:
        """What it says; None where there is none, or it does not tell.

        Raises NoAnswer where it fails, and None is returned when it did so often in a row.
        """
        try:
            found = of_smi(await self._ask())
        except FileNotFoundError:
            return None
        except (OSError, NoAnswer) as error:
            self._failures += 1
            if self._failures < MOST_FAILURES:
                raise NoAnswer from error
            return None
        self._failures = 0
        return found

    async def _ask(self) -> list[Gpu]:
        if self._asked and self._asked.returncode is None:
            raise NoAnswer  # killed, and still there: nobody waits for it, and no other is asked
        read_end, write_end = os.pipe()  # whoever says more than a pipe holds, waits and is killed
        os.set_blocking(read_end, False)
        try:
            self._asked = await asyncio.create_subprocess_exec(
                *COMMAND,
                stdin=asyncio.subprocess.DEVNULL,
                stdout=write_end,
                stderr=asyncio.subprocess.DEVNULL,
                env=self._env,
                start_new_session=True,
            )
            async with asyncio.timeout(ANSWER_S):
                status = await self._asked.wait()
            said = os.read(read_end, LONGEST_ANSWER)
        except TimeoutError as error:
            raise NoAnswer from error
        finally:
            self._end()
            os.close(read_end)
            os.close(write_end)
        gpus = parse(said.decode(errors="replace"), self._uuids)
        if status and not gpus:  # with one GPU fallen off the bus it fails, and lists the others
            raise NoAnswer
        return gpus

    def _end(self) -> None:
        """Kill it, if it is there still."""
        if self._asked and self._asked.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._asked.pid, signal.SIGKILL)
