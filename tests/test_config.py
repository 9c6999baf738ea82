from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from pydantic import ValidationError

from runner.config.experiment import Experiment
from runner.config.load import load, parse
from runner.config.parts import RepoConfig
from runner.config.quantities import amount, seconds
from runner.config.sandbox import SandboxConfig
from runner.errors import ConfigError, UsageError

MINIMAL = 'name = "x"\ntask = "Look at the data."\n'

EVERY_FIELD = """
name = "checkpoint-diffing"
task = "task.md"
score = "score.py"

[sandbox]
gpu = ["H100", "A100-80GB"]
gpu_count = 2
image = "interp"
execution_mode = "cli"
repos = ["nickjiang2378/interp_embed", { url = "git@host:a/b", ref = "v1", install = true }]
system_packages = ["git"]
python_packages = ["torch", "pandas>=2"]
notebook_packages = ["matplotlib", "torch"]
python_version = "3.12"
network = "none"
env = { HF_TOKENS = "many" }
cpu = "1500m"
memory = "16Gi"
disk = "100G"
volumes = [{ name = "weights", path = "weights", read_only = true }]
local_files = ["prompts.csv", ["prompts.csv", "/workspace/data/again.csv"]]
local_dirs = [["data", "corpus"]]
secrets = ["HF_TOKEN"]
timeout = "2h"
idle_timeout = 600
gpu_idle_timeout = "1h"
queue = "team"
priority = "low"
on_disruption = "fail"
docker_in_docker = true
debug = true
encrypted_ports = [8080]
jupyter_port = 8888
models = [
  "google/gemma-2-9b-it",
  { name = "a/b", revision = "v1", secret = "HUB_TOKEN" },
  { name = "a/b", var_name = "n", is_peft = true, base_model = "c/d" },
]

[workspace]
libraries = ["client.py"]

[agent]
model = "claude-sonnet-4-5"
base_url = "https://gateway.example.org/"
max_turns = 10
max_tokens = 100000
max_cost_usd = 25
llm_secret = "TEAM_KEY"
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "task.md").write_text("Compare the two.\n")
    (tmp_path / "score.py").write_text("print({})\n")
    (tmp_path / "client.py").write_text("x = 1\n")
    (tmp_path / "prompts.csv").write_text("a,b\n")
    (tmp_path / "steps.json").write_text("{}")
    (tmp_path / "data/inner").mkdir(parents=True)
    (tmp_path / "data/inner/a.txt").write_text("a")
    return tmp_path


def written(folder: Path, text: str) -> Path:
    path = folder / "experiment.toml"
    path.write_text(text)
    return path


def sandbox(**fields: Any) -> dict[str, Any]:
    return {"name": "x", "task": "Do it.", "sandbox": fields}


def problem(data: dict[str, Any], folder: Path | None = None) -> ConfigError:
    with pytest.raises(ConfigError) as caught:
        parse(data, folder=folder, file="e.toml")
    assert caught.value.exit_status == 2
    return caught.value


def test_every_field(folder: Path) -> None:
    made = load(written(folder, EVERY_FIELD))
    box = made.sandbox
    assert made.task == "Compare the two.\n"
    assert made.score == folder / "score.py"
    assert box.gpu == ("H100", "A100-80GB")
    assert box.repos[0].url == "https://github.com/nickjiang2378/interp_embed"
    assert [repo.name for repo in box.repos] == ["interp_embed", "b"]
    assert box.packages == ("torch", "pandas>=2", "matplotlib")
    assert (box.cores, box.memory_bytes, box.disk_bytes) == (1.5, 16 * 1024**3, 100 * 10**9)
    assert [f.path for f in box.local_files] == ["prompts.csv", "data/again.csv"]
    assert box.local_dirs[0].source == folder / "data"
    assert (box.timeout, box.idle_timeout) == (7200, 600)
    assert made.workspace.libraries == (folder / "client.py",)
    assert made.secrets == ("HF_TOKEN", "HUB_TOKEN", "TEAM_KEY")
    assert [(m.name, m.revision) for m in box.models[:2]] == [
        ("google/gemma-2-9b-it", None),
        ("a/b", "v1"),
    ]
    assert made.agent.base_url == "https://gateway.example.org"
    given = set(box.model_fields_set) | {"python_packages"}
    assert given == set(SandboxConfig.model_fields), "the example above has every field"


def test_a_plan_read_back_needs_none_of_the_files(folder: Path) -> None:
    made = load(written(folder, EVERY_FIELD))
    for name in ("task.md", "score.py", "client.py", "prompts.csv"):
        (folder / name).unlink()
    assert Experiment.model_validate_json(made.model_dump_json()) == made
    assert Experiment.model_validate(made.model_dump(mode="json")) == made


def test_defaults(folder: Path) -> None:
    made = load(written(folder, MINIMAL))
    assert (made.sandbox.timeout, made.sandbox.idle_timeout) == (3600, 900)
    assert made.sandbox.execution_mode == "notebook"
    assert (made.agent.provider, made.agent.llm_secret) == ("anthropic", "ANTHROPIC_API_KEY")
    assert made.agent.model
    assert made.secrets == ("ANTHROPIC_API_KEY",)


def test_scripted_agents(folder: Path) -> None:
    text = MINIMAL + '[agent]\nprovider = "scripted"\nscript = "steps.json"\n'
    path = written(folder, text)
    made = load(path)
    assert made.agent.script == folder / "steps.json"
    assert (made.agent.model, made.secrets) == (None, ())
    real = {"agent.provider": "anthropic", "agent.script": None, "agent.model": "claude-x"}
    assert load(path, real).agent.model == "claude-x"
    with pytest.raises(ConfigError, match=r"expected no such key beside.*found `model`"):
        load(path, {"agent.model": "claude-x"})
    with pytest.raises(ConfigError, match="expected `script` beside"):
        load(path, {"agent.script": None})
    with pytest.raises(ConfigError, match='"scripted"` beside `script`'):
        load(path, {"agent.provider": "anthropic"})


def test_python_has_the_same_models() -> None:
    box = SandboxConfig(gpu="A100", timeout=7200, repos=["org/name"], local_files=[("a", "b")])  # type: ignore[arg-type, list-item]
    assert box.gpu == ("A100",)
    assert box.repos == (RepoConfig(url="https://github.com/org/name"),)
    assert box.local_files[0].path == "b"
    with pytest.raises(ValidationError, match="a duration above 0"):
        SandboxConfig(timeout="abcd")  # type: ignore[arg-type]
    with pytest.raises(ValidationError) as caught:
        SandboxConfig(secrets=("sk-ant-123456789",))
    assert "sk-ant" not in str(caught.value)


@pytest.mark.parametrize(
    ("value", "result"),
    [
        (7200, 7200),
        (1.5, 1.5),
        ("2h", 7200),
        ("90m", 5400),
        ("1h30m", 5400),
        ("2d", 172800),
        ("45s", 45),
        (" 1h 30m ", 5400),
        ("0.5h", 1800),
        ("1d2h3m4s", 93784),
    ],
)
def test_durations(value: Any, result: float) -> None:
    assert seconds(value) == result
    assert parse(sandbox(timeout=value), folder=None).sandbox.timeout == result


@pytest.mark.parametrize(
    "value",
    [
        0,
        -1,
        0.0,
        True,
        False,
        float("inf"),
        float("nan"),
        "abcd",
        "",
        " ",
        "0h",
        "-1h",
        "2 hours",
        "7200",
        "1m1h",
        "inf",
        [],
        {},
        "1" * 400 + "d",
        "２h",
        10**400,
        "400d",
    ],
)
def test_durations_that_are_none(value: Any) -> None:
    for key in ("timeout", "idle_timeout", "gpu_idle_timeout"):
        error = problem(sandbox(gpu="A100", **{key: value}))
        assert error.key == f"sandbox.{key}"
        assert error.expected.startswith("a duration above 0")


@given(st.integers(1, 300), st.integers(0, 23), st.integers(0, 59))
def test_durations_add_up(days: int, hours: int, minutes: int) -> None:
    assert seconds(f"{days}d{hours}h{minutes}m") == days * 86400 + hours * 3600 + minutes * 60


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("16Gi", 16 * 1024**3),
        ("500M", 500_000_000),
        ("1Ki", 1024),
        ("1e3", 1000),
        ("2", 2),
        ("1.5Gi", 1610612736),
        (".5", 0.5),
        ("1E", 10**18),
        ("1Ei", 1024**6),
        ("100k", 100_000),
    ],
)
def test_quantities(text: str, number: float) -> None:
    assert amount(text) == number


@pytest.mark.parametrize("value", ["16GB", "16 Gi", "-1Gi", "0", "", "Gi", True, [], "500m", "1Mb"])
def test_sizes_that_are_none(value: Any) -> None:
    for key in ("memory", "disk"):
        assert problem(sandbox(**{key: value})).key == f"sandbox.{key}"


def test_a_size_in_thousandths_is_a_slip() -> None:
    assert "write M or Mi" in problem(sandbox(memory="500m")).hint


def test_cpu() -> None:
    assert SandboxConfig(cpu=2).cores == 2  # type: ignore[arg-type]
    assert SandboxConfig(cpu="500m").cores == 0.5
    assert problem(sandbox(cpu="many")).key == "sandbox.cpu"


@pytest.mark.parametrize(
    ("data", "key", "hint"),
    [
        ({"taks": "y"}, "taks", "Did you mean `task`?"),
        ({"gpu": "A100"}, "gpu", "`gpu` belongs in [sandbox]."),
        ({"libraries": []}, "libraries", "`libraries` belongs in [workspace]."),
        ({"sandbox": {"gpus": "A"}}, "sandbox.gpus", "Did you mean `gpu`?"),
        ({"sandbox": {"pythn_packages": []}}, "sandbox.pythn_packages", "`python_packages`"),
        ({"sandbox": {"max_turns": 1}}, "sandbox.max_turns", "`max_turns` belongs in [agent]."),
        ({"sandbox": {"task": "x"}}, "sandbox.task", "belongs in the top level"),
        ({"agent": {"max_restarts": 3}}, "agent.max_restarts", "Did you mean"),
        ({"sandbox": {"repos": [{"uri": "a/b"}]}}, "sandbox.repos[0].uri", "Did you mean `url`?"),
        ({"agent": {"zzzz": 1}}, "agent.zzzz", "Keys here: provider, model"),
    ],
)
def test_unknown_keys_name_the_nearest(data: dict[str, Any], key: str, hint: str) -> None:
    error = problem({"name": "x", "task": "Do it.", **data})
    assert error.key == key
    assert "known key" in error.expected
    assert hint in str(error)


@pytest.mark.parametrize(
    ("name", "offer"),
    [
        ("a" * 300, "a" * 40),
        ("Übung", "ubung"),
        ("a/b", "a-b"),
        ("..", "experiment"),
        ("ABC", "abc"),
        ("", "experiment"),
        ("a b", "a-b"),
    ],
)
def test_names_that_are_refused(name: str, offer: str) -> None:
    error = problem({"name": name, "task": "Do it."})
    assert (error.key, error.hint) == ("name", f"`{offer}` would do.")
    assert len(str(error)) < 300


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"gpu": 3}, "sandbox.gpu", "a list"),
        ({"gpu": "A100:2"}, "sandbox.gpu[0]", "gpu_count = 2"),
        ({"gpu": ["A100", "A100"]}, "sandbox.gpu", "'A100' twice"),
        ({"gpu_count": 2}, "sandbox", "`gpu` beside `gpu_count`"),
        ({"gpu_idle_timeout": "1h"}, "sandbox", "`gpu` beside `gpu_idle_timeout`"),
        ({"gpu": "A100", "gpu_count": 0}, "sandbox.gpu_count", "1 or more, found 0"),
        ({"gpu": "A100", "gpu_count": "2"}, "sandbox.gpu_count", "a whole number, found '2'"),
        ({"debug": "yes"}, "sandbox.debug", "true or false, found 'yes'"),
        ({"execution_mode": "shell"}, "sandbox.execution_mode", "'notebook' or 'cli'"),
        ({"repos": ["file:///etc"]}, "sandbox.repos[0].url", "`file://` is not accepted"),
        ({"repos": ["ext::sh -c id"]}, "sandbox.repos[0].url", "another program"),
        ({"repos": ["--upload-pack=id"]}, "sandbox.repos[0].url", "option"),
        ({"repos": [{"url": "a/b", "ref": "--x"}]}, "sandbox.repos[0].ref", "option"),
        ({"repos": [{"url": "a/b", "dockerfile": "D"}]}, "sandbox.repos[0]", "`dockerfile`"),
        ({"repos": ["a/b", "c/b"]}, "sandbox", "'b' in repos and 'b' in repos"),
        ({"repos": ["a/outputs"]}, "sandbox", "outputs/"),
        ({"repos": ["a/b"], "local_files": [["prompts.csv", "b/x"]]}, "sandbox", "of its own"),
        ({"repos": ["a/b"], "local_dirs": [["data", "b/x/y"]]}, "sandbox", "of its own"),
        (
            {"repos": ["a/b"], "volumes": [{"name": "v", "path": "b/models"}]},
            "sandbox",
            "'b/models' in volumes and 'b' in repos",
        ),
        (
            {"local_files": [["prompts.csv", "a"], ["prompts.csv", "a/b"]]},
            "sandbox",
            "'a/b' in local_files and 'a' in local_files",
        ),
        ({"repos": "a/b"}, "sandbox.repos", "a list"),
        ({"python_packages": ["--index-url=x"]}, "sandbox.python_packages[0]", "option"),
        ({"python_packages": ["../x"]}, "sandbox.python_packages[0]", "package name"),
        ({"system_packages": ["-y"]}, "sandbox.system_packages[0]", "Debian"),
        ({"python_version": 3.11}, "sandbox.python_version", "text in quotes, found 3.11"),
        ({"python_version": "2.7"}, "sandbox.python_version", 'from "3.10" on'),
        ({"env": {"A B": "x"}}, "sandbox.env", "names of letters"),
        ({"env": {"A": 1}}, "sandbox.env.A", "text in quotes"),
        ({"env": {"K": "v"}, "secrets": ["K"]}, "sandbox", "K in both"),
        ({"volumes": [{"name": "w", "path": "../x"}]}, "sandbox.volumes[0].path", "inside"),
        ({"volumes": [{"name": "w"}]}, "sandbox.volumes[0].path", "a value, found none"),
        ({"models": ["../a"]}, "sandbox.models[0].name", '"org/name"'),
        ({"models": ["a/b.git"]}, "sandbox.models[0].name", '"org/name"'),
        ({"models": ["a-/b"]}, "sandbox.models[0].name", '"org/name"'),
        ({"models": ["a/b/c"]}, "sandbox.models[0].name", '"org/name"'),
        ({"models": ["--token/x"]}, "sandbox.models[0].name", '"org/name"'),
        ({"models": [{"name": "a", "var_name": "no name"}]}, "sandbox.models[0].var_name", "varia"),
        (
            {"models": [{"name": "a", "var_name": "class"}]},
            "sandbox.models[0].var_name",
            "variable",
        ),
        ({"models": [{"name": "a", "hidden": True}]}, "sandbox.models[0]", "`var_name` beside"),
        (
            {"models": [{"name": "a", "var_name": "m", "is_peft": True}]},
            "sandbox.models[0]",
            "`is_peft = true` and `base_model` together",
        ),
        (
            {"models": [{"name": "a", "var_name": "m", "load_as_peft": True}]},
            "sandbox.models[0]",
            "`is_peft = true` beside",
        ),
        (
            {"models": [{"name": "a", "var_name": "m"}, {"name": "b", "var_name": "m"}]},
            "sandbox",
            "'m' twice",
        ),
        (
            {
                "models": [
                    {"name": "a", "var_name": "model"},
                    {"name": "b", "var_name": "tokenizer"},
                ]
            },
            "sandbox",
            "'tokenizer' twice",
        ),
        ({"models": [{"name": "a", "revision": "-x"}]}, "sandbox.models[0].revision", "option"),
        ({"models": [{"name": "a", "secret": "hf_x"}]}, "sandbox.models[0].secret", "HF_TOKEN"),
        ({"models": ["a/b", "a/b"]}, "sandbox", "'a/b' twice"),
        ({"models": ["a/b", {"name": "a/b", "revision": "main"}]}, "sandbox", "'a/b' twice"),
        (
            {"models": ["a/b"], "volumes": [{"name": "v", "path": "/workspace/.cache"}]},
            "sandbox",
            "'.cache' in models",
        ),
        ({"models": ["a/b"], "env": {"HF_HOME": "/x"}}, "sandbox", "HF_HOME in `env`"),
        ({"jupyter_port": 80}, "sandbox.jupyter_port", "1024 or more"),
        ({"jupyter_port": 70000}, "sandbox.jupyter_port", "65535 or less"),
        ({"on_disruption": "retry"}, "sandbox.on_disruption", "'resume' or 'fail'"),
        ({"local_files": [["a"]]}, "sandbox.local_files[0]", "a pair"),
        ({"local_files": [["a", "../b"]]}, "sandbox.local_files[0].path", "inside"),
        ({"local_files": [["a", "/etc/b"]]}, "sandbox.local_files[0].path", "inside"),
        ({"local_files": [["a", "x/../../b"]]}, "sandbox.local_files[0].path", "inside"),
        ({"local_files": [["a", "/workspace/../b"]]}, "sandbox.local_files[0].path", "inside"),
        ({"local_dirs": [["a", "."]]}, "sandbox.local_dirs[0].path", "Name the file"),
        ({"local_dirs": [["a", "/workspace"]]}, "sandbox.local_dirs[0].path", "Name the file"),
        (
            {"local_files": [["a", "v/b"]], "volumes": [{"name": "v", "path": "v"}]},
            "sandbox",
            "own",
        ),
    ],
)
def test_sandbox_fields_that_are_refused(fields: dict[str, Any], key: str, words: str) -> None:
    error = problem(sandbox(**fields))
    assert error.key == key
    assert words in str(error)


@pytest.mark.parametrize("value", ["sk-ant-secret", "KEY=value", "hf_abc", "A B", "A" * 65, ""])
def test_a_secret_s_value_is_never_repeated(value: str) -> None:
    for data in (
        sandbox(secrets=[value]),
        {"name": "x", "task": "t", "agent": {"llm_secret": value}},
    ):
        if value or "sandbox" in data:
            error = problem(data)
            assert not value or value not in str(error)
            assert "name of a secret" in error.expected


def test_values_that_look_like_secrets_are_not_shown_anywhere() -> None:
    key = "sk-ant-api03-abcdefgh"
    for data in (sandbox(gpu_count=key), sandbox(image=1, python_version=key)):
        assert key not in str(problem(data))
    url = "https://me:hunter2@example.org/a/b"
    assert "hunter2" not in str(problem(sandbox(repos=[url])))
    assert "hunter2" not in str(problem({"name": "x", "task": "t", "agent": {"base_url": url}}))


@pytest.mark.parametrize(
    ("fields", "key", "words"),
    [
        ({"provider": "openai"}, "agent.provider", '"anthropic" or "scripted" or "none"'),
        ({"max_turns": 0}, "agent.max_turns", "1 or more"),
        ({"max_turns": True}, "agent.max_turns", "a whole number, found true"),
        ({"max_cost_usd": "5"}, "agent.max_cost_usd", "a number"),
        ({"max_cost_usd": float("inf")}, "agent.max_cost_usd", "finite"),
        ({"max_cost_usd": -1}, "agent.max_cost_usd", "above 0"),
        ({"base_url": "example.org"}, "agent.base_url", "https://"),
    ],
)
def test_agent_fields_that_are_refused(fields: dict[str, Any], key: str, words: str) -> None:
    error = problem({"name": "x", "task": "Do it.", "agent": fields})
    assert error.key == key
    assert words in str(error)


def test_all_problems_are_told(folder: Path) -> None:
    path = written(folder, 'name = "X"\ntask = "nope.md"\n[sandbox]\ngpus = 1\ntimeout = -1\n')
    with pytest.raises(ConfigError) as caught:
        load(path)
    lines = str(caught.value).splitlines()
    assert len(lines) == 4
    assert all(str(path) in line for line in lines)
    for key in ("sandbox.gpus", "name", "task", "sandbox.timeout"):
        assert sum(f": {key}: expected" in line for line in lines) == 1


def test_overrides(folder: Path) -> None:
    path = written(folder, EVERY_FIELD)
    no_gpu = {"sandbox.gpu": None, "sandbox.gpu_count": 1, "sandbox.gpu_idle_timeout": None}
    made = load(path, {"agent.max_turns": 3, **no_gpu})
    assert made.agent.max_turns == 3
    assert made.sandbox.gpu == ()
    with pytest.raises(ConfigError, match=r"^command line: sandbox\.timeout: "):
        load(path, {"sandbox.timeout": "soon"})


def test_the_task_is_text_or_a_file(folder: Path) -> None:
    def task(text: str) -> str:
        return parse({"name": "x", "task": text}, folder=folder).task

    assert task("Look at data.csv.") == "Look at data.csv."
    assert task("Look.\nThen see task.md") == "Look.\nThen see task.md"
    assert task("task.md") == task("./task.md") == task(str(folder / "task.md"))
    (folder / "my task.md").write_text("Two words.")
    assert task("my task.md") == "Two words."
    for text, words in {
        "nope.md": f"{folder / 'nope.md'}, found no such file",
        "data/": "is a directory",
        "": "what the agent is to do",
        " \n": "what the agent is to do",
    }.items():
        assert words in str(problem({"name": "x", "task": text}, folder))
    (folder / "binary.md").write_bytes(b"\xff\xfe\x00")
    assert "UTF-8" in str(problem({"name": "x", "task": "binary.md"}, folder))
    (folder / "empty.md").write_text("\n")
    assert "nothing in" in str(problem({"name": "x", "task": "empty.md"}, folder))


@pytest.mark.parametrize(
    ("data", "key", "words"),
    [
        ({"score": "nope.py"}, "score", "no such file"),
        ({"score": "data"}, "score", "found a directory"),
        ({"workspace": {"libraries": ["nope.py"]}}, "workspace.libraries[0]", "no such file"),
        ({"workspace": {"libraries": ["my-lib.py"]}}, "workspace.libraries[0]", "can import"),
        ({"workspace": {"libraries": ["client.py", "data/client.py"]}}, "workspace", ""),
        ({"sandbox": {"local_files": ["nope.csv"]}}, "sandbox.local_files[0].source", "no such"),
        ({"sandbox": {"local_files": ["data"]}}, "sandbox.local_files[0].source", "a directory"),
        ({"sandbox": {"local_dirs": ["task.md"]}}, "sandbox.local_dirs[0].source", "not a dir"),
        ({"agent": {"provider": "scripted", "script": "x.json"}}, "agent.script", "no such file"),
    ],
)
def test_files_that_are_not_there(folder: Path, data: dict[str, Any], key: str, words: str) -> None:
    error = problem({"name": "x", "task": "Do it.", **data}, folder)
    assert error.key.startswith(key)
    assert words in str(error)


def test_directories_that_reach_outside(folder: Path) -> None:
    (folder / "data/fine").symlink_to("inner/a.txt")
    data = {"name": "x", "task": "Do it.", "sandbox": {"local_dirs": ["data"]}}
    parse(data, folder=folder)
    (folder / "data/inner/out").symlink_to(folder / "task.md")
    assert "symlinks that stay inside" in str(problem(data, folder))
    (folder / "data/inner/out").unlink()
    (folder / "data/inner/out").symlink_to("../..")
    assert "symlinks that stay inside" in str(problem(data, folder))
    (folder / "data/inner/out").unlink()
    os.mkfifo(folder / "data/pipe")
    assert "neither" in str(problem(data, folder))


def test_too_much_to_copy(folder: Path) -> None:
    with (folder / "data/huge").open("wb") as stream:
        stream.truncate(2 * 1024**3)
    error = problem({"name": "x", "task": "Do it.", "sandbox": {"local_dirs": ["data"]}}, folder)
    assert "at most 1024 MiB" in str(error)
    assert "sandbox.volumes" in str(error)


def test_files_that_are_no_toml(folder: Path) -> None:
    def refusal(path: Path) -> str:
        with pytest.raises(UsageError) as caught:
            load(path)
        assert caught.value.exit_status == 2
        return str(caught.value)

    path = written(folder, 'name = "x"\ntask "y"\n')
    assert f"{path}: line 2, column 6: expected TOML, found Expected '='" in refusal(path)
    assert "expected TOML" in refusal(written(folder, 'name = "x\n'))
    assert "experiment.toml" in refusal(folder / "nope.toml")
    assert "is a directory" in refusal(folder)
    assert "Name a file in it: experiment.toml" in refusal(folder)
    (folder / "b.toml").write_bytes(b"\x7fELF\x00\x00")
    assert "binary file" in refusal(folder / "b.toml")
    (folder / "l.toml").write_bytes(b'name = "x"\ntask = "\xe4"\n')
    assert "line 2: expected text in UTF-8" in refusal(folder / "l.toml")
    (folder / "h.toml").write_bytes(b"#" * (2 * 1024**2))
    assert "larger than 1 MiB" in refusal(folder / "h.toml")
    os.mkfifo(folder / "p.toml")
    assert "not an ordinary file" in refusal(folder / "p.toml")
    assert "expected a value" in refusal(written(folder, ""))
    assert "cannot be read" in refusal(folder / "experiment.toml" / "x")
    assert "a table" in refusal(written(folder, MINIMAL + "sandbox = 3\n"))


@pytest.mark.skipif(os.geteuid() == 0, reason="root reads everything")
def test_a_file_that_may_not_be_read(folder: Path) -> None:
    path = written(folder, MINIMAL)
    path.chmod(0)
    with pytest.raises(UsageError, match="cannot be read: Permission denied"):
        load(path)


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=50),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=9), inner),
    max_leaves=6,
)
_KEYS = st.sampled_from([*SandboxConfig.model_fields, "unknown"])


@given(st.dictionaries(_KEYS, _VALUES, max_size=5))
def test_any_sandbox_is_accepted_or_refused_in_words(fields: dict[str, Any]) -> None:
    try:
        made = parse(sandbox(**fields), folder=None)
    except ConfigError as error:
        assert "expected" in str(error)
    else:
        assert Experiment.model_validate_json(made.model_dump_json()) == made
