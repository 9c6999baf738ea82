"""Models of a Hugging Face hub: what a revision means, and exactly that commit in a cache.

The cache is the hub library's own: $HF_HUB_CACHE, or what follows from $HF_HOME. It may be shared
by runs at once, as every file comes into place whole. A model or revision that is not there, or
may not be read, is the user's to mend (UsageError); a hub that does not answer is not
(InfrastructureError). Both carry the hub's own words.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import NamedTuple

from runner import digests, git
from runner.config.refuse import mask
from runner.errors import InfrastructureError, UsageError
from runner.plan import PinnedModel

HUB = "https://huggingface.co"
MAIN = "main"
"""The revision of a model that none is named of."""
TOKEN = "HF_TOKEN"  # noqa: S105 - the variable that the hub's library knows
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
_FULL = re.compile(r"No space left on device|Disk quota exceeded")
_LONGEST = 2000
_YOURS = (
    "Check the name; for one that is private or gated, log in with `hf auth login` or HF_TOKEN. "
    "Where only the cluster may read it, give `revision` as a full commit, and `secret`."
)
SECRETS = (
    "Check the name and the revision; for one that is private or gated, name a secret with a token "
    "that may read it as `secret` in sandbox.models."
)

Report = Callable[[str], None]
Token = str | bool | None
"""Of a hub; None for the one that this user is logged in with, False for none."""


class Found(NamedTuple):
    """What a hub has under a name and a revision: the full commit, and the bytes of its files.

    `gated`: its files are for those who were let in, though everybody may look it up.
    """

    commit: str
    size: int | None
    gated: bool = False


def directory(name: str) -> str:
    """A model's directory in the cache, as the hub library names it."""
    return "--".join(("models", *name.split("/")))


def snapshot(model: PinnedModel) -> str:
    """Where its files are, below the cache."""
    return f"{directory(model.name)}/snapshots/{model.commit}"


def own_hub() -> str:
    """The URL of the hub that this user's library asks, and its login is for."""
    from huggingface_hub import constants

    return constants.ENDPOINT


def resolve(
    name: str, revision: str | None, deadline_s: float, *, endpoint: str, token: Token = None
) -> Found:
    """The commit that a branch, a tag or (without `revision`) `main` is now, at a hub's URL."""
    from huggingface_hub import HfApi, constants
    from huggingface_hub.errors import RevisionNotFoundError

    token = token.strip() if isinstance(token, str) else token
    with _asking(endpoint, name, token):
        try:
            info = HfApi(endpoint=endpoint).model_info(
                name,
                revision=revision or MAIN,
                timeout=deadline_s,
                files_metadata=True,
                token=token,
            )
        except RevisionNotFoundError as error:
            raise UsageError(
                f"{name} has no revision {revision or MAIN} on {endpoint}.",
                hint="Name a branch, a tag or a full commit of it; `main` if left out.",
            ) from error
    if not git.is_commit(info.sha):
        raise InfrastructureError(f"{endpoint} names no commit of the model {name}.")
    sizes = [file.size for file in info.siblings or ()]
    if (largest := max(filter(None, sizes), default=0)) > constants.MAX_HTTP_DOWNLOAD_SIZE:
        raise UsageError(
            f"{name} has a file of {_amount(largest)}: more than "
            f"{_amount(constants.MAX_HTTP_DOWNLOAD_SIZE)} is not fetched.",
            hint="Have the lab mount it as one of sandbox.volumes.",
        )
    size = None if None in sizes else sum(filter(None, sizes))
    return Found(str(info.sha), size, bool(info.gated))


def check_access(name: str, *, endpoint: str, token: Token) -> None:
    """Refuse a gated model whose files the hub would not give to this token."""
    from huggingface_hub import HfApi

    with _asking(endpoint, name, token):
        HfApi(endpoint=endpoint).auth_check(name, token=token)


def fetch(model: PinnedModel, deadline_s: float, token: str | None, report: Report) -> None:
    """Have all files of this commit in the cache, right by their digests.

    Asks the hub for none that is there. Files that are whole when it fails stay for the next one.
    """
    from huggingface_hub.constants import HF_HUB_CACHE

    place = Path(HF_HUB_CACHE) / directory(model.name)
    others = {name: value for name, value in os.environ.items() if name != TOKEN}
    own = {TOKEN: token.strip()} if token else {}
    had = _there(place)

    def so_far() -> str:
        return f"{_amount(_there(place) - had)} fetched, of {_amount(model.size)}"

    end = time.monotonic() + deadline_s
    with subprocess.Popen(
        [*_DOWNLOAD, model.name, "--revision", model.commit],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        stdin=subprocess.DEVNULL,
        env={**others, **_ENVIRONMENT, **own},
        text=True,
    ) as download:
        try:
            while (left := end - time.monotonic()) > 0:
                try:
                    _, said = download.communicate(timeout=min(REPORT_S, left))
                    break
                except subprocess.TimeoutExpired:
                    report(f"{model.name}: {so_far()}")
            else:
                raise InfrastructureError(
                    f"{model.name} was not there within {deadline_s:.0f} s: {so_far()}",
                    hint="files that are whole are kept for the next run; raise "
                    "`deadlines.prepare` in the settings for a model as large",
                )
        finally:
            download.kill()
    if download.returncode != 0:
        raise _failure(model, _words(said, token), download.returncode)
    if not (place / "trees" / f"{model.commit}.json").exists():  # then it was not asked
        raise InfrastructureError(
            f"Whether {model.name} at {model.commit} is there as a whole is not known: the hub did "
            "not answer.",
            hint="Is the hub there, and may pods reach it?",
        )
    digests.check(place, model.name, model.commit, end, report)


def offer(model: PinnedModel, revisions: set[str], cache: Path, hub: Path) -> None:
    """Let code that looks in the cache `hub` find the model, which may be in another `cache`.

    There these revisions are the commit of the plan, also when the hub's have moved on and it
    cannot be asked. The rest of `hub` stays free for what code downloads itself.
    """
    place = hub / directory(model.name)
    for revision in revisions:
        ref = place / "refs" / revision
        ref.parent.mkdir(parents=True, exist_ok=True)
        ref.write_text(model.commit)
    if cache != hub:
        snapshot = place / "snapshots" / model.commit
        snapshot.parent.mkdir(parents=True, exist_ok=True)
        snapshot.unlink(missing_ok=True)
        snapshot.symlink_to(cache / directory(model.name) / "snapshots" / model.commit)


def sweep(model: PinnedModel, cache: Path) -> None:
    """Remove the half files of downloads that were killed; one that goes on writes often."""
    for file in (cache / directory(model.name) / "blobs").glob("*.incomplete"):
        try:
            if time.time() - file.stat().st_mtime > STALE_S:
                file.unlink()
        except FileNotFoundError:  # another run has removed it, or has it whole
            continue


@contextlib.contextmanager
def _asking(endpoint: str, name: str, token: Token) -> Iterator[None]:
    """Tell what a hub answers, or that it does not, in our words."""
    from httpx2 import HTTPError
    from huggingface_hub.errors import HfHubHTTPError

    try:
        yield
    except HfHubHTTPError as error:
        status = error.response.status_code
        if status in (401, 403, 404):
            raise UsageError(
                f"{endpoint} has no model {name} that this machine may read ({status}).",
                hint=_YOURS,
            ) from error
        raise InfrastructureError(
            f"{endpoint} does not tell of the model {name}: {_words(str(error), token)}",
            hint="Is the hub well? Try again later.",
        ) from error
    except (HTTPError, OSError, ValueError) as error:
        raise InfrastructureError(
            f"{endpoint} did not answer for the model {name}: {_words(str(error), token)}",
            hint="Is the network there? HF_ENDPOINT names another hub, SSL_CERT_FILE its CA.",
        ) from error


def _failure(model: PinnedModel, said: str, status: int) -> UsageError | InfrastructureError:
    said = said[max(said.rfind("Error:"), 0) :]  # before it are its tries
    if status < 0:
        said = f"it was killed by {signal.Signals(-status).name} {said}".strip()
    message = f"{model.name} at {model.commit} cannot be fetched: {said or f'status {status}'}"
    if _FULL.search(said):
        return InfrastructureError(
            message,
            hint="Where models are kept has no room: an admin enlarges the chart's cache claim, or "
            "raise sandbox.disk where there is none.",
        )
    if status == -signal.SIGKILL:
        return InfrastructureError(message, hint="By the kernel, if sandbox.memory is too little.")
    if _REFUSED.search(said):
        return UsageError(message, hint=SECRETS)
    return InfrastructureError(message, hint="Is the hub there, and may pods reach it?")


def _words(said: str, token: Token) -> str:
    """What the hub's library said, without the token and what it offers a person."""
    if isinstance(token, str) and token.strip():
        said = said.replace(token.strip(), "***")
    return " ".join(_OFFERS.sub("", mask(said)).split())[-_LONGEST:]


def _there(place: Path) -> int:
    """Bytes of a model that are on disk, half files too."""
    total = 0
    for file in (place / "blobs").glob("*"):
        try:
            total += file.stat().st_size
        except FileNotFoundError:  # it has just got its name
            continue
    return total


def _amount(size: int | None) -> str:
    return "an unknown size" if size is None else f"{size / 1e6:,.0f} MB"
