"""`python -m runner.backends.local.init DIRECTORY …`: the first process of a local sandbox.

What init containers and the kubelet do on a cluster: prepare the workspace,
run the sandbox server, start it again when it crashes, end it when the agent
needs it no more, and then end every process that came from it.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NoReturn

from runner import models, preload, prepare
from runner.backends.local import bytecode, directory, environment, processes
from runner.backends.local.paths import Paths
from runner.errors import RunnerError
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.sandbox.options import Options
from runner.signals import accept_sigterm

MOST_RESTARTS = 3
GRACE_S = 10.0
"""How long the server has to leave when it is told to."""
LOOK_S = 0.2
"""How often it is looked whether the agent has let the sandbox go."""


def main() -> int:
    """Prepare, serve, clean up; the exit status is 0 when the sandbox ended by itself."""
    signal.signal(signal.SIGTERM, _leave)
    accept_sigterm()
    processes.adopt_orphans()
    paths, timeout_s = Paths(Path(sys.argv[1])), float(sys.argv[2])
    socket_fd, lock_fd = int(sys.argv[3]), int(sys.argv[4])
    threading.Thread(target=_until_released, args=(paths,), daemon=True).start()
    plan = RunPlan.model_validate_json(paths.plan.read_bytes())
    compiled = bytecode.store_of(plan.python, plan.packages)
    held = _take_secrets(plan)
    server = _Server(plan, paths.options, held, (socket_fd, lock_fd))
    try:
        runtime = directory.make_runtime(paths)
        _bind_cores(plan)
        server.start()
        options = Options(
            run_id=plan.run_id,
            name=plan.name,
            workspace=paths.workspace,
            state=paths.server,
            runtime=runtime,
            token_file=paths.token,
            python=_prepared(plan, paths, compiled, held),
            import_paths=prepare.import_paths(plan, paths.workspace),
            readable=_volumes(plan, paths),
            env=plan.experiment.sandbox.env,
            preload=preload.source(plan),
            secrets=plan.experiment.sandbox.secrets,
            timeout_s=timeout_s,
            idle_timeout_s=plan.experiment.sandbox.idle_timeout,
            gpus=plan.experiment.sandbox.gpus_held,
            gpu_uuids=plan.gpus,
            gpu_idle_s=plan.gpu_idle_timeout_s,
            agent=plan.agent,
            memory_bytes=plan.experiment.sandbox.memory_bytes,
            disk_bytes=plan.experiment.sandbox.disk_bytes,
            socket_fd=socket_fd,
        )
        return _serve(server, options)
    except (RunnerError, OSError) as error:
        _say(f"the sandbox could not be prepared: {error}")
        return 1
    finally:
        processes.end_descendants()
        bytecode.leave(compiled, paths.venv)
        directory.sweep(paths)


def _leave(*_: object) -> NoReturn:
    sys.exit(128 + signal.SIGTERM)


def _until_released(paths: Paths) -> None:
    while not paths.release.exists():
        time.sleep(LOOK_S)
    os.kill(os.getpid(), signal.SIGTERM)


def _bind_cores(plan: RunPlan) -> None:
    if plan.experiment.sandbox.cores and sys.platform == "linux":
        # Any of them: the first ones would be those of every run.
        cores = random.sample(sorted(os.sched_getaffinity(0)), int(plan.experiment.sandbox.cores))
        os.sched_setaffinity(0, cores)


def _take_secrets(plan: RunPlan) -> dict[str, str]:
    """Take the secrets out of this process's environment, which git, uv and the hub get."""
    names = {*plan.experiment.sandbox.all_secrets, models.TOKEN}
    return {name: os.environ.pop(name) for name in names if name in os.environ}


def _prepared(plan: RunPlan, paths: Paths, compiled: Path, held: Mapping[str, str]) -> Path:
    """Clone, fetch and install; returns the kernel's Python."""
    log = PhaseLog(paths.phases)
    end = time.monotonic() + plan.prepare_deadline_s
    prepare.clone(plan, paths.workspace, log, end)
    names = plan.experiment.sandbox.all_secrets
    tokens: dict[str | None, str | None] = {name: held.get(name) for name in names}
    prepare.fetch(plan, log, end, tokens | {None: held.get(models.TOKEN)}, _say)
    python = prepare.install(plan, paths.workspace, paths.venv, log, paths.install_log, end)
    bytecode.borrow(compiled, paths.venv)
    prepare.note_environment(python, plan, paths.environment)
    return python


class _Server:
    """The sandbox server's process, which imports while the sandbox is prepared.

    Its environment is the sandbox's: without what git, uv and the hub go by.
    """

    def __init__(
        self, plan: RunPlan, file: Path, held: Mapping[str, str], keep_fds: tuple[int, ...]
    ) -> None:
        secrets = {name: held[name] for name in plan.experiment.sandbox.secrets if name in held}
        gpus = {"CUDA_VISIBLE_DEVICES": ",".join(plan.gpus)}
        self._environ = environment.for_sandbox() | gpus | secrets
        self._file = file
        self._keep_fds = keep_fds
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, unless it waits already."""
        if self._process is None:
            self._file.unlink(missing_ok=True)
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", "runner.sandbox", str(self._file)],
                stdin=subprocess.PIPE,
                env=self._environ,
                pass_fds=self._keep_fds,
            )

    def serve(self, options: Options) -> int:
        """Tell it what to serve, and wait for its end; returns its exit status."""
        process = self._process
        assert process is not None  # noqa: S101 - it was started
        assert process.stdin is not None  # noqa: S101 - it is a pipe
        self._file.write_text(options.model_dump_json())
        process.stdin.close()
        status = processes.wait_and_reap(process)
        self._process = None
        return status

    def signal(self, number: signal.Signals) -> None:
        if self._process is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(self._process.pid, number)


def _volumes(plan: RunPlan, paths: Paths) -> tuple[Path, ...]:
    volumes = plan.experiment.sandbox.volumes
    return tuple((paths.workspace / volume.path).resolve() for volume in volumes)


def _serve(server: _Server, options: Options) -> int:
    ending = False

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        server.signal(signal.SIGTERM)

    signal.signal(signal.SIGALRM, lambda *_: server.signal(signal.SIGKILL))
    signal.signal(signal.SIGTERM, end)
    begun = time.monotonic()
    for _ in range(1 + MOST_RESTARTS):
        left_s = max(0.0, options.timeout_s - (time.monotonic() - begun))
        server.start()
        if ending:
            server.signal(signal.SIGTERM)
        status = server.serve(options.model_copy(update={"timeout_s": left_s}))
        processes.end_descendants()
        if status == 0 or ending:
            return 0
        _say(f"the sandbox server ended with status {status}")
    return 1


def _say(words: str) -> None:
    print(words, file=sys.stderr, flush=True)  # noqa: T201 - the sandbox's log


if __name__ == "__main__":
    sys.exit(main())
