"""Why a run waits, goes wrong or has ended: a snapshot in, words and what mends it out. Pure."""

from __future__ import annotations

import re
from collections.abc import Sequence

from runner.backends.base import Cause
from runner.backends.kubernetes.snapshot import Container, Event, Pod, Snapshot

_PULLING = ("ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ImageInspectError")
_CONFIG = ("CreateContainerConfigError", "CreateContainerError", "RunContainerError")
_KILLED = {137: "SIGKILL", 143: "SIGTERM"}
_MOUNTING = ("FailedMount", "FailedAttachVolume", "FailedCreatePodSandBox")
_LOST = "NodeNotReady"
"""Reason of the event that the node's pods get."""
OUT_OF_SERVICE = "kubectl taint nodes {} node.kubernetes.io/out-of-service=nodeshutdown:NoExecute"


# -- before the pod ------------------------------------------------------------------------


_BACKOFF = (
    "it comes by itself: Kubernetes waits 10 s after the first pod that is gone, twice as long "
    "after each further one, 10 minutes at most"
)
"""DefaultJobPodFailureBackOff and MaxJobPodFailureBackOff of its Job controller."""


def queued(snap: Snapshot) -> Cause:
    """Why a Job has no pod."""
    if snap.job and snap.job.suspended and snap.job.queue:
        return snap.queue or Cause(f"in the queue {snap.job.queue}")
    refused = [event for event in snap.events if event.reason == "FailedCreate"]
    if refused:
        return _refused(refused[-1])
    if any(event.reason == "SuccessfulCreate" for event in snap.events):
        return Cause("another pod is being made, as the one before it is gone", _BACKOFF)
    return Cause("the Job's pod is being made")


def _refused(event: Event) -> Cause:
    """The Job controller may not make the pod; it tries again, less and less often."""
    words = short(event.message.removeprefix("Error creating: "))
    again = "the Job tries again by itself, within some minutes"
    if "exceeded quota" in words:
        mend = f"`kubectl describe quota` shows what is used; once there is room, {again}"
    elif "PodSecurity" in words:
        mend = (
            "the namespace's Pod Security level forbids what the chart's values give to pods: an "
            "admin changes one of the two, and you submit again"
        )
    elif "admission" in words or "denied" in words or "webhook" in words:
        mend = (
            "a policy of the cluster wants something of pods: an admin gives it to them in the "
            "chart's `pods` (labels, annotations, tolerations), and you submit again"
        )
    else:
        mend = f"an admin knows what the cluster means; {again}"
    return Cause(f"the pod is refused: {words}", mend, event.time or None)


# -- on its node, before its containers run ------------------------------------------------


def creating(snap: Snapshot) -> Cause:
    """What the kubelet is at: pulling an image, mounting a volume."""
    pod = snap.pod
    news = [event for event in snap.events if pod and event.about == pod.name]
    for event in sorted(news, key=lambda event: event.time, reverse=True):
        if event.reason == "Pulling":
            return Cause(_pulling(event, snap.pulls), since=event.time)
        if event.reason in _MOUNTING:
            look = f"`kubectl describe pod {event.about}`; the kubelet tries again by itself"
            return Cause(short(event.message), look, event.time)
        if event.reason in ("Pulled", "Created", "Started"):
            break
    return Cause(f"on node {pod.node}" if pod and pod.node else "")


def _pulling(event: Event, pulls: Sequence[Event]) -> str:
    """The image that is pulled, and what is known of it from the last time."""
    image = _quoted(event.message)
    words = f"pulling the image {image}"
    before = [one for one in pulls if _quoted(one.message) == image]
    for one in sorted(before, key=lambda one: one.time, reverse=True):
        took = re.search(r"in ((?:\d+m)?[\d.]+m?s) \(", one.message)
        size = re.search(r"Image size: (\d+) bytes", one.message)
        if took:
            large = f"{int(size[1]) / 1e6:,.0f} MB, " if size else ""
            return f"{words} ({large}{took[1]} the last time)"
    return words


def _quoted(message: str) -> str:
    found = re.search(r'"([^"]+)"', message)
    return found[1] if found else message


def stuck(item: Container) -> Cause | None:
    """Why a container cannot be made, or kept running, as it is; None where it can."""
    if item.kind == "sidecar" and item.restarts > 1 and item.state != "running":
        return _again_and_again(item)
    if item.state != "waiting":
        return None
    if item.reason in _PULLING:
        # The engine says the image's name again in each of its causes.
        said = short(item.message.rpartition(f"{item.image}: ")[2])
        words = f"image {item.image} cannot be pulled ({item.reason}): {said}"
        return Cause(words, _mend_pull(item.message), item.started)
    if item.reason == "CrashLoopBackOff":
        return _again_and_again(item)
    if item.reason in _CONFIG:
        words = f"container {item.name} cannot be made ({item.reason}): {short(item.message)}"
        return Cause(words, _mend_config(item.message))
    return None


def _again_and_again(item: Container) -> Cause:
    words = f"container {item.name} ends again and again: {item.last}"
    look = f"`kubectl logs POD -c {item.name} --previous` has its last words"
    if "OOMKilled" in item.last:
        limit = f" of {item.memory}" if item.memory else ""
        return Cause(f"{words}: more than its memory{limit}", "raise sandbox.memory, submit again")
    return Cause(words, f"{look}; its image may not be one of the runner's, or be broken")


def _mend_pull(message: str) -> str:
    if re.search(r"40[13] |unauthorized|denied|authentication|authorization", message, re.I):
        return (
            "the node may not pull it: an admin names a Secret with the registry's login in the "
            "chart's images.pullSecrets"
        )
    if re.search(r"not found|manifest unknown|404", message, re.I):
        return (
            "it is not in the registry: an admin runs `runner images push`, and upgrades the chart "
            "with the images.yaml that it writes; then submit again"
        )
    return (
        "the node cannot reach the registry: an admin tries it there; it is tried again by itself"
    )


def _mend_config(message: str) -> str:
    if key := re.search(r"couldn't find key (\S+) in Secret", message):
        return f"runner secrets set {key[1]}; the container is made within seconds then"
    if secret := re.search(r'secret "([^"]+)" not found', message):
        return f"an admin makes the Secret {secret[1]} anew; the container is made by itself then"
    if "executable file not found" in message or "no such file" in message:
        return "the image is not one of the runner's: `runner images build --base` makes one of it"
    return "`kubectl describe pod` has more; cancel it, or mend what it says: it is tried again"


# -- while it runs -------------------------------------------------------------------------


def troubled(snap: Snapshot, *, goes_on: bool) -> Cause | None:
    """What takes a pod away; `goes_on` is whether another one would follow it."""
    pod = snap.pod
    if pod is None or pod.over:
        return None
    lost = _lost(snap)
    if pod.deleting:
        return _leaving(pod, lost, goes_on=goes_on)
    if lost:
        mend = (
            "nothing is lost: if it comes back the run goes on, else its pod is told to leave "
            "after some minutes; `kubectl describe node` shows how it is"
        )
        return Cause(f"node {pod.node} does not answer: {lost.words}", mend, lost.since)
    return None


def _lost(snap: Snapshot) -> Cause | None:
    """Why the pod's node is taken for lost; by the events where nodes may not be read."""
    pod = snap.pod
    if node := snap.node:
        return Cause(node.unready, since=node.since) if node.unready else None
    if snap.nodes is None and pod and not pod.ready:
        for event in reversed(snap.events):
            if event.reason == _LOST and event.about == pod.name:
                return Cause(short(event.message), since=event.time)
    return None


def _leaving(pod: Pod, lost: Cause | None, *, goes_on: bool) -> Cause:
    after = "another pod goes on from the record" if goes_on else "the run ends then"
    why = f": {pod.disrupted}" if pod.disrupted else ""
    if lost:
        return Cause(
            f"node {pod.node} is lost, and its pod cannot end there{why}",
            f"if the node comes back, {after}; if it is gone for good, an admin says so: "
            f"{OUT_OF_SERVICE.format(pod.node)}",
            lost.since,
        )
    return Cause(f"the pod is taken off node {pod.node}{why}", after, pod.deleting)


def restarted(snap: Snapshot) -> Cause | None:
    """That a sandbox which runs is not the one that the run began with."""
    sandbox = snap.pod.container("sandbox") if snap.pod else None
    if sandbox is None or not sandbox.restarts:
        return None
    times = "" if sandbox.restarts == 1 else f" {sandbox.restarts} times"
    words = (
        f"the sandbox was started again{times}, and its variables are gone; before: {sandbox.last}"
    )
    mend = "raise sandbox.memory for the next run" if "OOMKilled" in sandbox.last else ""
    return Cause(words, mend, sandbox.started)


# -- after it ------------------------------------------------------------------------------


def ended(snap: Snapshot, main: Container | None) -> Cause:
    """Why an attempt ended without the agent's own words."""
    pod, job = snap.pod, snap.job
    if pod is not None:
        for item in pod.containers:
            if item.kind == "init" and item.state == "terminated" and not item.succeeded:
                return Cause(f"container {item.name} failed: {how(item)}")
        for item in pod.containers:
            if held := stuck(item):
                return held
        if main and main.state == "terminated":
            return Cause(f"container {main.name} ended without a word: {how(main)}")
        if pod.message:
            return Cause(f"{pod.reason}: {pod.message}".lstrip(": "))
    if job is not None and job.message:
        return Cause(f"{job.reason}: {job.message}".lstrip(": "))
    return Cause("its pod is gone")


def taken_away(pod: Pod) -> Cause | None:
    """Why the kubelet or the control plane ended a pod, which its agent cannot know."""
    if pod.reason == "Evicted":
        mend = ""
        if "EmptyDir" in pod.message or "ephemeral" in pod.message:
            mend = "keep large files in the workspace, and raise sandbox.disk"
        return Cause(f"the pod was evicted: {short(pod.message)}", mend)
    if pod.reason == "DeadlineExceeded":
        words = f"the pod was ended by its deadline: {pod.message}"
        return Cause(
            words, "it counts from the pod's start, pulling included: raise sandbox.timeout"
        )
    if pod.disrupted:
        return Cause(f"the pod was disrupted: {pod.disrupted}")
    return None


def how(item: Container) -> str:
    """How a container ended."""
    if item.reason == "OOMKilled":
        limit = f" of {item.memory}" if item.memory else ""
        return f"out of memory (OOMKilled): it used more than its limit{limit}"
    said = short(item.message)
    code = _KILLED.get(item.exit_code or 0, f"exit status {item.exit_code}")
    return f"{code}{f': {said}' if said else ''}"


def short(text: str, most: int = 600) -> str:
    """On one line, and not too long."""
    text = re.sub(r"\s+", " ", text).strip()
    return text if len(text) <= most else f"{text[:most]}…"
