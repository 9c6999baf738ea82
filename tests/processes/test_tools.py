"""What a model can do with a session, on a real sandbox; and the words it gets."""

from __future__ import annotations

import base64
import io
import json
import re
from pathlib import Path

import pytest
from agent_parts import make_plan
from PIL import Image
from sandbox_process import sandbox, until

from runner.agent import tools as module
from runner.agent.prompt import system_prompt
from runner.agent.tools import Toolbox
from runner.config.sandbox import ExecutionMode
from runner.plan import PinnedModel
from runner.session import LostOperation, Result, Session

SECRET = "canary-value-0123456789"
RAN = re.compile(r"\[ok; \d+\.\d s; cell (\w+)\]")


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    top = tmp_path_factory.mktemp("sandbox")
    with sandbox(top, {"CANARY": SECRET}, secrets=["CANARY"]) as made:
        made.connected = made.session()
        yield made
        made.connected.close()


class Tried:
    """Calls tools and gives their text."""

    numbers = iter(range(1, 1000))

    def __init__(self, session, mode=ExecutionMode.NOTEBOOK, **options):
        self.toolbox = Toolbox(session, mode, **options)
        self.last = None

    def __call__(self, name, op="", is_error=False, **given):
        op = op or f"test-1-{next(self.numbers)}-1"
        self.last = self.toolbox.call(name, given, op)
        assert self.last.is_error == is_error, self.last
        return "\n".join(b.get("text", f"<{b['type']}>") for b in self.last.content)


@pytest.fixture
def tried(box):
    return Tried(box.connected)


@pytest.fixture
def cell(tried):
    """The id of a new cell."""

    def cell(source):
        return RAN.search(tried("run_cell", source=source))[1]

    return cell


# -- cells -------------------------------------------------------------------------------------


def test_a_cell_is_run_and_shown(tried):
    assert RAN.search(seen := tried("run_cell", source="print('hello')\n1 + 1"))
    assert seen.startswith("hello\n[result]\n2\n[ok;")


def test_a_cell_that_fails_is_an_error_with_its_traceback(tried):
    seen = tried("run_cell", source="1 / 0", is_error=True)
    assert "ZeroDivisionError: division by zero" in seen
    assert "\x1b" not in seen


def test_a_cell_goes_on_and_can_be_waited_for(tried, box):
    source = "print('begun', flush=True)\nopen('fifo').read()"
    tried("run_shell", command="mkfifo fifo")
    seen = tried("run_cell", op="long-1", source=source, timeout=0.3)
    assert 'still running: wait(execution="long-1")' in seen
    assert "still running" in tried("wait", execution="long-1", timeout=0.1)
    tried("run_shell", command="echo done > fifo")
    assert re.search(r"begun\n\[result\]\n'done\\n'\n\[ok;", tried("wait", execution="long-1"))


def test_a_cell_can_be_interrupted_and_its_variables_stay(tried):
    tried("run_cell", op="long-2", source="kept = 7\nimport time\ntime.sleep(60)", timeout=0.3)
    assert "interrupted" in tried("interrupt", execution="long-2")
    assert "interrupted" in tried("interrupt", execution="long-2"), "twice changes nothing"
    assert "7" in tried("run_cell", source="kept")


def test_a_command_can_be_interrupted(tried):
    tried("run_shell", op="long-3", command="sleep 60", timeout=0.2)
    assert "interrupted" in tried("interrupt", execution="long-3")


def test_a_wait_ends_when_the_caller_must_go_on(tried):
    asked = {"source": "import time\ntime.sleep(60)"}
    answer = tried.toolbox.call("run_cell", asked, "long-4", longest_s=0.2)
    assert "still running" in answer.content[-1]["text"]
    tried("interrupt", execution="long-4")


def test_edits_give_a_diff_and_do_not_run(tried, cell):
    it = cell("a = 1\nb = 2\nprint(a + b)")
    assert "-b = 2\n+b = 3" in tried("edit_cell", cell=it, old="b = 2", new="b = 3")
    assert RAN.search(seen := tried("run_existing_cell", cell=it))
    assert seen.startswith("4\n")
    assert "+print(9)" in tried("replace_cell", cell=it, source="print(9)")
    assert tried("delete_cell", cell=it).startswith(f"deleted cell {it}\n--- before")
    assert "there is no cell" in tried("run_existing_cell", cell=it, is_error=True)


@pytest.mark.parametrize(
    ("old", "words"), [("zz", "occurs 0 times"), ("x", "occurs 2 times"), ("", "at least 1")]
)
def test_an_edit_that_is_not_clear_is_refused(tried, cell, old, words):
    it = cell("x = 1\nx")
    assert words in tried("edit_cell", cell=it, old=old, new="y", is_error=True)


def test_a_running_cell_is_not_edited(tried):
    tried("run_cell", op="long-5", source="import time\ntime.sleep(60)", timeout=0.2)
    it = re.search(r"cell (\w+)\]", tried("wait", execution="long-5", timeout=0.1))[1]
    assert "interrupt it first" in tried("replace_cell", cell=it, source="1", is_error=True)
    tried("interrupt", execution="long-5")


def test_markdown_is_added_and_not_run(tried):
    it = re.fullmatch(r"added cell (\w+)", tried("add_markdown", source="# Result"))[1]
    assert tried("read_cell", cell=it) == f"[markdown cell {it}]\n# Result"
    assert "holds no code" in tried("run_existing_cell", cell=it, is_error=True)


def test_a_restart_takes_variables_and_keeps_the_notebook(tried, cell):
    it = cell("here = 1")
    assert "all variables are gone" in tried("restart_kernel")
    assert "NameError" in tried("run_cell", source="here", is_error=True)
    assert "here = 1" in tried("read_cell", cell=it)


def test_a_kernel_that_died_says_what_is_left_and_what_to_do(tried):
    seen = tried("run_cell", source="import os\nos._exit(3)", is_error=True)
    assert "kernel died" in seen
    assert "files are still there" in seen
    assert "restart" in tried("run_cell", source="1", is_error=True)
    tried("restart_kernel")
    assert RAN.search(tried("run_cell", source="1"))


def test_reading_a_cell_part_by_part(tried, cell):
    it = cell("for i in range(3000): print(i)")
    first = tried("read_cell", cell=it)
    assert first.startswith("[part 1 of 2: characters 1 to 8,000 of 1")
    assert "\n2999" in tried("read_cell", cell=it, part=2)
    assert "parts 1 to 2" in tried("read_cell", cell=it, part=3, is_error=True)
    assert "there is no cell" in tried("read_cell", cell="nope", is_error=True)


def test_long_output_is_shortened_and_says_how_to_read_on(tried):
    seen = tried("run_cell", source="print('x' * 1_000_000)")
    assert len(seen) < 13_000
    assert "characters left out; read_cell(cell=" in seen
    assert len(tried("run_shell", command="head -c 1000000 /dev/zero | tr '\\0' x")) < 13_000


def test_an_operation_that_is_asked_for_again_is_not_done_again(tried):
    once = tried("run_cell", op="once-1", source="open('times', 'a').write('x')")
    assert tried("run_cell", op="once-1", source="open('times', 'a').write('x')") == once
    assert tried("read_file", path="times") == "x"
    words = tried("run_cell", op="once-1", source="other", is_error=True)
    assert "used for another request" in words


# -- images and warnings -----------------------------------------------------------------------


def png(size=8):
    buffer = io.BytesIO()
    Image.new("RGB", (size, size)).save(buffer, "PNG")
    return base64.b64encode(buffer.getvalue()).decode()


def result(*outputs, state="ok", warnings=(), op="o"):
    return Result(op, "execute", state, True, cell="c1", outputs=outputs, warnings=warnings)


def picture():
    return {"output_type": "display_data", "data": {"image/png": png()}, "metadata": {}}


class Answering(Session):
    """A session whose every operation has these results, in turn."""

    def __init__(self, *results):
        self.boot, self.results, self.boots = "A", list(results), []

    def submit(self, body, **options):
        self.boots.append(self.boot)
        answer = self.results.pop(0)
        if isinstance(answer, Exception):
            raise answer
        return answer


def kinds(answer):
    return [block["type"] for block in answer.content]


def test_images_are_counted_over_the_whole_run():
    many = result(*[picture() for _ in range(30)])
    tried = Tried(Answering(many, many, result(picture())), images_left=25)
    tried("run_cell", source="")
    assert kinds(tried.last).count("image") == 20, "in one result"
    tried("run_cell", source="")
    assert kinds(tried.last).count("image") == 5
    assert "budget of images is used up" in tried("run_cell", source="")


def test_an_error_with_an_image_is_none_to_the_api():
    failed = {"output_type": "error", "ename": "E", "evalue": "no", "traceback": []}
    tried = Tried(Answering(result(picture(), failed, state="error")))
    assert "E: no" in tried("run_cell", source="")
    assert kinds(tried.last)[0] == "image"


def test_each_warning_is_shown_once():
    given = [("disk is short",), ("disk is short",), ("disk is short", "memory is short")]
    tried = Tried(Answering(*(result(warnings=each) for each in given)))
    seen = [tried("run_cell", source="") for _ in given]
    assert [words.count("[warning]") for words in seen] == [1, 0, 1]
    assert seen[2].endswith("[warning] memory is short")


# -- another sandbox ---------------------------------------------------------------------------


def lost(known=None):
    return LostOperation("gone", "B", known)


def test_a_call_for_a_sandbox_that_is_gone_is_lost_and_the_next_goes_to_the_new_one():
    session = Answering(lost(), result())
    tried = Tried(session)
    words = tried("run_cell", source="", is_error=True)
    assert words.startswith("lost: the sandbox was replaced")
    assert session.boot == "B"
    tried("run_cell", source="")
    assert session.boots == ["A", "B"]


def test_what_the_new_sandbox_knows_of_a_lost_call_is_told():
    output = {"output_type": "stream", "name": "stdout", "text": "half\n"}
    tried = Tried(Answering(lost(result(output, state="lost")), lost(result(output))))
    words = tried("run_cell", source="", is_error=True)
    assert words.startswith("half\n[lost: ")
    assert "look at what is still there" in words
    words = tried("run_cell", source="")
    assert words.startswith("half\n[ok;")
    assert "variables and running processes are gone" in words


def test_a_call_can_be_meant_for_an_earlier_sandbox():
    session = Answering(lost())
    session.boot = "B"
    toolbox = Toolbox(session, ExecutionMode.NOTEBOOK)
    answer = toolbox.call("run_cell", {"source": ""}, "o", boot="A")
    assert answer.is_error
    assert (session.boots, session.boot) == (["A"], "B")


# -- input -------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "given", "words"),
    [
        ("fly", {}, "there is no tool fly; there are: run_cell, "),
        ("run_cell", {}, "run_cell was not run: source: it is missing"),
        ("run_cell", {"source": 5}, "source: Input should be a valid string, found 5"),
        ("run_cell", {"source": ["1"]}, "source: Input should be a valid string, found ['1']"),
        ("run_cell", {"source": "1", "timeout": "soon"}, "timeout: Input should be a valid number"),
        ("run_cell", {"source": "1", "timeout": -1}, "timeout: Input should be greater than 0"),
        ("run_cell", {"source": "1", "timeout": float("nan")}, "timeout: Input should be"),
        ("run_cell", {"source": "1", "timeout": 1e9}, "less than or equal to 3600"),
        ("run_cell", {"code": "1"}, "code: there is no such key; there are: source, timeout"),
        ("restart_kernel", {"now": 1}, "now: there is no such key; there are: none"),
        ("read_notebook", {"page": 0}, "page: Input should be greater than or equal to 1"),
        ("wait", {"execution": "../info"}, "execution: String should match pattern"),
        ("read_file", {"path": "../info"}, "path: ../info leads out of the workspace"),
        ("read_file", {"path": "a/../../info"}, "leads out of the workspace"),
        ("write_file", {"path": "../operations/x", "content": ""}, "leads out of the workspace"),
        ("list_files", {"path": "", "recursive": False}, "at least 1 character"),
    ],
)
def test_bad_input_runs_nothing_and_says_what_is_wrong(name, given, words):
    session = Answering()
    answer = Toolbox(session, ExecutionMode.NOTEBOOK).call(name, given, "o")
    assert answer.is_error
    assert words in answer.content[0]["text"]
    assert session.boots == []


@pytest.mark.parametrize("given", [None, "text", ["list"]])
def test_input_that_is_no_object_is_refused(given):
    answer = Toolbox(Answering(), ExecutionMode.NOTEBOOK).call("run_cell", given, "o")
    assert answer.is_error


def test_unknown_executions_and_cells_are_refused_in_words(tried):
    assert "there is no operation nope" in tried("wait", execution="nope", is_error=True)
    assert "there is no operation nope" in tried("interrupt", execution="nope", is_error=True)
    assert tried("wait", execution="..", is_error=True)


# -- the notebook ------------------------------------------------------------------------------


def test_the_notebook_is_read_page_by_page_and_cells_stay_whole(tried, cell):
    made = [cell(f"print({number})\n" + "# long\n" * 400) for number in range(6)]
    pages, number = [], 0
    while not pages or f"[page {number} of {number}:" not in pages[-1]:
        number += 1
        pages.append(tried("read_notebook", page=number))
    assert all(len(page) < 9_000 for page in pages)
    text = "\n".join(pages)
    assert all(text.count(f"[code cell {it}; ok]\nprint(") == 1 for it in made)
    assert f"pages 1 to {number}" in tried("read_notebook", page=number + 1, is_error=True)


def test_an_empty_notebook_says_so():
    session = Answering()
    session.notebook = lambda: json.dumps({"cells": []})
    assert Tried(session)("read_notebook") == "[the notebook is empty]"


# -- shell and files ---------------------------------------------------------------------------


def test_a_command_that_fails_says_its_status(tried):
    seen = tried("run_shell", command="echo out; echo err >&2; exit 3", is_error=True)
    assert "out" in seen
    assert "[stderr]\nerr" in seen
    assert "exit status 3" in seen
    assert "null byte" in tried("run_shell", command="a\0b", is_error=True)


def test_files_are_written_listed_and_read(tried):
    assert tried("write_file", path="d/ä.txt", content="one\ntwo") == "wrote 7 bytes to d/ä.txt"
    assert tried("read_file", path="d/./ä.txt") == "one\ntwo"
    assert tried("list_files", path="d") == "ä.txt  7"
    assert "d/\n" in tried("list_files")
    assert "d/ä.txt  7" in tried("list_files", recursive=True)
    tried("run_shell", command="mkdir empty; : > none; ln -s /etc link")
    assert tried("list_files", path="empty") == "[the directory is empty]"
    assert tried("read_file", path="none") == "[the file is empty]"
    assert "link  (link)" in tried("list_files")


@pytest.mark.parametrize(
    ("path", "words"),
    [
        ("nope", "there is no file nope"),
        ("/etc/passwd", "leads out of the workspace"),
        ("way-out/passwd", "leads out of the workspace"),
        ("nul\0", "NUL"),
        (".", "is a directory"),
    ],
)
def test_a_file_that_cannot_be_read_is_refused_in_words(tried, path, words):
    tried("run_shell", command="ln -sfn /etc way-out")
    assert words in tried("read_file", path=path, is_error=True)


def test_a_file_cannot_be_written_outside_nor_over_a_directory(tried, tmp_path):
    tried("run_shell", command="mkdir -p taken; ln -sfn /tmp tmp-link")
    assert "irectory" in tried("write_file", path="taken", content="x", is_error=True)
    for path in (f"{tmp_path}/x", "tmp-link/x"):
        words = tried("write_file", path=path, content="x", is_error=True)
        assert "leads out of the workspace" in words
    assert not (tmp_path / "x").exists()
    assert "there is no directory" in tried("list_files", path="nope", is_error=True)


def test_a_binary_file_is_named_and_a_large_one_read_in_part(tried, monkeypatch):
    tried("run_shell", command="printf 'ab\\377' > binary; yes 0123456789 | head -c 30000 > large")
    assert "no UTF-8 text (byte 3 of 3)" in tried("read_file", path="binary", is_error=True)
    assert tried("read_file", path="large", part=2).startswith("[part 2 of 4: characters 8,001")
    monkeypatch.setattr(module, "LARGEST_READ", 10_000)
    seen = tried("read_file", path="large", part=2)
    assert "[part 2 of 2: characters 8,001 to 10,000 of 10,000]" in seen
    assert seen.endswith("[only the first 10,000 bytes can be read like this]")


def test_a_long_listing_is_cut(tried):
    tried("run_shell", command="mkdir many; cd many; touch $(seq 600)")
    assert tried("list_files", path="many").endswith("\n… 100 more")


def test_a_secret_never_appears(tried):
    tried("run_shell", command="mkdir -p s; echo key=$CANARY > s/file")
    seen = tried("run_cell", source="import os; print(os.environ['CANARY']); os.environ['CANARY']")
    seen += tried("run_shell", command="echo $CANARY; echo $CANARY >&2")
    seen += tried("run_cell", source="raise ValueError(os.environ['CANARY'])", is_error=True)
    seen += tried("read_file", path="s/file")
    seen += tried("read_notebook")
    assert SECRET not in seen
    assert seen.count("***") >= 5


# -- what is on offer --------------------------------------------------------------------------


def definitions(mode):
    return {tool["name"]: tool for tool in Toolbox(Answering(), mode).definitions()}


def test_cli_mode_has_the_shell_and_the_files():
    assert list(definitions(ExecutionMode.CLI)) == [
        "run_shell",
        "wait",
        "interrupt",
        "read_file",
        "write_file",
        "list_files",
    ]
    tried = Tried(Answering(), ExecutionMode.CLI)
    assert "there is no tool run_cell" in tried("run_cell", source="1", is_error=True)


def test_definitions_are_what_the_api_takes():
    for name, tool in definitions(ExecutionMode.NOTEBOOK).items():
        assert re.fullmatch(r"[a-z_]{1,64}", name)
        assert 20 < len(tool["description"]) < 400
        assert "  " not in tool["description"]
        schema = tool["input_schema"]
        assert schema["type"] == "object"
        assert schema["additionalProperties"] is False
    assert definitions(ExecutionMode.NOTEBOOK)["run_cell"]["input_schema"]["properties"] == {
        "source": {"type": "string"},
        "timeout": {
            "default": 120.0,
            "description": "seconds to wait",
            "exclusiveMinimum": 0,
            "maximum": 3600.0,
            "type": "number",
        },
    }


@pytest.mark.parametrize("mode", list(ExecutionMode))
def test_the_prompt_names_only_tools_that_there_are(mode):
    prompt = system_prompt(make_plan(sandbox={"execution_mode": mode.value}))
    there = definitions(mode)
    named = set(re.findall(r"\b[a-z]+_(?:cell|notebook|shell|markdown|files?|kernel)\b", prompt))
    assert named | {"wait", "interrupt"} <= set(there) | {"wait", "interrupt"}
    assert bool(named) == (mode is ExecutionMode.NOTEBOOK)


def test_the_prompt_says_how_a_model_that_was_fetched_is_loaded():
    about = {"name": "lab/tiny", "revision": None, "commit": "a" * 40, "size": 1, "secret": None}
    prompt = system_prompt(make_plan(models=(PinnedModel.model_validate(about),)))
    assert f'from_pretrained("lab/tiny", revision="{"a" * 40}", local_files_only=True)' in prompt


def test_the_docs_have_every_tool():
    page = (Path(__file__).parents[2] / "docs" / "agent.md").read_text()
    section = page.partition("## Tools\n")[2].partition("\n## ")[0]
    for name, tool in definitions(ExecutionMode.NOTEBOOK).items():
        keys = ", ".join(tool["input_schema"]["properties"])
        assert f"| `{name}({keys})` | {tool['description']} |" in section


def test_the_sandbox_was_not_left_busy(box):
    until(lambda: not box.connected.info()["running"], 10)
