"""What the clone container does, against a git server of its own."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from hashlib import sha256
from pathlib import Path

import pytest
from agent_parts import make_plan
from git_server import GitServer, git_server
from ssh_server import ssh_server

from runner import git
from runner.errors import UsageError
from runner.phases import PhaseLog, read_phases
from runner.plan import PinnedRepo, RunPlan
from runner.pod import clone, step

TOKEN = "tok-5e1f"


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[GitServer]:
    with git_server(tmp_path_factory.mktemp("git")) as served:
        yield served


@pytest.fixture(autouse=True)
def _trust(server: GitServer, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setenv("GIT_SSL_CAINFO", str(server.ca))
    yield
    server.credentials = ""


@pytest.fixture
def lib(server: GitServer) -> str:
    return server.add_repo("org/lib", {"lib.py": "x = 1\n"})


def planned(*repos: tuple[str, str]) -> RunPlan:
    pins = [
        PinnedRepo(url=url, name=url.rsplit("/", 1)[1], ref=None, commit=commit, install=False)
        for url, commit in repos
    ]
    return make_plan().model_copy(update={"repos": tuple(pins)})


def secret(folder: Path, **keys: str) -> Path:
    folder.mkdir()
    for key, value in keys.items():
        (folder / key.replace("__", "-")).write_text(value)
    return folder


def cloned(plan: RunPlan, tmp_path: Path, keys: Path | None = None) -> int:
    """Run the container's work as `main` does; its status."""
    (tmp_path / "plan.json").write_text(plan.model_dump_json())
    (tmp_path / "workspace").mkdir(exist_ok=True)
    (tmp_path / "tmp").mkdir(exist_ok=True)

    def work(plan: RunPlan, log: PhaseLog, end: float) -> None:
        clone.work(
            plan,
            log,
            end,
            workspace=tmp_path / "workspace",
            secret=keys or tmp_path / "no-secret",
            tmp=tmp_path / "tmp",
        )

    return step.run(
        "cloning",
        work,
        plan=tmp_path / "plan.json",
        phases=tmp_path / "phases.jsonl",
        termination=tmp_path / "termination",
    )


def failure(tmp_path: Path) -> str:
    return read_phases(tmp_path / "phases.jsonl")[-1].failure


def test_repositories_come_at_their_commits(server: GitServer, lib: str, tmp_path: Path) -> None:
    server.add_repo("org/lib", {"lib.py": "x = 2\n"})
    assert cloned(planned((server.url("org/lib"), lib)), tmp_path) == 0
    assert (tmp_path / "workspace/lib/lib.py").read_text() == "x = 1\n"
    assert not failure(tmp_path)
    assert not (tmp_path / "termination").exists()


def test_a_token_opens_a_private_repository_and_is_nowhere(
    server: GitServer, lib: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.credentials = f"x-access-token:{TOKEN}"
    keys = secret(tmp_path / "git", token=f"{TOKEN}\n")
    cloned(planned((server.url("org/lib"), lib)), tmp_path, keys)
    assert (tmp_path / "workspace/lib/lib.py").exists(), failure(tmp_path)
    for place in ("workspace", "tmp"):
        for file in (tmp_path / place).rglob("*"):
            assert not file.is_file() or TOKEN.encode() not in file.read_bytes(), file
    assert TOKEN not in "".join(capfd.readouterr())


def test_a_user_name_of_its_own(server: GitServer, lib: str, tmp_path: Path) -> None:
    server.credentials = f"gitlab+deploy-1:{TOKEN}"
    keys = secret(tmp_path / "git", token=TOKEN, username="gitlab+deploy-1")
    cloned(planned((server.url("org/lib"), lib)), tmp_path, keys)
    assert (tmp_path / "workspace/lib").exists(), failure(tmp_path)


def test_the_token_goes_to_no_other_host(server: GitServer, lib: str, tmp_path: Path) -> None:
    with git_server(tmp_path / "other") as other:
        commit = other.add_repo("stolen", {"x": ""})
        other.credentials = f"x-access-token:{TOKEN}"
        trusted = tmp_path / "both.pem"
        trusted.write_text(server.ca.read_text() + other.ca.read_text())
        whole = server.add_submodule("org/lib", "part", other.url("stolen"), commit)
        keys = secret(tmp_path / "git", token=TOKEN)
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("GIT_SSL_CAINFO", str(trusted))
            cloned(planned((server.url("org/lib"), whole)), tmp_path, keys)
    assert "could not read Username" in failure(tmp_path)


def test_the_secret_may_name_the_hosts(server: GitServer, lib: str, tmp_path: Path) -> None:
    server.credentials = f"x-access-token:{TOKEN}"
    keys = secret(tmp_path / "git", token=TOKEN, hosts="git.example.org")
    cloned(planned((server.url("org/lib"), lib)), tmp_path, keys)
    assert "could not read Username" in failure(tmp_path)


def test_a_commit_that_is_gone_is_no_matter_of_rights(
    server: GitServer, lib: str, tmp_path: Path
) -> None:
    assert cloned(planned((server.url("org/lib"), "a" * 40)), tmp_path) == 0
    words = failure(tmp_path)
    assert "reference is not a tree" in words
    assert "Push that commit" in words
    assert "secrets.git" not in words


def test_a_host_whose_ca_is_not_trusted(
    server: GitServer, lib: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_SSL_CAINFO", "/etc/ssl/certs/ca-certificates.crt")
    assert cloned(planned((server.url("org/lib"), lib)), tmp_path) == 0
    assert "certificate verification failed" in failure(tmp_path)
    assert "network.caBundle" in failure(tmp_path)


def test_a_failure_is_a_failed_phase_with_gits_words(
    server: GitServer, lib: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    server.credentials = f"x-access-token:{TOKEN}"
    keys = secret(tmp_path / "git", token="wrong")
    assert cloned(planned((server.url("org/lib"), lib)), tmp_path, keys) == 0
    words = failure(tmp_path)
    assert f"git fetch of {server.url('org/lib')} failed: fatal: Authentication failed" in words
    assert "secrets.git" in words
    assert words in capfd.readouterr().err
    assert words in (tmp_path / "termination").read_text()
    assert list((tmp_path / "workspace").iterdir()) == []


def test_nothing_is_begun_after_a_failure(server: GitServer, lib: str, tmp_path: Path) -> None:
    PhaseLog(tmp_path / "phases.jsonl").fail("cloning", "no such thing")
    assert cloned(planned((server.url("org/lib"), lib)), tmp_path) == 0
    assert not (tmp_path / "workspace/lib").exists()
    assert len(read_phases(tmp_path / "phases.jsonl")) == 1


def test_a_plan_that_cannot_be_read_is_a_failed_phase(tmp_path: Path) -> None:
    status = step.run(
        "cloning",
        lambda *_: None,
        plan=tmp_path / "nowhere.json",
        phases=tmp_path / "phases.jsonl",
        termination=tmp_path / "termination",
    )
    assert status == 0
    assert "nowhere.json" in failure(tmp_path)


def test_the_time_for_preparing_is_shared(server: GitServer, lib: str, tmp_path: Path) -> None:
    with PhaseLog(tmp_path / "phases.jsonl").phase("unpacking"):
        pass
    plan = planned((server.url("org/lib"), lib)).model_copy(update={"prepare_deadline_s": 0.0})
    cloned(plan, tmp_path)
    assert "preparing took longer than it may" in failure(tmp_path)


def test_a_deploy_key_needs_host_keys(tmp_path: Path) -> None:
    cloned(
        planned(("ssh://git@example.org/a/b", "0" * 40)),
        tmp_path,
        secret(tmp_path / "git", ssh__privatekey="KEY"),
    )
    assert "known_hosts" in failure(tmp_path)


def test_a_deploy_key_reaches_ssh_alone(tmp_path: Path) -> None:
    keys = secret(tmp_path / "git", ssh__privatekey="KEY", known_hosts="host key")
    env = clone.credentials(keys, frozenset(), tmp_path)
    own = tmp_path / "git-key"
    assert own.read_text() == "KEY\n"
    assert own.stat().st_mode & 0o077 == 0
    assert f"-i {own}" in env["GIT_SSH_COMMAND"]
    assert f"UserKnownHostsFile={keys}/known_hosts" in env["GIT_SSH_COMMAND"]
    assert "KEY" not in str(env)
    clone.credentials(keys, frozenset(), tmp_path)  # again, after a restart


def test_a_deploy_key_clones_over_ssh(server: GitServer, lib: str, tmp_path: Path) -> None:
    with ssh_server(server.root, "127.0.0.1") as ssh:
        key = {"ssh__privatekey": ssh.private_key, "known_hosts": ssh.known_hosts}
        cloned(planned((ssh.url("org/lib"), lib)), tmp_path, secret(tmp_path / "git", **key))
        assert (tmp_path / "workspace/lib/lib.py").read_text() == "x = 1\n"
        other = {**key, "known_hosts": ssh.known_hosts.replace("AAAA", "AAAB")}
        stranger = tmp_path / "stranger"
        stranger.mkdir()
        cloned(planned((ssh.url("org/lib"), lib)), stranger, secret(stranger / "git", **other))
        assert "ost key" in failure(stranger)


# -- submodules ----------------------------------------------------------------------------


def test_submodules_come_at_their_recorded_commits(
    server: GitServer, lib: str, tmp_path: Path
) -> None:
    server.add_repo("org/lib", {"lib.py": "x = 2\n"})
    server.add_repo("org/middle", {"middle.py": ""})
    middle = server.add_submodule("org/middle", "deps/lib", "../lib", lib)
    server.add_repo("org/top", {"top.py": ""})
    server.add_submodule("org/top", "not wanted", "../nowhere", lib, "update = none")
    top = server.add_submodule("org/top", "middle", server.url("org/middle"), middle)
    git.clone(server.url("org/top"), top, tmp_path / "top", 60)
    assert (tmp_path / "top/middle/deps/lib/lib.py").read_text() == "x = 1\n"
    assert list((tmp_path / "top/not wanted").iterdir()) == []
    status = server.git(tmp_path / "top", "status", "--porcelain")
    assert status == ""
    origin = server.git(tmp_path / "top/middle/deps/lib", "remote", "get-url", "origin")
    assert origin == server.url("org/lib")


@pytest.mark.parametrize(
    "url",
    [
        "ext::sh -c touch% /tmp/owned",
        "file:///etc",
        "/etc",
        "http://example.org/a/b",
        "../../../..",
    ],
)
def test_a_submodule_s_url_is_checked_too(
    server: GitServer, lib: str, tmp_path: Path, url: str
) -> None:
    name = f"org/evil{sha256(url.encode()).hexdigest()[:8]}"
    server.add_repo(name, {"x": ""})
    commit = server.add_submodule(name, "part", url, lib)
    with pytest.raises(UsageError, match=rf"The submodule 'part' of .*{name} .* is refused"):
        git.clone(server.url(name), commit, tmp_path / "evil", 60)
    assert not (tmp_path / "evil").exists()


def test_submodules_end_somewhere(server: GitServer, tmp_path: Path) -> None:
    commit = server.add_repo("org/deep0", {"x": ""})
    for level in range(1, 12):
        server.add_repo(f"org/deep{level}", {"x": ""})
        commit = server.add_submodule(f"org/deep{level}", "in", f"../deep{level - 1}", commit)
    with pytest.raises(UsageError, match="levels deep"):
        git.clone(server.url("org/deep11"), commit, tmp_path / "deep", 60)


@pytest.mark.parametrize(
    ("base", "url", "full"),
    [
        ("https://h/org/a", "../b", "https://h/org/b"),
        ("https://h/org/a/", "../../x/b.git", "https://h/x/b.git"),
        ("https://h/org/a", "./b", "https://h/org/a/b"),
        ("git@h:org/a", "../b", "git@h:org/b"),
        ("git@h:a", "../b", "git@h:b"),
        ("https://h/a", "ssh://git@h/b", "ssh://git@h/b"),
    ],
)
def test_relative_urls(base: str, url: str, full: str) -> None:
    assert git._relative(base, url) == full


def test_the_server_answers_git_s_question(server: GitServer, lib: str, tmp_path: Path) -> None:
    """The script says nothing to questions that it was not made for."""
    env = clone.credentials(secret(tmp_path / "git", token=TOKEN), frozenset({"h:1"}), tmp_path)

    def asked(question: str) -> str:
        done = subprocess.run([env["GIT_ASKPASS"], question], capture_output=True, text=True)
        return done.stdout.strip()

    assert asked("Username for 'https://h:1': ") == "x-access-token"
    assert asked("Password for 'https://x-access-token@h:1': ") == TOKEN
    assert asked("Password for 'https://x-access-token@h:2': ") == ""
    assert asked("Password for 'https://x-access-token@h:1.evil': ") == ""
