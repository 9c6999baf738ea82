"""What `kubernetes` does with each field. Pure, and without the cluster's facts.

What hangs on the lab's own cluster (its images, GPU classes, volumes, Secrets, queues) is
checked against it by `runner.backends.kubernetes`; here is what no cluster can do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from runner.config.experiment import Experiment
from runner.config.machine import Machine
from runner.config.rows import NOWHERE, Refusal, Row, hidden_models, needs


def _port(value: int, _: Experiment, __: Machine) -> Iterator[Refusal]:
    yield Refusal(
        "",
        "no such key on `kubernetes`: a pod has its ports to itself",
        repr(value),
        "Remove it: `runner open` and `runner exec` tunnel to the sandbox by a free port.",
    )


_NETWORK = needs(
    "the docker backend",
    "Remove it: an admin sets with network.internet and network.allow what pods reach.",
    here="kubernetes",
)

KUBERNETES: Mapping[str, Row] = {
    "name": Row("part of the run's id; a label of its Job"),
    "task": Row("what the agent is told"),
    "score": Row("run in the agent's container, on the outputs, after the end"),
    "sandbox.image": Row(
        "an image of the chart's catalogue, by its name or reference; any other is refused"
    ),
    "sandbox.gpu": Row(
        "nodes with these GPUs, those named first preferred; a class that the chart lacks, or no "
        "node has, is refused"
    ),
    "sandbox.gpu_count": Row("how many of them, on one node"),
    "sandbox.execution_mode": Row("the tools the agent gets"),
    "sandbox.repos": Row(
        "cloned by an init container at a pinned commit, which is recorded; private ones by the "
        "chart's `secrets.git`"
    ),
    "sandbox.system_packages": Row("checked; refused if the image lacks one"),
    "sandbox.python_packages": Row(
        "pinned beside what the image has; what it lacks is installed over its Python"
    ),
    "sandbox.notebook_packages": Row("the same as `python_packages`"),
    "sandbox.python_version": Row(
        "picks an image with this Python; refused if the catalogue has none"
    ),
    "sandbox.models": Row(
        "fetched by an init container at a pinned commit, which is recorded, into the chart's "
        "cache, which the sandbox cannot write; loaded where `var_name` says so; of a `hidden` one "
        "the sandbox has links without its name",
        hidden_models,
    ),
    "sandbox.network": Row("refused: the chart's network policies decide", _NETWORK),
    "sandbox.env": Row("set for the kernel and shell commands"),
    "sandbox.cpu": Row("requested of the node, and the limit"),
    "sandbox.memory": Row("requested of the node, and the limit"),
    "sandbox.disk": Row("requested of the node; the pod is evicted above its limit"),
    "sandbox.volumes": Row("a claim of the chart's `volumes`, mounted there"),
    "sandbox.local_files": Row("copied in, and kept in the record"),
    "sandbox.local_dirs": Row("copied in, and kept in the record"),
    "sandbox.secrets": Row("taken from the namespace's Secrets; a missing one is refused"),
    "sandbox.timeout": Row("ends the run"),
    "sandbox.idle_timeout": Row("ends the sandbox"),
    "sandbox.gpu_idle_timeout": Row(
        "ends the run; the chart's `gpuIdleTimeout` where that is less"
    ),
    "sandbox.queue": Row("the Kueue LocalQueue that the Job waits in"),
    "sandbox.priority": Row("its WorkloadPriorityClass; without a queue the pod's PriorityClass"),
    "sandbox.on_disruption": Row("`resume`: a new pod goes on; `fail`: the Job fails"),
    "sandbox.jupyter_port": Row(
        "refused: the port is the pod's own",
        _port,
    ),
    **NOWHERE,
    "workspace.libraries": Row("copied in, importable in the notebook"),
    "agent.provider": Row("who carries the experiment out"),
    "agent.model": Row("sent to the provider"),
    "agent.base_url": Row(
        "where the provider's SDK sends its requests; the chart has to allow an address in the "
        "lab's own network"
    ),
    "agent.max_turns": Row("ends the run"),
    "agent.max_tokens": Row("ends the run"),
    "agent.max_cost_usd": Row("ends the run"),
    "agent.llm_secret": Row("taken from the namespace's Secrets; given to the agent only"),
    "agent.script": Row("the steps of the `scripted` provider"),
    "agent.command": Row("run in the agent's container, whose image has to have it"),
}
