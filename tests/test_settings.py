from __future__ import annotations

from pathlib import Path

import pytest

from runner.errors import ConfigError, UsageError
from runner.settings import GPU_CLASSES, PRICES, load_settings, settings_file


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A home and working directory with no settings, and none in the environment."""
    for name in ("XDG_CONFIG_HOME", "XDG_STATE_HOME", "RUNNER_SETTINGS"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path


def refusal() -> str:
    with pytest.raises(UsageError) as caught:
        load_settings()
    return str(caught.value)


def test_defaults(home: Path) -> None:
    settings = load_settings()
    assert settings_file() is None
    assert (settings.backend, settings.runs) == ("local", "runs")
    assert settings.state_dir.is_relative_to(home)
    assert (settings.deadlines.prepare, settings.deadlines.start) == (1800, 120)
    assert settings.gpu_classes == GPU_CLASSES
    assert settings.prices == PRICES


def test_sources_in_order(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    user = home / ".config/runner/settings.toml"
    user.parent.mkdir(parents=True)
    user.write_text('runs = "user"\n')
    assert load_settings().runs == "user"
    Path("runner.toml").write_text('runs = "here"\n[deadlines]\nprepare = "5m"\n')
    assert load_settings().runs == "here"
    (home / "named.toml").write_text('runs = "named"\n[deadlines]\nprepare = "5m"\n')
    monkeypatch.setenv("RUNNER_SETTINGS", str(home / "named.toml"))
    assert load_settings().runs == "named"
    monkeypatch.setenv("RUNNER_RUNS", "environment")
    monkeypatch.setenv("RUNNER_DEADLINES__START", "90s")
    assert load_settings().runs == "environment"
    assert load_settings().deadlines.model_dump() == {"prepare": 300, "start": 90}
    assert load_settings(runs="given").runs == "given"


def test_what_is_given_joins_the_defaults(monkeypatch: pytest.MonkeyPatch) -> None:
    Path("runner.toml").write_text(
        '[prices."in-house"]\ninput = 0\noutput = 0\ncache_read = 0\ncache_write = 0\n'
        '[gpu_classes]\nA100 = ["NVIDIA-A100-PCIE-40GB"]\n[volumes]\nweights = "~/weights"\n'
    )
    monkeypatch.setenv("RUNNER_VOLUMES__DATA", "/data")
    settings = load_settings()
    assert settings.price("in-house-7b") is not None
    assert settings.price("claude-sonnet-5-5") is not None
    assert settings.gpu_classes["A100"] == ("NVIDIA-A100-PCIE-40GB",)
    assert settings.gpu_classes["H100"] == GPU_CLASSES["H100"]
    assert settings.volumes == {"weights": Path.home() / "weights", "data": Path("/data")}


def test_other_variables_of_the_prefix_are_not_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_TEMP", "/tmp/ci")  # a CI's own
    assert load_settings().runs == "runs"


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (
            'backnd = "local"',
            "backnd: expected a known key\n  → Did you mean `backend`",
        ),
        ('prepare = "1m"', "`prepare` belongs in [deadlines]."),
        ("[deadlines]\nstrat = 1", "deadlines.strat: expected a known key of [deadlines]"),
        ("[deadlines]\nstart = 0", "deadlines.start: expected a duration above 0"),
        ('backend = "modal"', "backend: expected 'local', 'docker' or 'kubernetes', found 'modal'"),
        ('runs = "s3://bucket/runs"', "runs: expected a directory of this machine, found `s3://`"),
        ('volumes = { data = "data" }', "volumes.data: expected an absolute path"),
        ('volumes = { "Da ta" = "/data" }', "volumes: expected names of lower case letters"),
        ("[prices.x]\ninput = 1", "prices.x.output: expected a value, found none"),
        ("[prices.x]\ninput = -1\noutput=1\ncache_read=1\ncache_write=1", "0 or more, found -1"),
        ('gpu_classes = { A = "B" }', "gpu_classes.A: expected a list, found 'B'"),
        ("backend =", "runner.toml: end of document: expected TOML"),
        ("images = [{}]", "images: expected a known key"),
    ],
)
def test_wrong_files(text: str, words: str) -> None:
    Path("runner.toml").write_text(text)
    assert words in refusal()


def test_wrong_places(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RUNNER_SETTINGS", str(home / "nope.toml"))
    assert "There is no settings file at" in refusal()
    monkeypatch.setenv("RUNNER_SETTINGS", str(home))
    assert "is a directory" in refusal()
    monkeypatch.delenv("RUNNER_SETTINGS")
    monkeypatch.setenv("RUNNER_DEADLINES__START", "soon")
    assert refusal().startswith("environment (RUNNER_DEADLINES__START): deadlines.start: expected")
    monkeypatch.delenv("RUNNER_DEADLINES__START")
    monkeypatch.setenv("RUNNER_VOLUMES", "{")
    assert "environment" in refusal()
    monkeypatch.delenv("RUNNER_VOLUMES")
    with pytest.raises(ConfigError, match="command line: backend: "):
        load_settings(backend="modal")


@pytest.mark.parametrize(
    ("model", "input_price"),
    [
        ("claude-sonnet-5-5", 2),
        ("claude-sonnet-5-20260101", 2),
        ("claude-sonnet-4-5-20250929", 3),
        ("claude-opus-4-20250514", 15),
        ("claude-opus-4-1", 15),
        ("claude-opus-4-8", 5),
        ("claude-opus-51", None),
        ("llama", None),
    ],
)
def test_the_longest_beginning_gives_the_price(model: str, input_price: float | None) -> None:
    price = load_settings().price(model)
    assert (price.input if price else None) == input_price


def test_cost() -> None:
    usage = {
        "input_tokens": 1_000_000,
        "output_tokens": 100_000,
        "cache_read_input_tokens": 2_000_000,
        "cache_creation_input_tokens": 400_000,
    }
    assert PRICES["claude-opus-5-5"].cost(usage) == pytest.approx(4 + 2 + 0.4 + 2)
    haiku = PRICES["claude-haiku-5-5"]
    assert haiku.cost({"input_tokens": 100_000}) == pytest.approx(0.01)
    assert haiku.cost({"input_tokens": 50_000, "cache_read_input_tokens": 50_001}) == pytest.approx(
        5 * (0.005 + 0.00050001)
    )
    assert haiku.cost({"input_tokens": 0, "cache_read_input_tokens": None}) == 0  # type: ignore[dict-item]
