"""Models of a Hugging Face hub: what a revision means, and exactly that commit in a cache.

The cache is the hub library's own: $HF_HUB_CACHE, or what follows from $HF_HOME. It may be shared
by runs at once, as every file comes into place whole. A model or revision that is not there, or
may not be read, is the user's to mend (UsageError); a hub that does not answer is not
(InfrastructureError). Both carry the hub's own words.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from runner.config.refuse import mask
from runner.errors import InfrastructureError, UsageError
from runner.plan import PinnedModel

MAIN = "main"
"""The revision of a model that none is named of."""
REPORT_S = 10.0
"""How often it is said how much is there."""
STALE_S = 3600.0
"""For so long nothing was written to a half file that is left over."""
_DOWNLOAD = (sys.executable, "-P", "-m", "huggingface_hub.cli.hf", "download", "--quiet")
_ENVIRONMENT = {
    "HF_HUB_DISABLE_PROGRESS_BARS": "1",
    "HF_HUB_DISABLE_TELEMETRY": "1",
    "HF_HUB_DISABLE_UPDATE_CHECK": "1",
    # Plain https goes by the lab's proxy, CAs and mirror; and what is shared between the
    # directories of two models could not be mounted with one of them.
    "HF_HUB_DISABLE_XET": "1",
    "HF_HUB_DISABLE_SHARED_BLOBS": "1",
    "NO_COLOR": "1",
}
_REFUSED = re.compile(
    r"(Model|Revision|Repository|File)\b.* not found|Access denied|\b40[134] Client"
)
_OFFERS = re.compile(r"(If the repo does not exist, create it|Set HF_DEBUG|Hint:).*")
_FULL = "No space left on device"
_LONGEST = 2000
_YOURS = (
    "Check the name; for one that is private or gated, log in with `hf auth login` or HF_TOKEN. "
    "Where only the cluster may read it, give `revision` as a full commit, and `secret`."
)
_SECRETS = (
    "Check the name and the revision; for one that is private or gated, name a secret with a token "
    "that may read it as `secret` in sandbox.models."
)

Report = Callable[[str], None]


class Found(NamedTuple):
    """What a hub has under a name and a revision: the full commit, and the bytes of its files."""

    commit: str
    size: int | None


def directory(name: str) -> str:
    """A model's directory in the cache, as the hub library names it."""
    return "--".join(("models", *name.split("/")))


def resolve(
    name: str,
    revision: str | None,
    deadline_s: float,
    *,
    endpoint: str | None = None,
    token: str | None = None,
) -> Found:
    """The commit that a branch, a tag or (without `revision`) `main` is now.

    `endpoint` is the hub's URL if it is not the user's own one, and so with `token`.
    """
    from httpx2 import HTTPError
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, RevisionNotFoundError

    api, what = HfApi(endpoint=endpoint), f"the model {name} at {revision or MAIN}"
    try:
        info = api.model_info(
            name, revision=revision or MAIN, timeout=deadline_s, files_metadata=True, token=token
        )
    except RevisionNotFoundError as error:
        raise UsageError(
            f"{name} has no revision {revision or MAIN} on {api.endpoint}.",
            hint="Name a branch, a tag or a full commit of it; `main` if left out.",
        ) from error
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            raise UsageError(
                f"{api.endpoint} has no model {name} that this machine may read ({status}).",
                hint=_YOURS,
            ) from error
        raise InfrastructureError(
            f"{api.endpoint} does not give {what}: {_words(str(error))}",
            hint="Is the hub well? Try again later.",
        ) from error
    except (HTTPError, OSError) as error:
        raise InfrastructureError(
            f"{api.endpoint} did not answer for {what}: {_words(str(error))}",
            hint="Is the network there? HF_ENDPOINT names another hub, SSL_CERT_FILE its CA.",
        ) from error
    if not info.sha:
        raise InfrastructureError(f"{api.endpoint} names no commit of {what}.")
    sizes = [file.size for file in info.siblings or ()]
    return Found(info.sha, None if None in sizes else sum(filter(None, sizes)))


def fetch(model: PinnedModel, deadline_s: float, token: str | None, report: Report) -> None:
    """Have all files of this commit in the cache; asks the hub for none that is there.

    Files that are whole when it fails stay for the next one.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    blobs = Path(HF_HUB_CACHE) / directory(model.name) / "blobs"
    _sweep(blobs)
    environment = {**os.environ, **_ENVIRONMENT, **({"HF_TOKEN": token} if token else {})}
    command = [*_DOWNLOAD, model.name, "--revision", model.commit]
    end = time.monotonic() + deadline_s
    with subprocess.Popen(
        command,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env=environment,
        text=True,
    ) as download:
        try:
            while (left := end - time.monotonic()) > 0:
                try:
                    _, said = download.communicate(timeout=min(REPORT_S, left))
                    break
                except subprocess.TimeoutExpired:
                    report(f"{model.name}: {_amount(_there(blobs))} of {_amount(model.size)}")
            else:
                raise InfrastructureError(
                    f"{model.name} was not fetched within {deadline_s:.0f} s: "
                    f"{_amount(_there(blobs))} of {_amount(model.size)} are there",
                    hint="files that are whole are kept for the next run; raise "
                    "`deadlines.prepare` in the settings for a model as large",
                )
        finally:
            download.kill()
    if download.returncode != 0:
        raise _failure(model, mask(said).strip())


def offer(model: PinnedModel, cache: Path, hub: Path) -> None:
    """Let code that looks in the cache `hub` find the model, which may be in another `cache`.

    There the revision that was asked for is the commit of the plan, also when the hub's has
    moved on and cannot be asked. The rest of `hub` stays free for what code downloads itself.
    """
    place = hub / directory(model.name)
    ref = place / "refs" / (model.revision or MAIN)
    ref.parent.mkdir(parents=True, exist_ok=True)
    ref.write_text(model.commit)
    if cache != hub:
        snapshot = place / "snapshots" / model.commit
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        snapshot.unlink(missing_ok=True)
        snapshot.symlink_to(cache / directory(model.name) / "snapshots" / model.commit)


def _failure(model: PinnedModel, said: str) -> UsageError | InfrastructureError:
    said = said[max(said.rfind("Error:"), 0) :]  # before it are its tries
    message = f"{model.name} at {model.commit} cannot be fetched: {_words(said)}"
    if _FULL in said:
        return InfrastructureError(
            message,
            hint="Where models are kept has no room: an admin enlarges the chart's cache claim, or "
            "raise sandbox.disk where there is none.",
        )
    if _REFUSED.search(said):
        return UsageError(message, hint=_SECRETS)
    return InfrastructureError(message, hint="Is the hub there, and may pods reach it?")


def _words(said: str) -> str:
    """What the hub's library said, without what it offers a person at a terminal."""
    return " ".join(_OFFERS.sub("", said).split())[-_LONGEST:]


def _sweep(blobs: Path) -> None:
    """Remove the half files of downloads that were killed; one that goes on writes often."""
    for file in blobs.glob("*.incomplete"):
        try:
            if time.time() - file.stat().st_mtime > STALE_S:
                file.unlink()
        except FileNotFoundError:  # another run has removed it, or has it whole
            continue


def _there(blobs: Path) -> int:
    """Bytes of a model that are on disk, half files too."""
    total = 0
    for file in blobs.glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # it has just got its name
            continue
    return total


def _amount(size: int | None) -> str:
    return "an unknown size" if size is None else f"{size / 1e9:.2f} GB"
