"""`python -m runner.backends.local.init DIRECTORY`: the first process of a local sandbox.

What init containers and the kubelet do on a cluster: prepare the workspace,
run the sandbox server, start it again when it crashes, and when it is over
end every process that came from it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from runner import prepare
from runner.backends.local import processes
from runner.backends.local.paths import Paths
from runner.errors import RunnerError
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.sandbox.options import Options

MOST_RESTARTS = 3
GRACE_S = 10.0


def main() -> int:
    """Prepare, serve, clean up; the exit status is 0 when the sandbox ended by itself."""
    paths, timeout_s = Paths(Path(sys.argv[1])), float(sys.argv[2])
    socket_fd, lock_fd = int(sys.argv[3]), int(sys.argv[4])
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    processes.adopt_orphans()
    plan = RunPlan.model_validate_json(paths.plan.read_bytes())
    runtime = Path(tempfile.mkdtemp(prefix="runner-"))
    try:
        _bind_cores(plan)
        options = Options(
            run_id=plan.run_id,
            name=plan.name,
            workspace=paths.workspace,
            state=paths.server,
            runtime=runtime,
            token_file=paths.token,
            python=_prepared(plan, paths),
            import_paths=prepare.import_paths(plan, paths.workspace),
            readable=_volumes(plan, paths),
            secrets=plan.experiment.sandbox.secrets,
            timeout_s=timeout_s,
            idle_timeout_s=plan.experiment.sandbox.idle_timeout,
            memory_bytes=plan.experiment.sandbox.memory_bytes,
            disk_bytes=plan.experiment.sandbox.disk_bytes,
            socket_fd=socket_fd,
        )
        return _serve(paths, options, (socket_fd, lock_fd))
    except (RunnerError, OSError) as error:
        print(f"the sandbox could not be prepared: {error}", file=sys.stderr)  # noqa: T201 - its log
        return 1
    finally:
        processes.end_descendants()
        shutil.rmtree(runtime, ignore_errors=True)
        shutil.rmtree(paths.venv, ignore_errors=True)


def _bind_cores(plan: RunPlan) -> None:
    if plan.experiment.sandbox.cores and sys.platform == "linux":
        cores = sorted(os.sched_getaffinity(0))[: int(plan.experiment.sandbox.cores)]
        os.sched_setaffinity(0, cores)


def _prepared(plan: RunPlan, paths: Paths) -> Path:
    """Clone and install, without the experiment's secrets; returns the kernel's Python."""
    secrets = {name: os.environ.pop(name, "") for name in plan.experiment.sandbox.secrets}
    log = PhaseLog(paths.phases)
    end = time.monotonic() + plan.prepare_deadline_s
    prepare.clone(plan, paths.workspace, log, end)
    output = paths.server / "install.log"
    python = prepare.install(plan, paths.workspace, paths.venv, log, output, end)
    prepare.note_environment(python, plan, paths.environment)
    os.environ.update(secrets)
    return python


def _volumes(plan: RunPlan, paths: Paths) -> tuple[Path, ...]:
    volumes = plan.experiment.sandbox.volumes
    return tuple((paths.workspace / volume.path).resolve() for volume in volumes)


def _serve(paths: Paths, options: Options, keep_fds: tuple[int, ...]) -> int:
    path = paths.server / "options.json"
    path.write_text(options.model_dump_json())
    ending = False
    server: subprocess.Popen[bytes] | None = None

    def end(*_: object) -> None:
        nonlocal ending
        ending = True
        if server is not None:
            server.terminate()

    signal.signal(signal.SIGTERM, end)
    for _ in range(1 + MOST_RESTARTS):
        server = subprocess.Popen(
            [sys.executable, "-P", "-m", "runner.sandbox", str(path)], pass_fds=keep_fds
        )
        status = server.wait()
        processes.end_descendants()
        if status == 0 or ending:
            return 0
        print(f"the sandbox server ended with status {status}", file=sys.stderr, flush=True)  # noqa: T201
    return 1


if __name__ == "__main__":
    sys.exit(main())
