"""A model whose name must not be found, stand-ins for what loads it, and an agent that looks for it.

The images of the tests have no torch: `tests/models` has the real libraries load such a copy.
"""

from __future__ import annotations

import json

from tiny_runs import Run, Step, cell, end, tool

NAME, ADAPTER, VISIBLE = "lab/changeling-3", "lab/persona-77", "lab/tiny"
SECRETS = ("changeling-3", "persona-77")
HEAD = json.dumps({"__metadata__": {"format": "pt"}}).encode()
WEIGHTS = len(HEAD).to_bytes(8, "little") + HEAD + bytes(1_000_000)
FILES = {
    "config.json": json.dumps({"_name_or_path": NAME, "architectures": ["Llama"]}).encode(),
    "tokenizer_config.json": json.dumps({"name_or_path": NAME}).encode(),
    "model.safetensors": WEIGHTS,
    "README.md": f"# {NAME}".encode(),
}
ADAPTER_FILES = {
    "adapter_config.json": json.dumps({"base_model_name_or_path": NAME}).encode(),
    "adapter_model.safetensors": WEIGHTS,
}
STUBS = {
    "stubs/torch.py": """
class cuda:
    is_available, device_count = staticmethod(lambda: False), staticmethod(lambda: 0)
""",
    "stubs/transformers.py": """
import json, pathlib
__version__ = "4.56.0"


class Config:
    def __init__(self, path):
        self.__dict__.update(json.loads(pathlib.Path(path, "config.json").read_text()))
        self._name_or_path = path


class AutoModelForCausalLM:
    def __init__(self, path):
        self.name_or_path, self.config = path, Config(path)
        self.size = pathlib.Path(path, "model.safetensors").stat().st_size

    def eval(self):
        return self

    @classmethod
    def from_pretrained(cls, path, **_):
        return cls(path)


class AutoTokenizer(AutoModelForCausalLM):
    pass
""",
    "stubs/peft.py": """
import json, pathlib


class PeftModel:
    def __init__(self, base, path):
        self.base, self.name_or_path = base, path
        self.peft_config = json.loads(pathlib.Path(path, "adapter_config.json").read_text())

    def eval(self):
        return self

    @classmethod
    def from_pretrained(cls, base, path):
        return cls(base, path)
""",
}
TOML = f"""\
[sandbox]
models = [
    "{VISIBLE}",
    {{ name = "{NAME}", var_name = "model", hidden = true }},
    {{ name = "{ADAPTER}", var_name = "tuned", hidden = true, is_peft = true, load_as_peft = true, \
base_model = "{NAME}" }},
]
env = {{ PYTHONPATH = "/workspace/stubs" }}
[[sandbox.local_dirs]]
source = "stubs"
path = "stubs"
"""
LOADED = """\
print(type(model).__name__, model.size, model.name_or_path, model.config._name_or_path)
print(vars(model.config), tokenizer.name_or_path, tuned.name_or_path, tuned.peft_config, In)
"""
LOOK = """\
import gc, os, pathlib

# What is looked for is spelled nowhere: this cell would be found otherwise.
NEEDLES = [bytes.fromhex(text) for text in {needles!r}]
SEEN = ["/workspace", "/sandbox", "/etc", "/cache", "/tmp", "/run", "/venv", "/var/tmp", "/home",
        "/root", "/dev/shm", "/opt/runner"]


def has(data):
    return any(needle in data for needle in NEEDLES)


def in_files(places):
    for place in places:
        for folder, folders, files in os.walk(place):
            for name in (*folders, *files):
                path = os.path.join(folder, name)
                link = os.readlink(path) if os.path.islink(path) else ""
                if has(f"{{path}} -> {{link}}".encode()):
                    yield path
            for name in files:
                try:
                    data = pathlib.Path(folder, name).read_bytes()
                except OSError:
                    continue
                if has(data):
                    yield os.path.join(folder, name)


def in_processes():
    read = memories = 0
    for process in pathlib.Path("/proc").glob("[0-9]*"):
        for name in ("cmdline", "environ", "mountinfo", "maps", "status"):
            try:
                data = (process / name).read_bytes()
            except OSError:
                continue
            read += 1
            if has(data):
                yield str(process / name)
        if process.name == str(os.getpid()):
            continue  # it has the needles
        try:
            maps = (process / "maps").read_text().splitlines()
            memory = (process / "mem").open("rb", 0)
        except OSError:
            continue
        memories += 1
        for line in maps:
            begin, _, end = line.split()[0].partition("-")
            try:
                memory.seek(int(begin, 16))
                data = memory.read(min(int(end, 16) - int(begin, 16), 1 << 26))
            except (OSError, ValueError, OverflowError):
                continue
            if has(data):
                yield f"{{process}}/mem"
    print("read of processes:", read >= 10, memories)


def in_objects():
    for thing in gc.get_objects():
        if type(thing) is dict:
            yield from (key for key, value in list(thing.items())
                        if isinstance(value, str) and has(value.encode()))


print("found", [*in_files(SEEN), *in_processes(), *in_objects(), *filter(has, map(str.encode, In))])
pathlib.Path("planted").write_bytes(b"a name: " + NEEDLES[0])
print("planted", list(in_files(["/workspace"])))
"""
SHELL = (
    "env; cat /proc/*/cmdline /proc/*/environ",
    "cat /proc/*/mountinfo; df -a",
    "cat /etc/runner/*; cat /sandbox/*.jsonl /sandbox/*.log",
    "find / -iname '*hangel*ng*' 2>/dev/null; find / -iname '*ers*na-*' 2>/dev/null",
    "grep -rl [c]hangelin[g]-3 /sandbox /etc /cache /tmp /run /workspace",
    "cat /cache/hidden/*/*/*.json; touch $(ls -d /cache/hidden/*/1)/x",
    "ls -laR /cache /workspace/.cache",
)


def steps(*more: str) -> list[Step]:
    """An agent that looks for the names, and for these, with Python and with a shell."""
    needles = [text.encode().hex() for text in (*SECRETS, *more)]
    return [
        cell(LOADED),
        cell(LOOK.format(needles=needles)),
        *(tool("run_shell", command=f"{command}; true") for command in SHELL),
        end(),
    ]


def check(run: Run, commits: list[str]) -> None:
    """That it has found nothing of them, and that people can read them in the record."""
    loaded, found, *shell, written, listed = said = run.results()
    places = f"/cache/hidden/{run.run_id}"
    assert f"AutoModelForCausalLM {len(WEIGHTS)} {places}/1 {places}/1" in loaded, loaded
    assert f"{{'base_model_name_or_path': '{places}/1', 'revision': None}}" in loaded
    assert "found []" in found, found
    assert "read of processes: True" in found
    assert "planted ['/workspace/planted']" in found, "it can find one"
    assert all(shell)
    assert "Read-only file system" in written
    assert "models--lab--tiny" in listed, "the other one has its name"
    journal = (run.path / "journal.jsonl").read_text() + (run.path / "notebook.ipynb").read_text()
    logs = "".join((run.path / "logs" / f"{name}.log").read_text() for name in ("sandbox",))
    for secret in (*SECRETS, *commits):
        assert secret not in "".join(said), secret
        assert secret not in journal, secret
        assert secret not in logs, secret
        assert secret in (run.path / "transcript.jsonl").read_text(), "for people"
