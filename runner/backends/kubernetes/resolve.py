"""What is refused, and looked up, before a run starts on a cluster. Nothing is changed there.

What the chart says is known at once. What is in the namespace is asked for in one go. uv is
asked last, and only where the image does not have all the packages already.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from pydantic import ValidationError

from runner import __version__, models, pins
from runner.backends.base import Progress, Resolved
from runner.backends.kubernetes import fits, helm, manifests, needs, offers
from runner.backends.kubernetes.facts import AT_ONCE, Asked, Facts, Right, denied_of, look_up
from runner.backends.kubernetes.needs import Problem
from runner.backends.kubernetes.resources import path_of
from runner.backends.kubernetes.translate import RESEARCHER, Forbidden, NotFound
from runner.cluster import CONFIG_MAP, KEY, Cluster, Image
from runner.config.experiment import Experiment
from runner.config.explain import combined, config_error
from runner.config.load import parse
from runner.config.sandbox import SandboxConfig
from runner.config.support import refusals
from runner.errors import ConfigError, RunnerError, UsageError
from runner.images import fit, installing
from runner.plan import PinnedModel, PinnedRepo, PlannedImages, RunPlan
from runner.secrets import SecretValues

BACKEND = "kubernetes"
SCHEMA = 1
"""Of the chart's settings."""
READ = "read what the chart says of the cluster"


def load_cluster(client: Asked) -> Cluster:
    """What the lab's chart says of its cluster.

    Raises UsageError where the chart is not installed, and ConfigError for a key of its
    settings that this version does not understand.
    """
    space = client.namespace
    try:
        config_map = client.request("GET", path_of("configmaps", space, CONFIG_MAP), what=READ)
    except NotFound as error:
        raise _no_chart(client) from error
    file = f"ConfigMap {space}/{CONFIG_MAP}"
    text = (config_map.get("data") or {}).get(KEY)
    if text is None:
        raise UsageError(f"{file} has no key {KEY}", hint=helm.upgrade(space))
    try:
        data = json.loads(text)
    except ValueError as error:
        raise UsageError(f"{file}: {KEY} is no JSON: {error}", hint=helm.upgrade(space)) from error
    if not isinstance(data, dict):
        raise UsageError(f"{file}: {KEY} is no JSON object", hint=helm.upgrade(space))
    chart = data.get("chartVersion") or "of an unknown version"
    schema = data.get("schemaVersion")
    if isinstance(schema, int) and schema > SCHEMA:
        raise UsageError(
            f"{file} was written by the chart {chart}, in schema {schema}; "
            f"runner {__version__} reads schema {SCHEMA}",
            hint="install the runner of the chart's version",
        )
    try:
        return Cluster.model_validate(data)
    except ValidationError as error:
        refused = config_error(error, Cluster, file)
        refused.hint = (
            f"an admin corrects it in the chart's values; the chart is {chart}, and this is "
            f"runner {__version__}: {helm.upgrade(space)}"
        )
        raise refused from error


def resolve(
    client: Asked,
    cluster: Cluster,
    experiment: Experiment,
    *,
    agent: bool,
    file: str,
    progress: Progress,
) -> Resolved:
    """Everything that this cluster is asked for an experiment."""
    sandbox = experiment.sandbox
    _refuse(
        [
            *_unsupported(experiment, cluster, client.namespace, file),
            *_image_problems(sandbox, cluster, file),
            *offers.volume_problems(sandbox, cluster, client.namespace, file),
        ]
    )
    image = fit.choose(sandbox, cluster.images.catalogue)
    assert image is not None  # noqa: S101 - or it would have been refused
    lacking = installing.lacking(sandbox.packages, image)
    planned = _stand_in(experiment, agent, _images(cluster, image, ()), lacking)
    _check(client, cluster, planned, progress)
    if lacking:
        progress(f"resolving {', '.join(lacking)}")
    found = installing.pinned(lacking, image)
    return Resolved(
        python=image.python_version,
        packages=found.all,
        secrets=SecretValues(),
        images=_images(cluster, image, found.image),
        gpu_hour_usd=cluster.gpu_hour_usd,
        gpu_idle_timeout=cluster.gpu_idle_timeout,
        clones=cluster.secrets.git is not None,
        hub=cluster.pods.env.get("HF_ENDPOINT", models.HUB),
    )


def allowed(client: Asked, cluster: Cluster, plan: RunPlan, *, file: str) -> Resolved:
    """The same for a plan from a record: its packages stay as they are, and so do its images.

    A plan that was made for another backend gets an image with its version of Python.
    """
    experiment, images, python = plan.experiment, plan.images, plan.python
    problems = list(_unsupported(experiment, cluster, client.namespace, file))
    if images is None:
        same = ".".join(python.split(".")[:2]) if python[:1].isdigit() else None
        update = {"python_version": experiment.sandbox.python_version or same}
        sandbox = experiment.sandbox.model_copy(update=update)
        problems += _image_problems(sandbox, cluster, file)
        if image := fit.choose(sandbox, cluster.images.catalogue):
            images = _images(cluster, image, pins.held(plan.packages, image.packages))
            python = image.python_version
    _refuse(problems)
    checked = plan.model_copy(update={"images": images})
    _check(client, cluster, checked, lambda _: None)
    return Resolved(
        python=python,
        packages=plan.packages,
        secrets=SecretValues(),
        images=images,
        gpu_hour_usd=cluster.gpu_hour_usd,
        gpu_idle_timeout=cluster.gpu_idle_timeout,
    )


def usual(cluster: Cluster) -> RunPlan:
    """A plan that asks for as much as every run does, and for what the chart's values name."""
    repos = [{"url": "https://git.example.org/lab/code"}] if cluster.secrets.git else []
    asked = {"name": "usual", "task": "None.", "sandbox": {"repos": repos}}
    image = cluster.images.catalogue[0]
    experiment = parse(asked, folder=None, file="usual")
    return _stand_in(experiment, True, _images(cluster, image, ()), ())


def _no_chart(client: Asked) -> UsageError:
    space = client.namespace
    words = f"the runner's chart is not installed in namespace {space}"
    try:
        client.request("GET", path_of("namespaces", space, space), what=READ)
    except Forbidden:
        words += ", or there is no such namespace"
    return UsageError(
        words,
        hint="name the team's with kubernetes.namespace in the settings "
        f"(RUNNER_KUBERNETES__NAMESPACE), or have an admin install it: {helm.install(space)}",
    )


def _unsupported(
    experiment: Experiment, cluster: Cluster, namespace: str, file: str
) -> Iterator[ConfigError]:
    yield from refusals(experiment, BACKEND, file=file)
    yield from offers.gpu_problems(experiment.sandbox, cluster, namespace, file)
    if cluster.secrets.git is None:
        for repo in experiment.sandbox.repos:
            if not repo.url.startswith("https://"):
                yield ConfigError(
                    file=file,
                    key="sandbox.repos",
                    expected="a URL with https://, as the lab has no deploy key for ssh",
                    found=repo.url,
                    hint="an admin makes a Secret of one and names it in the chart's secrets.git",
                )


def _image_problems(sandbox: SandboxConfig, cluster: Cluster, file: str) -> Iterator[ConfigError]:
    more = "An admin adds it to images.catalogue in the chart's values: `runner images push`."
    return fit.problems(
        sandbox, cluster.images.catalogue, file, whose="the cluster's catalogue", more=more
    )


def _refuse(problems: Sequence[ConfigError]) -> None:
    if problems:
        raise combined(problems)


def _check(client: Asked, cluster: Cluster, plan: RunPlan, progress: Progress) -> None:
    """Refuse what the namespace does not have; raises one UsageError that tells all of it."""
    pod = manifests.job(plan, cluster, 1)["spec"]["template"]["spec"]
    experiment, space = plan.experiment, client.namespace
    wanted = [
        *needs.of_experiment(experiment, cluster, agent=plan.agent),
        *needs.of_chart(experiment, cluster, space),
    ]
    with ThreadPoolExecutor(AT_ONCE) as pool:
        refs = [need.ref for need in wanted]
        facts = look_up(client, refs, needs.rights(cluster), pool)()
    if facts.denied:
        raise _no_right(client, facts.denied)
    problems = [*needs.problems(wanted, facts.objects, space), *_room(pod, cluster, plan, facts)]
    if problems:
        raise _all(problems, space)
    if hidden := needs.unknown(wanted, facts.objects):
        progress(f"not checked, as you may not read them: {', '.join(hidden)}")


def _room(pod: dict[str, Any], cluster: Cluster, plan: RunPlan, facts: Facts) -> Iterator[Problem]:
    """What nodes and quotas could never hold."""
    pod = fits.with_defaults(pod, facts.limits or ())
    classes: dict[str, list[str]] = {}
    for name in plan.experiment.sandbox.gpu:
        gpu = cluster.gpu_classes[name]
        classes.setdefault(gpu.label, []).extend(gpu.values)
    found = [
        *fits.node_problems(pod, () if cluster.autoscaling else facts.nodes or (), classes),
        *fits.quota_problems(pod, facts.quotas or ()),
        *fits.range_problems(pod, facts.limits or ()),
    ]
    for words, field in dict.fromkeys(found):
        mend = f"ask for less in {field}, or have an admin raise it" if field else "ask an admin"
        yield Problem(words, mend)


def _all(problems: Sequence[Problem], namespace: str) -> UsageError:
    if len(problems) == 1:
        return UsageError(problems[0].words, hint=problems[0].mend)
    lines = [f"  {problem.words}\n    → {problem.mend}" for problem in problems]
    return UsageError("\n".join([f"the run cannot start in namespace {namespace}:", *lines]))


def missing_rights(client: Asked, cluster: Cluster) -> UsageError | None:
    """What the user is not allowed that runs need; None where nothing is missing."""
    denied = denied_of(client, needs.rights(cluster))
    return _no_right(client, denied) if denied else None


def _no_right(client: Asked, denied: Sequence[Right]) -> UsageError:
    review = {"apiVersion": "authentication.k8s.io/v1", "kind": "SelfSubjectReview"}
    path = "/apis/authentication.k8s.io/v1/selfsubjectreviews"
    try:
        who = str(client.request("POST", path, None, review)["status"]["userInfo"]["username"])
    except (RunnerError, KeyError):
        who = ""
    account = who.removeprefix("system:serviceaccount:")
    subject = f"--user '{who or 'USER'}'" if account == who else f"--serviceaccount {account}"
    return UsageError(
        f"in namespace {client.namespace} {who or 'you'} may not {', '.join(map(str, denied))}",
        hint=f"an admin allows it: kubectl create rolebinding NAME --namespace {client.namespace} "
        f"--role {RESEARCHER} {subject}",
    )


def _images(cluster: Cluster, image: Image, there: Sequence[str]) -> PlannedImages:
    return PlannedImages(
        sandbox=image.image,
        agent=cluster.images.agent,
        python=image.python,
        packages=tuple(there),
    )


def _stand_in(
    experiment: Experiment, agent: bool, images: PlannedImages, lacking: Sequence[str]
) -> RunPlan:
    """A plan that asks the cluster for as much as the run's own will."""
    repos = tuple(
        PinnedRepo(url=repo.url, name=repo.name, ref=None, commit="0" * 40, install=repo.install)
        for repo in experiment.sandbox.repos
    )
    pinned = tuple(
        PinnedModel(
            name=model.name,
            revision=None,
            commit="0" * 40,
            size=None,
            secret=model.secret,
            hidden=model.hidden,
        )
        for model in experiment.sandbox.models
    )
    return RunPlan(
        run_id="stand-in",
        name=experiment.name,
        author="",
        created="",
        backend=BACKEND,
        experiment=experiment,
        repos=repos,
        models=pinned,
        python=images.python,
        packages=tuple(lacking),
        images=images,
        prepare_deadline_s=1.0,
        start_deadline_s=1.0,
        agent=agent,
    )
