"""Repositories: what a ref means, and a clone of exactly that commit.

Git runs without prompts, hooks, submodules and transports other than https and ssh, and each
command has a deadline. What git says is passed on: a repository or ref that is not there is
the user's to mend (UsageError), a network that does not answer is not (InfrastructureError).
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import time
from pathlib import Path

from runner.config import checks
from runner.config.refuse import mask
from runner.errors import InfrastructureError, UsageError

_COMMIT = re.compile(r"[0-9a-f]{40}|[0-9a-f]{64}")
_ABSENT = re.compile(
    r"not found|does not exist|no such|denied|authentication failed|could not read username"
    r"|invalid credentials|terminal prompts disabled|does not appear to be a git repo"
    r"|returned error: 40[134]",
    re.IGNORECASE,
)
_NETWORK = re.compile(
    r"could not resolve|failed to connect|couldn't connect|timed out|ssl|certificate"
    r"|connection (refused|reset)|network is unreachable|host key",
    re.IGNORECASE,
)
_ALL_BRANCHES = "+refs/heads/*:refs/remotes/origin/*"
_NO_HOOKS = ("core.hooksPath=/dev/null", "submodule.recurse=false", "protocol.ext.allow=never")


def check_url(url: str) -> str:
    """The URL that is meant by `url`, if git may be given it; raises UsageError if not."""
    full = checks.full_url(url)
    if problem := checks.url_problem(full):
        raise UsageError(f"The repository {mask(url)!r} is refused: {problem}.")
    return full


def resolve(url: str, ref: str | None, deadline_s: float) -> str:
    """The full commit that a branch, a tag or (without `ref`) the default branch is now.

    A full commit is taken as it is, once the repository has answered. Raises UsageError
    where git refuses, the repository or the ref is not there, and InfrastructureError where
    the network or its server does not answer within `deadline_s` seconds.
    """
    url = check_url(url)
    if ref is not None and (problem := checks.ref_problem(ref)):
        raise UsageError(f"The ref {ref!r} of {url} is refused: {problem}.")
    patterns = ("HEAD", "refs/heads/*", "refs/tags/*")
    listing = _git(url, deadline_s, "ls-remote", "--", url, *patterns)
    lines = [line.partition("	") for line in listing.splitlines()]
    refs = {name: commit for commit, _, name in lines}
    if ref is not None and _COMMIT.fullmatch(ref.lower()):
        return ref.lower()
    wanted = [ref, f"refs/heads/{ref}", f"refs/tags/{ref}"] if ref else ["HEAD"]
    for name in wanted:
        if name in refs:
            return refs.get(f"{name}^{{}}", refs[name])  # ^{}: the commit an annotated tag is of
    if ref is None:
        raise UsageError(f"The repository {url} is empty: it has no HEAD.")
    known = [name.split("/", 2)[-1] for name in refs if not name.endswith("^{}")]
    near = difflib.get_close_matches(ref, known, n=3)
    raise UsageError(
        f"The repository {url} has no branch or tag {ref!r} (git ls-remote).",
        hint=f"It has {', '.join(near)}." if near else "A commit has to be given in full.",
    )


def clone(url: str, commit: str, to: Path, deadline_s: float) -> None:
    """Make `to` a clone of `url` at exactly this commit, with `origin` set.

    Only that commit is fetched, or, from servers that give out no single commits, all of
    the history. Raises as `resolve` does; what was begun is removed then.
    """
    from git import Git

    url = check_url(url)
    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"{commit!r} is no full commit of {url}.")
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{url} cannot be cloned to {to}: there is something there already.")
    end = time.monotonic() + deadline_s
    try:
        to.mkdir(parents=True, exist_ok=True)
        here = Git(to)

        def git(*arguments: str) -> str:
            return _git(url, end - time.monotonic(), *arguments, here=here)

        git("init", "--quiet", "--template=")
        git("remote", "add", "--", "origin", url)
        try:
            git("fetch", "--quiet", "--no-tags", "--depth=1", "--", "origin", commit)
        except (UsageError, InfrastructureError) as error:
            if time.monotonic() > end or _NETWORK.search(error.message.replace(url, "")):
                raise
            git("fetch", "--quiet", "--tags", "--", "origin", _ALL_BRANCHES)
        git("checkout", "--quiet", "--detach", commit, "--")
        head = git("rev-parse", "HEAD").strip()
        if head != commit:
            raise InfrastructureError(f"The clone of {url} is at {head}, not at {commit}.")
    except OSError as error:
        shutil.rmtree(to, ignore_errors=True)
        raise InfrastructureError(f"{url} cannot be cloned to {to}: {error.strerror}.") from error
    except (UsageError, InfrastructureError):
        shutil.rmtree(to, ignore_errors=True)
        raise


def _git(url: str, deadline_s: float, *arguments: str, here: object = None) -> str:
    """What one git command printed; an error carries git's own words."""
    from git import Git, GitCommandNotFound

    Git.check_unsafe_protocols(url)
    git = here if isinstance(here, Git) else Git()
    options = [part for setting in _NO_HOOKS for part in ("-c", setting)]
    try:
        status, output, stderr = git.execute(
            ["git", *options, *arguments],
            env=_environment(),
            with_extended_output=True,
            with_exceptions=False,
            kill_after_timeout=max(deadline_s, 0.01),
        )
    except GitCommandNotFound as error:
        raise InfrastructureError(
            "There is no git on this machine.", hint="Install git."
        ) from error
    if status == 0:
        return str(output)
    said = mask(str(stderr)).strip() or f"exit status {status}"
    if "did not complete in" in said:
        raise InfrastructureError(
            f"git {arguments[0]} of {url} did not end within {deadline_s:.0f} s."
        )
    message = f"git {arguments[0]} of {url} failed: {said}"
    words = said.replace(url, "")  # a repository may be called openssl
    if _NETWORK.search(words) or not (_ABSENT.search(words) or arguments[0] == "checkout"):
        raise InfrastructureError(message, hint="Is the network there? Try the URL with git.")
    raise UsageError(
        message,
        hint="Check the name; if it is private, git's credential helper or ssh agent has to know "
        "how to get it.",
    )


def _environment() -> dict[str, str]:
    """What GitPython lays over the user's, which has proxies, CA bundles and helpers."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        "GIT_ALLOW_PROTOCOL": "https:ssh",
        "LC_ALL": "C",
    }
