"""Repositories: what a ref means, and a clone of exactly that commit.

Git runs without prompts, hooks and transports other than https and ssh, and each command has a
deadline. Submodules are cloned one by one, under the same rules as the repository itself. What
git says is passed on: a repository or ref that is not there is the user's to mend (UsageError), a
network that does not answer is not (InfrastructureError).
"""

from __future__ import annotations

import difflib
import os
import re
import shutil
import subprocess
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from urllib.parse import quote, urlsplit

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
_DEEPEST = 8
"""Submodules of submodules, and so on: beyond it somebody plays a trick."""
_STORED_S = 10.0
"""For what a credential helper has to say of one host."""
_GITLINK = "160000"
"""The mode by which a tree holds the commit of a submodule."""
_YOURS = (
    "Check the name; if it is private, git's credential helper or ssh agent has to know how to "
    "get it."
)
_POD_S = (
    "Check the name; if it is private, the lab's git Secret (`secrets.git` in the chart's values), "
    "or on `docker` your own git's credential helper, needs a token that may read it."
)
_GONE = "Push that commit, or name another one in sandbox.repos; a branch may have been rewritten."
_NO_HOST_KEY = (
    "The lab's git Secret (`secrets.git` in the chart's values) needs `known_hosts`, with this "
    "host's keys, beside `ssh-privatekey`."
)
_NO_CA = {
    False: "This machine trusts another CA: GIT_SSL_CAINFO or SSL_CERT_FILE names a file with it.",
    True: "The pods trust other CAs: the chart's `network.caBundle` holds all that they trust.",
}
"""By whether a pod says it."""
_NO_HOOKS = ("core.hooksPath=/dev/null", "submodule.recurse=false", "protocol.ext.allow=never")


def check_url(url: str) -> str:
    """The URL that is meant by `url`, if git may be given it; raises UsageError if not."""
    full = checks.full_url(url)
    if problem := checks.url_problem(full):
        raise UsageError(f"The repository {mask(url)!r} is refused: {problem}.")
    return full


def is_commit(ref: str | None) -> bool:
    """Whether this names a commit in full."""
    return bool(ref and _COMMIT.fullmatch(ref.lower()))


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
    if ref is not None and is_commit(ref):
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


def clone(
    url: str, commit: str, to: Path, deadline_s: float, env: Mapping[str, str] | None = None
) -> None:
    """Make `to` a clone of `url` at exactly this commit, with `origin` set, and its submodules.

    Only that commit is fetched, or, from servers that give out no single commits, all of
    the history. Submodules are at the commits that this one records. `env` is laid over
    what git gets, where credentials do not come from the user's own git. Raises as
    `resolve` does; what was begun is removed then.
    """
    end = time.monotonic() + deadline_s
    try:
        _clone(check_url(url), commit, to, end, env, 0)
    except OSError as error:
        raise InfrastructureError(f"{url} cannot be cloned to {to}: {error.strerror}.") from error


def _clone(
    url: str, commit: str, to: Path, end: float, env: Mapping[str, str] | None, depth: int
) -> None:
    from git import Git

    if not _COMMIT.fullmatch(commit):
        raise UsageError(f"{commit!r} is no full commit of {url}.")
    if to.exists() and any(to.iterdir()):
        raise UsageError(f"{url} cannot be cloned to {to}: there is something there already.")
    try:
        to.mkdir(parents=True, exist_ok=True)
        here = Git(to)

        def git(*arguments: str) -> str:
            return _git(url, end - time.monotonic(), *arguments, here=here, env=env)

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
        for part in _submodules(git, to, url):
            if depth == _DEEPEST:
                raise UsageError(f"{url} has submodules more than {_DEEPEST} levels deep.")
            _clone(part.url, part.commit, to / part.path, end, env, depth + 1)
    except (OSError, UsageError, InfrastructureError):
        shutil.rmtree(to, ignore_errors=True)
        raise


@dataclass(frozen=True)
class _Submodule:
    path: str
    url: str
    commit: str


def _submodules(git: Callable[..., str], to: Path, url: str) -> Iterator[_Submodule]:
    """Those of the commit that is checked out; a gitlink that .gitmodules does not name is none."""
    if not (to / ".gitmodules").is_file():
        return
    entries = [entry.partition("\t") for entry in git("ls-tree", "-r", "-z", "HEAD").split("\0")]
    commits = {path: about.split()[2] for about, _, path in entries if about.startswith(_GITLINK)}
    if not commits:
        return
    tables: dict[str, dict[str, str]] = {}
    # The blob, not the file: that could be a link to somewhere else.
    for entry in git("config", "--blob", "HEAD:.gitmodules", "-z", "--list").split("\0"):
        key, _, value = entry.partition("\n")
        if key.startswith("submodule.") and key.count(".") > 1:
            name, _, key = key.removeprefix("submodule.").rpartition(".")
            tables.setdefault(name, {})[key] = value
    for table in tables.values():
        path, given = table.get("path", ""), table.get("url", "")
        if path not in commits or table.get("update") == "none":
            continue
        full = _relative(url, given)
        if problem := checks.url_problem(full):
            raise UsageError(
                f"The submodule {path!r} of {url} ({mask(full)!r}) is refused: {problem}."
            )
        yield _Submodule(path, full, commits[path])


def _relative(base: str, url: str) -> str:
    """The URL that a submodule's means: `../name` is beside the repository that has it."""
    if not url.startswith(("./", "../")):
        return url
    base = base.rstrip("/")
    while url.startswith(("./", "../")):
        if url.startswith("../"):
            cut = max(base.rfind("/"), base.rfind(":"), 0)
            base, mark = base[:cut], base[cut : cut + 1]
            url = url[3:]
        else:
            url, mark = url[2:], "/"
    return f"{base}{mark}{url}"


def _git(
    url: str,
    deadline_s: float,
    *arguments: str,
    here: object = None,
    env: Mapping[str, str] | None = None,
) -> str:
    """What one git command printed; an error carries git's own words."""
    from git import Git, GitCommandNotFound

    Git.check_unsafe_protocols(url)
    git = here if isinstance(here, Git) else Git()
    options = [part for setting in _NO_HOOKS for part in ("-c", setting)]
    try:
        status, output, stderr = git.execute(
            ["git", *options, *arguments],
            env={**_environment(), **(env or {})},
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
    if "certificate" in words:
        raise InfrastructureError(message, hint=_NO_CA[env is not None])
    if env is not None and "host key" in words.lower():
        raise UsageError(message, hint=_NO_HOST_KEY)
    if arguments[0] == "checkout" and "not a tree" in words:
        raise UsageError(message, hint=_GONE)
    if _NETWORK.search(words) or not (_ABSENT.search(words) or arguments[0] == "checkout"):
        raise InfrastructureError(message, hint="Is the network there? Try the URL with git.")
    raise UsageError(message, hint=_YOURS if env is None else _POD_S)


def credentials(urls: Iterable[str]) -> str:
    """What the user's own git has stored for the hosts of these https URLs, in git's format.

    Nobody is asked; a host for which nothing is stored is left out.
    """
    hosts = dict.fromkeys(urlsplit(url).netloc for url in urls if url.startswith("https://"))
    return "".join(f"{line}\n" for host in hosts if (line := _stored(host)))


def _stored(host: str) -> str:
    quiet = {"GIT_ASKPASS": "true", "GCM_INTERACTIVE": "never"}
    try:
        done = subprocess.run(
            ["git", "credential", "fill"],
            input=f"protocol=https\nhost={host}\n\n",
            capture_output=True,
            text=True,
            timeout=_STORED_S,
            env={**os.environ, **_environment(), **quiet},
            check=False,
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    found = dict(line.split("=", 1) for line in done.stdout.splitlines() if "=" in line)
    user, password = found.get("username", ""), found.get("password", "")
    if done.returncode or not password:
        return ""
    return f"https://{quote(user, safe='')}:{quote(password, safe='')}@{host}"


def _environment() -> dict[str, str]:
    """What GitPython lays over the user's, which has proxies, CA bundles and helpers."""
    return {
        "GIT_TERMINAL_PROMPT": "0",
        "GIT_ASKPASS": "true",
        "GIT_SSH_COMMAND": os.environ.get("GIT_SSH_COMMAND", "ssh -oBatchMode=yes"),
        "GIT_ALLOW_PROTOCOL": "https:ssh",
        "LC_ALL": "C",
    }
