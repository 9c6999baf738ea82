"""What each backend does with each field. Pure: the facts about the machine are handed in.

A backend's table has one row for every field of an experiment: what takes effect how, and,
where a field can be refused, the check that says why and what to do instead. The
documentation's table is made from the same rows.
"""

from __future__ import annotations

from collections.abc import Mapping

from runner.config.experiment import Experiment
from runner.config.machine import Machine
from runner.config.on_docker import DOCKER
from runner.config.on_kubernetes import KUBERNETES
from runner.config.on_local import LOCAL
from runner.config.rows import Row
from runner.errors import ConfigError

ELSEWHERE = Machine(os_name="", cores=0, memory_bytes=0)
"""No machine that is known."""


def refusals(
    experiment: Experiment, backend: str, machine: Machine = ELSEWHERE, *, file: str = "experiment"
) -> list[ConfigError]:
    """Everything in the experiment that this backend cannot do.

    `machine` is this one, where the run is to be on it. A field at its default is never
    refused.
    """
    errors = []
    for key, row in TABLES[backend].items():
        table_name, _, name = key.rpartition(".")
        table = getattr(experiment, table_name) if table_name else experiment
        value = getattr(table, name)
        if row.check and value != type(table).model_fields[name].default:
            for no in row.check(value, experiment, machine):
                where = f"{key}{no.key}"
                errors.append(
                    ConfigError(
                        file=file, key=where, expected=no.expected, found=no.found, hint=no.hint
                    )
                )
    return errors


TABLES: Mapping[str, Mapping[str, Row]] = {
    "local": LOCAL,
    "docker": DOCKER,
    "kubernetes": KUBERNETES,
}
"""By backend."""
