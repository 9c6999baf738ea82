from __future__ import annotations

import socket
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from git_server import GitServer, git_server

from runner import git
from runner.errors import InfrastructureError, UsageError


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("smart")) as served:
        served.first = served.add_repo("org/lib", {"lib.py": "x = 1\n"})  # type: ignore[attr-defined]
        served.tag("org/lib", "v1")
        served.branch("org/lib", "stable")
        served.add_repo("org/lib", {"lib.py": "x = 2\n"})
        yield served


@pytest.fixture(autouse=True)
def _trust(server: GitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(server.ca))


def head(server: GitServer) -> str:
    return server.git(server.root / "org/lib", "rev-parse", "main")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("ext::sh -c touch% /tmp/owned", "another program"),
        ("fd::17", "another program"),
        ("--upload-pack=touch /tmp/owned", "option"),
        ("-oProxyCommand=id", "option"),
        ("file:///etc", "file://"),
        ("/etc", "no URL"),
        ("../up", "no URL"),
        ("http://example.org/a/b", "http://"),
        ("git://example.org/a/b", "git://"),
        ("https://user:pass@example.org/a/b", "credentials"),
        ("https://token@example.org/a/b", "credentials"),
        ("ssh://git:pass@example.org/a/b", "credentials"),
        ("ssh://-oProxyCommand=id/a/b", "host"),
        ("git@-oProxyCommand=id:a/b", "no URL"),
        ("git@host:--upload-pack=x", "no URL"),
        ("https://example.org/", "no repository"),
        ("https://example.org/a/..", "directory"),
        ("https://example.org/a/.git", r"no repository|directory"),
        ("https://example.org/a/b?x=1", "`ref`"),
        ("https://example.org/a/b\nc", "white space"),
        ("https:///a/b", "host"),
        ("", "no URL"),
    ],
)
def test_refused_urls(url: str, words: str) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        git.check_url(url)
    assert "pass" not in str(caught.value)
    assert "token" not in str(caught.value)
    with pytest.raises(UsageError):
        git.clone(url, "0" * 40, Path("never"), 5)


@pytest.mark.parametrize(
    ("url", "meant"),
    [
        ("org/name", "https://github.com/org/name"),
        ("https://example.org/a/b.git", "https://example.org/a/b.git"),
        ("https://example.org:8443/a/b/", "https://example.org:8443/a/b/"),
        ("ssh://git@example.org/a/b", "ssh://git@example.org/a/b"),
        ("git@example.org:a/b.git", "git@example.org:a/b.git"),
    ],
)
def test_accepted_urls(url: str, meant: str) -> None:
    assert git.check_url(url) == meant


def test_resolve(server: GitServer) -> None:
    url, first = server.url("org/lib"), server.first  # type: ignore[attr-defined]
    assert git.resolve(url, None, 30) == head(server)
    assert git.resolve(url, "main", 30) == head(server)
    assert git.resolve(url, "stable", 30) == first
    assert git.resolve(url, "v1", 30) == first, "an annotated tag is its commit"
    assert git.resolve(url, first.upper(), 30) == first


@pytest.mark.parametrize("ref", ["--upload-pack=x", "a..b", "a b", "a:b", "", "x.lock", "@{-1}"])
def test_refused_refs(server: GitServer, ref: str) -> None:
    with pytest.raises(UsageError, match="refused"):
        git.resolve(server.url("org/lib"), ref, 30)


def test_absent_things_are_the_users_to_mend(server: GitServer) -> None:
    with pytest.raises(UsageError, match=r"repository '.*org/nope/' not found"):
        git.resolve(server.url("org/nope"), None, 30)
    with pytest.raises(UsageError, match="not found"):
        git.resolve(server.url("org/openssl"), None, 30)
    with pytest.raises(UsageError, match="no branch or tag 'stabel'") as caught:
        git.resolve(server.url("org/lib"), "stabel", 30)
    assert "stable" in caught.value.hint


def test_no_network_is_not_the_users_to_mend(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(InfrastructureError, match=r"(?i)resolve host|unable to access"):
        git.resolve("https://nowhere.invalid/a/b", None, 30)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        url = f"https://127.0.0.1:{free.getsockname()[1]}/a/b"
    with pytest.raises(InfrastructureError, match=r"(?i)connect"):
        git.resolve(url, None, 30)


def test_a_server_that_is_not_trusted(server: GitServer, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_SSL_CAINFO", "/dev/null")
    with pytest.raises(InfrastructureError, match=r"(?i)certificate|ssl"):
        git.resolve(server.url("org/lib"), None, 30)


def test_a_server_that_never_answers() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        started = time.monotonic()
        with pytest.raises(InfrastructureError, match="within 1 s"):
            git.resolve(f"https://127.0.0.1:{silent.getsockname()[1]}/a/b", None, 1)
        assert time.monotonic() - started < 10


def test_clone_of_one_commit(server: GitServer, tmp_path: Path) -> None:
    url, first = server.url("org/lib"), server.first  # type: ignore[attr-defined]
    git.clone(url, first, tmp_path / "lib", 60)
    assert (tmp_path / "lib/lib.py").read_text() == "x = 1\n"
    assert server.git(tmp_path / "lib", "rev-parse", "HEAD") == first
    assert server.git(tmp_path / "lib", "remote", "get-url", "origin") == url
    assert server.git(tmp_path / "lib", "rev-list", "--all", "--count") <= "1"


def test_clone_from_a_server_that_gives_out_no_single_commits(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with git_server(tmp_path / "dumb", smart=False) as dumb:
        first = dumb.add_repo("lib", {"lib.py": "x = 1\n"})
        dumb.add_repo("lib", {"lib.py": "x = 2\n"})
        monkeypatch.setenv("GIT_SSL_CAINFO", str(dumb.ca))
        git.clone(dumb.url("lib"), first, tmp_path / "lib", 60)
    assert (tmp_path / "lib/lib.py").read_text() == "x = 1\n"


def test_a_clone_that_fails_leaves_nothing(server: GitServer, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="checkout"):
        git.clone(server.url("org/lib"), "1" * 40, tmp_path / "lib", 60)
    with pytest.raises(UsageError, match="not found"):
        git.clone(server.url("org/nope"), "1" * 40, tmp_path / "lib", 60)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / "lib").mkdir()
    (tmp_path / "lib/mine").touch()
    with pytest.raises(UsageError, match="something there"):
        git.clone(server.url("org/lib"), "1" * 40, tmp_path / "lib", 60)
    assert (tmp_path / "lib/mine").exists()


def test_no_hooks_and_no_submodules(
    server: GitServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    owned, template = tmp_path / "owned", tmp_path / "template"
    (template / "hooks").mkdir(parents=True)
    hook = template / "hooks/post-checkout"
    hook.write_text(f"#!/bin/sh\ntouch {owned}\n")
    hook.chmod(0o755)
    monkeypatch.setenv("GIT_TEMPLATE_DIR", str(template))
    files = {".gitmodules": f'[submodule "s"]\n\tpath = s\n\turl = ext::sh -c "touch {owned}"\n'}
    commit = server.add_repo("org/evil", files)
    git.clone(server.url("org/evil"), commit, tmp_path / "evil", 60)
    assert (tmp_path / "evil/.gitmodules").exists()
    assert not owned.exists()


def test_the_server_of_these_tests_is_reached_by_plain_git_too(server: GitServer) -> None:
    subprocess.run(["git", "ls-remote", server.url("org/lib")], check=True, capture_output=True)
