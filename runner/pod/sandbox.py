"""`runner.pod sandbox`: the sandbox server, as a sidecar of the agent or alone in its pod.

The server is a fork of this process, which has imported what both need; this one copies
what the server prints, tells it to leave, and stays when there is nothing to serve: the
kubelet would start a sidecar that ended again and again.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import tempfile
import threading
import time
import traceback
from datetime import UTC, datetime
from pathlib import Path
from typing import NoReturn

from runner import hidden, locks, models, packages, pins, preload, prepare
from runner.errors import InfrastructureError
from runner.phases import failed, read_phases
from runner.plan import RunPlan
from runner.pod import layout, spent, step
from runner.pod.tee import Tee
from runner.sandbox import memory
from runner.sandbox.options import Options
from runner.signals import accept_sigterm

DISK, MEMORY = "RUNNER_DISK_BYTES", "RUNNER_MEMORY_BYTES"
"""Variables with the limits of the workspace's volume and of the container."""
ADDRESS = "RUNNER_ADDRESS"
"""Variable with the address that the server listens on; the pod's loopback if it is not set."""
GRACE_S = 10.0
"""How long the server has to leave when it is told to."""
LOOK_S = 0.1
"""How often it is looked whether the agent is there."""
AGENT_S = 300.0
MOST_RESTARTS = 3
"""Of the server of a sandbox alone; a sidecar is started again by the kubelet."""
TOLD = 128 + signal.SIGTERM


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Serve until told to leave, or until the server ends.

    A sidecar ends with status 0 when it is told to, and otherwise only when its server
    crashed. Alone it ends as its server does, or with 3 where preparing failed.
    """
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
    plan = RunPlan.model_validate_json(layout.PLAN.read_bytes())
    if failure := failed(read_phases(layout.PHASES)):
        words = f"{failure.name} failed: {failure.failure}"
        step.say(f"no sandbox server is started: {words}")
        if plan.agent:
            leave_with(layout.AGENT)
            return _until_told()
        step.end(words)
        return InfrastructureError.exit_status
    options = sandbox_options(plan)
    if not plan.agent:
        return serve(options, layout.SANDBOX_LOG, MOST_RESTARTS)
    status = serve(options, layout.SANDBOX_LOG, 0, layout.AGENT)
    if status == 0:
        step.say("the sandbox has ended; it is not started again")
        return _until_told()
    return 0 if status == TOLD else status


def sandbox_options(
    plan: RunPlan,
    *,
    workspace: Path = layout.WORKSPACE,
    state: Path = layout.STATE,
    venv: Path = layout.VENV,
    token: Path = layout.TOKEN,
    port: int = layout.PORT,
) -> Options:
    """What the server is told; notes what the kernel's Python has, too."""
    assert plan.images is not None  # noqa: S101 - a run in containers has images
    own, base = plan.experiment.sandbox, Path(plan.images.python)
    made = venv / "bin" / "python"
    python = made if made.exists() else base
    options = Options(
        run_id=plan.run_id,
        name=plan.name,
        workspace=workspace,
        state=state,
        runtime=Path(tempfile.mkdtemp(prefix="runner-", dir=layout.TMP)),
        token_file=token,
        python=python,
        import_paths=prepare.import_paths(plan, workspace),
        readable=(
            *(Path(volume.path) for volume in own.volumes if volume.path.startswith("/")),
            *(layout.MODELS / models.directory(model.name) for model in hidden.visible(plan)),
        ),
        env=own.env,
        preload=preload.source(plan, layout.HIDDEN),
        secrets=own.secrets,
        seen=layout.SEEN if own.secrets else None,
        timeout_s=own.timeout,
        idle_timeout_s=own.idle_timeout,
        gpus=own.gpus_held,
        gpu_uuids=plan.gpus,
        gpu_idle_s=plan.gpu_idle_timeout_s,
        agent=plan.agent,
        memory_bytes=None if memory.of_cgroup() else _limit(MEMORY),
        disk_bytes=own.disk_bytes or _limit(DISK),
        address=os.environ.get(ADDRESS, "127.0.0.1"),
        port=port,
    )
    if not options.environment.exists():
        # What a lab's own Python has, below that of the image, only the image's labels tell.
        seen = packages.installed(*dict.fromkeys((python, base)))
        there = pins.together(seen, plan.images.packages).all
        options.environment.write_text(json.dumps({"python": plan.python, "packages": there}))
    return options


def _limit(variable: str) -> int | None:
    return int(os.environ.get(variable, "0")) or None


def serve(options: Options, log: Path, restarts: int, agent: Path | None = None) -> int:
    """Run the server, again after a crash if it may be; its exit status, TOLD for a SIGTERM.

    The options have the run's whole time. SIGTERM is blocked when this is called. `agent` is the
    lock of the agent, with which a sidecar leaves.
    """
    server, told = 0, False

    def tell(number: signal.Signals) -> None:
        if server:
            os.kill(server, number)

    def leave(*_: object) -> None:
        nonlocal told
        told = True
        signal.setitimer(signal.ITIMER_REAL, GRACE_S)
        tell(signal.SIGTERM)

    signal.signal(signal.SIGTERM, leave)
    signal.signal(signal.SIGALRM, lambda *_: tell(signal.SIGKILL))
    status = 0
    for _ in range(1 + restarts):
        with Tee(log) as tee:
            left_s = spent.left_s(options.timeout_s, options.state, datetime.now(UTC))
            server = os.fork()
            if server == 0:
                _be_the_server(options.model_copy(update={"timeout_s": max(left_s, 0.0)}))
            tee.start()
            if agent:
                leave_with(agent)
            accept_sigterm()
            # Left as a zombie until SIGTERM is blocked: its number must not be another's.
            os.waitid(os.P_PID, server, os.WEXITED | os.WNOWAIT)
            signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM, signal.SIGALRM})
            status = os.waitstatus_to_exitcode(os.waitpid(server, 0)[1])
            server = 0
            if not told and status:
                step.say(f"the sandbox server ended with status {status}{_by(status)}")
        if told:
            return TOLD
        if status == 0:
            return 0
    return status if status > 0 else 128 - status


def _by(status: int) -> str:
    """Who ends a server by SIGKILL is seldom seen from here."""
    killed = status == -signal.SIGKILL
    return ": killed; for memory, if its container is said to be OOMKilled" if killed else ""


def _be_the_server(options: Options) -> NoReturn:
    """In the fork: serve, and never come back."""
    for number in (signal.SIGTERM, signal.SIGALRM):
        signal.signal(number, signal.SIG_DFL)
    accept_sigterm()
    try:
        from runner.sandbox.__main__ import run

        run(options)
    except BaseException:
        traceback.print_exc()
    sys.stderr.flush()
    os._exit(1)


def leave_with(agent: Path) -> None:
    """Have SIGTERM come when the agent, which comes after this, has gone.

    kubelet would send it too, a second or two later, and the GPU would be held so long. The
    agent is gone first: kubelet starts a sidecar that has ended again while there is one. One
    that does not come within `AGENT_S` will not come.
    """

    def wait() -> None:
        end = time.monotonic() + AGENT_S
        while not locks.is_held(agent) and time.monotonic() < end:
            time.sleep(LOOK_S)
        while locks.is_held(agent):
            time.sleep(LOOK_S)
        os.kill(os.getpid(), signal.SIGTERM)

    threading.Thread(target=wait, daemon=True).start()


def _until_told() -> int:
    """Wait for SIGTERM, which is blocked."""
    signal.sigwait({signal.SIGTERM})
    return 0
