"""`runner.pod clone`: the init container that brings the repositories in.

It alone sees the lab's git Secret, or a user's own credentials: `credentials`, in git's own
format, a URL for each host. The Secret's `token` answers git's question for a password, for
the hosts of the plan's own repositories only; `ssh-privatekey` with `known_hosts` is for
ssh. `hosts` may narrow where the token goes, `username` says what goes with it. None of them
is ever an argument, a configuration value, or in the clone.
"""

from __future__ import annotations

import shlex
from pathlib import Path
from urllib.parse import quote, urlsplit

from runner import prepare
from runner.errors import UsageError
from runner.phases import PhaseLog
from runner.plan import RunPlan
from runner.pod import layout, step

USERNAME = "x-access-token"
"""What GitHub wants beside a token; most others take any."""


def main(arguments: list[str]) -> int:  # noqa: ARG001
    """Clone every repository of the plan; a failure is a failed phase, and status 0."""
    return step.run("cloning", work)


def work(
    plan: RunPlan,
    log: PhaseLog,
    end: float,
    *,
    workspace: Path = layout.WORKSPACE,
    secret: Path = layout.GIT,
    tmp: Path = layout.TMP,
) -> None:
    """Clone with the credentials that `secret`, a directory, holds; with none if it is not there.

    Helper files of git go to `tmp`, which nobody else sees.
    """
    hosts = {urlsplit(repo.url).netloc for repo in plan.repos if repo.url.startswith("https://")}
    env = credentials(secret, frozenset(hosts), tmp)
    for repo in plan.repos:
        step.say(f"cloning {repo.url} at {repo.commit}")
    prepare.clone(plan, workspace, log, end, env)


def credentials(secret: Path, hosts: frozenset[str], tmp: Path) -> dict[str, str]:
    """Variables by which git finds the Secret's credentials; they hold paths, no values.

    Raises UsageError for a deploy key without the host keys that ssh has to check.
    """
    env = {"GIT_CONFIG_NOSYSTEM": "1", "GIT_CONFIG_GLOBAL": "/dev/null"}
    if (secret / "credentials").is_file():
        helper = f"store --file={shlex.quote(str(secret / 'credentials'))}"
        env |= {"GIT_CONFIG_COUNT": "1", "GIT_CONFIG_KEY_0": "credential.helper"}
        env |= {"GIT_CONFIG_VALUE_0": helper}
    if (secret / "token").is_file():
        ask = tmp / "git-askpass"
        ask.write_text(_askpass(secret, hosts))
        ask.chmod(0o700)
        env["GIT_ASKPASS"] = str(ask)
    if (key := secret / "ssh-privatekey").is_file():
        known = secret / "known_hosts"
        if not known.is_file():
            raise UsageError(
                "the git Secret has `ssh-privatekey` but no `known_hosts`, so nobody can tell "
                "whether the host is the right one",
                hint="add the output of `ssh-keyscan HOST`, once it is checked, as `known_hosts`",
            )
        own = tmp / "git-key"
        # ssh wants a key that nobody else can read, and a line break at its end.
        own.touch(mode=0o600)
        own.write_text(key.read_text().rstrip("\n") + "\n")
        env["GIT_SSH_COMMAND"] = (
            "ssh -F /dev/null -oBatchMode=yes -oIdentitiesOnly=yes -oStrictHostKeyChecking=yes "
            f"-oUserKnownHostsFile={shlex.quote(str(known))} -i {shlex.quote(str(own))}"
        )
    return env


def _askpass(secret: Path, hosts: frozenset[str]) -> str:
    """A script that answers git's two questions, for these hosts and no other.

    A submodule, or a redirection, could ask on behalf of any host.
    """
    username, only = secret / "username", secret / "hosts"
    name = username.read_text().strip() if username.is_file() else USERNAME
    if only.is_file():
        hosts &= frozenset(only.read_text().split())
    answers = {}
    for host in sorted(hosts):
        user = quote(name, safe="")  # as git spells it in its second question
        answers[f"Username for 'https://{host}': "] = f"echo {shlex.quote(name)}"
        answers[f"Password for 'https://{user}@{host}': "] = f"cat {shlex.quote(str(secret))}/token"
    cases = [f"{shlex.quote(question)}) {answer};;" for question, answer in answers.items()]
    return "\n".join(["#!/bin/sh", 'case "$1" in', *cases, "*) exit 1;;", "esac", ""])
