"""Waiting for the models that a sandbox loads into its kernel."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from runner import preload
from runner.errors import UsageError
from runner.plan import RunPlan
from runner.session import Session

LOOK_S = 0.5
_WORDS = 2000


def wait_for_models(
    session: Session,
    plan: RunPlan,
    info: Mapping[str, Any],
    check: Callable[[], None],
) -> None:
    """Wait until all that the plan loads is there; `check` is called meanwhile and may raise.

    Raises UsageError, with the library's own words, where it cannot be loaded.
    """
    op = info["preload"]
    if op is None:
        return
    result = session.wait(op, timeout_s=LOOK_S)
    while not result.final:
        check()
        result = session.wait(op, timeout_s=LOOK_S)
    if result.state != "ok":
        said = [output for output in result.outputs if output["output_type"] == "error"]
        words = f"{said[-1]['ename']}: {said[-1]['evalue']}" if said else result.reason
        raise UsageError(
            f"{preload.names(plan)} could not be loaded: {words[-_WORDS:]}",
            hint="sandbox.models with `var_name` need transformers and torch (adapters peft too) "
            "in sandbox.python_packages or the image, and memory for the weights",
        )
