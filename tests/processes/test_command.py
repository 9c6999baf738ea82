"""A command of the lab's own carries an experiment out, with the sandbox's tools and its model."""

from __future__ import annotations

import contextlib
import json
import os
import signal
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import agents_of_labs
import psutil
import pytest
from command_line import CommandLine
from messages_api import USAGE, Server, messages_api
from tiny_runs import Lab, Run, held, processes_of, until

from runner.record.verify import verify

KEY = "sk-ant-canary-0123456789"
TOKENS = sum(USAGE.values())
MODEL = "claude-haiku-4-5"


def cell(source: str) -> dict[str, object]:
    return {"tools": [{"name": "run_cell", "input": {"source": source}}]}


@pytest.fixture
def lab(tmp_path: Path) -> Iterator[Lab]:
    made = Lab(tmp_path)
    yield made
    made.close()


@contextmanager
def model(lab: Lab, *replies: dict[str, object]) -> Iterator[tuple[Server, dict[str, object]]]:
    """The API behind the gateway, and what an experiment says of it."""
    with messages_api(replies) as api, lab.secrets(ANTHROPIC_API_KEY=KEY):
        yield api, {"base_url": api.url, "model": MODEL}


def printed(run: Run, stream: str = "stdout") -> str:
    return "".join(line["text"] for line in run.lines("printed") if line["stream"] == stream)


def said(run: Run, role: str = "assistant") -> list[dict[str, object]]:
    return [line for line in run.lines("message") if line["role"] == role]


# -- with a model --------------------------------------------------------------------------


def test_what_it_asks_its_model_is_counted_and_written_down(lab: Lab) -> None:
    replies = cell("answer = 6 * 7; print(answer)"), {"text": "It is 42."}
    with model(lab, *replies) as (_, agent):
        run = lab.submit(toml=agents_of_labs.toml(agents_of_labs.MODEL, **agent))
        status = run.over()
    assert (status.state, status.reason) == ("done", "the agent ended the run")
    assert "answer = 6 * 7" in (run.path / "notebook.ipynb").read_text()
    assert printed(run) == "\nIt is 42.\n"
    one, two = said(run)
    assert [one["turn"], one["stop_reason"], two["turn"]] == [1, "tool_use", 2]
    assert one["content"][0]["input"] == {"source": "answer = 6 * 7; print(answer)"}
    assert two["content"] == [{"type": "text", "text": "It is 42."}]
    asked = run.lines("request")
    assert asked[0]["content"] == [{"role": "user", "content": "Do it."}]
    assert "42" in json.dumps(asked[1]["content"])
    assert [line["messages"] for line in asked] == [1, 3]
    state = status.run
    assert (state.turns, sum(state.tokens.values())) == (2, 2 * TOKENS)
    assert state.cost_usd == pytest.approx(2 * (100 * 1 + 30 * 0.1 + 40 * 1.25 + 20 * 5) / 1e6)
    assert verify(run.path).ok


def test_the_key_is_the_gateways_alone(lab: Lab) -> None:
    look = agents_of_labs.own(
        "print({k: v for k, v in os.environ.items() if not k.startswith('LC_')}, flush=True)"
    )
    with model(lab) as (_, agent):
        run = lab.submit(toml=agents_of_labs.toml(look, **agent))
        assert run.over().state == "done"
    shown = printed(run)
    assert "'ANTHROPIC_BASE_URL': 'http://127.0.0.1:" in shown
    assert f"'ANTHROPIC_MODEL': '{MODEL}'" in shown
    for name, data in lab.traces(run):
        assert KEY.encode() not in data, name
    assert all(KEY.encode() not in file.read_bytes() for file in run.path.rglob("*.jsonl"))


@pytest.mark.parametrize(
    ("bound", "words"),
    [
        ({"max_turns": 2}, "2 of 2 replies"),
        ({"max_tokens": TOKENS + 1}, f"{2 * TOKENS} of {TOKENS + 1} tokens"),
        ({"max_cost_usd": 0.0003}, "$0.00 of $0.00"),
    ],
)
def test_a_bound_ends_it(lab: Lab, bound: dict[str, object], words: str) -> None:
    with model(lab, *(cell(f"x = {n}") for n in range(9))) as (api, agent):
        run = lab.submit(toml=agents_of_labs.toml(agents_of_labs.MODEL, **agent, **bound))
        status = run.over()
    assert (status.state, status.exit_status) == ("bound", 4)
    assert words in status.reason
    assert len(api.requests) == 2
    notices = [line["notice"] for line in run.lines("message") if line.get("notice")]
    assert len(notices) == 1


def test_errors_of_the_api_are_passed_on_and_the_command_goes_on(lab: Lab) -> None:
    replies = {"status": 529}, {"cut": "broken", "text": "A long text of it."}, {"text": "Done."}
    program = agents_of_labs.MODEL.replace(
        "        with model.messages.stream",
        "        try:\n"
        "            with model.messages.stream(messages=messages, **asked) as stream:\n"
        "                print(stream.get_final_message())\n"
        "        except Exception as error:\n"
        "            print('cut:', error, flush=True)\n"
        "        with model.messages.stream",
    )
    with model(lab, *replies) as (api, agent):
        run = lab.submit(toml=agents_of_labs.toml(program, **agent))
        assert run.over().state == "done"
    assert len(api.requests) == 3
    assert "529" in run.lines("request_failed")[0]["reason"]
    cut, whole = said(run)
    assert cut["stop_reason"] == "interrupted"
    assert cut["usage"]["input_tokens"] == USAGE["input_tokens"]
    assert whole["content"] == [{"type": "text", "text": "Done."}]
    assert "the stream was cut" in printed(run)
    assert "Done." in printed(run)


def test_what_a_last_reply_asks_for_is_done_and_one_that_ends_it_is_no_bound(lab: Lab) -> None:
    with model(lab, cell("x = 1"), {"text": "All is said."}) as (_, agent):
        run = lab.submit(toml=agents_of_labs.toml(agents_of_labs.MODEL, **agent, max_turns=2))
        status = run.over()
    assert (status.state, status.run.turns) == ("done", 2)
    assert "All is said." in printed(run)


def test_a_near_bound_is_told_with_the_next_answer_of_a_tool(lab: Lab) -> None:
    cells = [cell("import time; time.sleep(3)"), {"text": "Done."}]
    with model(lab, *cells) as (_, agent):
        run = lab.submit(toml=agents_of_labs.toml(agents_of_labs.MODEL, **agent, max_turns=2))
        run.over()
    assert "1 of 2 replies are used" in json.dumps(run.lines("request")[1]["content"])


def test_another_models_name_is_refused_where_the_command_knows_its_own(tmp_path: Path) -> None:
    file = tmp_path / "experiment.toml"
    agent = 'provider = "none"\ncommand = ["sh"]\nllm_secret = "OPENAI_API_KEY"'
    file.write_text(f'name = "x"\ntask = "Do it."\n[agent]\n{agent}\n')
    told = CommandLine(tmp_path)("submit", str(file), "--model", "claude-haiku-4-5")
    assert (told.status, "whose models its command knows" in told.words) == (2, True)


def test_a_model_without_a_price_is_refused_where_dollars_bound(lab: Lab) -> None:
    program = agents_of_labs.MODEL.replace('os.environ["ANTHROPIC_MODEL"]', '"unheard-of"')
    with model(lab) as (api, agent):
        run = lab.submit(toml=agents_of_labs.toml(program, **agent, max_cost_usd=1.0))
        status = run.over()
    assert status.state == "failed"
    assert "nobody knows the price of unheard-of" in status.reason
    assert not api.requests


# -- without one ---------------------------------------------------------------------------


def test_one_that_asks_no_model_of_ours(lab: Lab) -> None:
    program = agents_of_labs.own(
        "said = await client.call_tool('run_shell', {'command': 'pwd > outputs/where.txt'})\n"
        "print(task, os.environ['RUNNER_ATTEMPT'], open(os.environ['RUNNER_TASK']).read())\n"
        "print('Jupyter' in open(os.environ['RUNNER_SYSTEM_PROMPT']).read())\n"
        "print('ANTHROPIC_BASE_URL' in os.environ, file=sys.stderr)\n"
        "print(os.environ['OTHER_KEY'][::-1])"
    )
    toml = agents_of_labs.toml(program, provider="none", llm_secret="OTHER_KEY")
    with lab.secrets(OTHER_KEY=KEY):
        run = lab.submit(toml=toml)
        status = run.over()
    assert status.state == "done"
    assert printed(run) == f"Do it. 1 Do it.\nTrue\n{KEY[::-1]}\n"
    assert printed(run, "stderr") == "False\n"
    assert [file["path"] for file in status.run.outputs] == ["where.txt"]
    assert status.run.cost_usd is None
    line = CommandLine(lab.top, **lab.env)
    told = line("status", run.run_id)
    assert "turns" not in told.out
    assert Path(agents_of_labs.sys.executable).name in told.out
    told = line("attach", run.run_id, "--chat")
    assert (told.status, "a command, which hears nobody" in told.words) == (2, True)


def test_it_fails_with_its_last_words(lab: Lab) -> None:
    program = "import sys; print('fine so far'); sys.exit('no such flag: --frob')"
    run = lab.submit(toml=agents_of_labs.toml(program, provider="none"))
    status = run.over()
    assert (status.state, status.exit_status) == ("failed", 1)
    assert "ended with status 1" in status.reason
    assert "no such flag: --frob" in status.reason


def test_its_time_ends_it_with_all_that_it_started(lab: Lab) -> None:
    program = (
        "import subprocess, sys, signal, time\n"
        "signal.signal(signal.SIGTERM, lambda *_: print('told to end', flush=True))\n"
        "subprocess.Popen(['sleep', '300'])\n"
        "print('here', flush=True)\n"
        "while True: time.sleep(300)"
    )
    toml = agents_of_labs.toml(program, provider="none") + '[sandbox]\ntimeout = "20s"\n'
    run = lab.submit(toml=toml)
    status = run.over()
    assert (status.state, status.exit_status) == ("timeout", 124)
    assert printed(run) == "here\ntold to end\n"
    assert [line["notice"] for line in said(run, "user")] == ["time 20"]
    # Lab.close sees that nothing of it runs.


def test_a_killed_agent_takes_it_along_and_starts_it_again(lab: Lab) -> None:
    program = agents_of_labs.own(
        "print('attempt', os.environ['RUNNER_ATTEMPT'], 'An earlier' in task, flush=True)\n"
        "if os.environ['RUNNER_ATTEMPT'] == '1':\n"
        f"    await client.call_tool('run_cell', {{'source': {held('kept = 1')!r}}})\n"
        "print(text(await client.call_tool('run_cell', {'source': 'print(kept)'})), flush=True)"
    )
    run = lab.submit(toml=agents_of_labs.toml(program, provider="none"))
    until(lambda: "attempt 1 False\n" in printed(run), "it has begun")
    until(lambda: any(line["type"] == "start" for line in run.journal()), "its cell runs")
    [worker] = [
        process
        for process in processes_of(lab.top)
        if process.cmdline()[-3:-1]
        and "runner.agent" in process.cmdline()
        and process.cmdline()[-1] == "started"
    ]
    children = worker.children(recursive=True)
    worker.send_signal(signal.SIGKILL)
    _, alive = psutil.wait_procs(children, 10)
    assert not alive
    run.let_go()
    status = run.over()
    assert status.state == "done", status
    assert "attempt 2 True\n" in printed(run)
    assert "1\n" in printed(run).partition("attempt 2")[2]


def test_a_sandbox_that_is_gone_ends_it(lab: Lab) -> None:
    program = agents_of_labs.own("print('here', flush=True)\nwhile True: time.sleep(300)")
    run = lab.submit(toml=agents_of_labs.toml(program, provider="none"))
    until(lambda: printed(run), "it has begun")
    os.killpg(run.init, signal.SIGKILL)
    status = run.over()
    assert (status.state, status.exit_status) == ("failed", 3)
    assert status.reason.startswith("the sandbox ended")


def test_long_lines_are_masked_whole_and_much_output_is_borne(lab: Lab) -> None:
    program = (
        "import os\n"
        "print('x' * 65_530 + os.environ['OTHER_KEY'] + 'y' * 9_000_000)\n"
        "for n in range(200_000): print('line', n)"
    )
    toml = agents_of_labs.toml(program, provider="none", llm_secret="OTHER_KEY")
    with lab.secrets(OTHER_KEY=KEY):
        run = lab.submit(toml=toml)
        assert run.over().state == "done"
    text = printed(run)
    assert KEY not in text
    assert "***y" in text
    assert text.endswith("line 199999\n")
    assert text.count("\n") == 200_001


def test_what_leaves_its_process_group_holds_nothing_up(lab: Lab, tmp_path: Path) -> None:
    program = (
        "import subprocess\n"
        "left = subprocess.Popen(['sleep', '300'], start_new_session=True)\n"
        f"open({str(tmp_path / 'pid')!r}, 'w').write(str(left.pid))"
    )
    run = lab.submit(toml=agents_of_labs.toml(program, provider="none"))
    assert run.over().state == "done"
    with contextlib.suppress(ProcessLookupError):
        os.kill(int((tmp_path / "pid").read_text()), signal.SIGKILL)


# -- bad input -----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ('command = "claude -p"', "and its arguments"),
        ("command = []", "and its arguments"),
        ('command = ["./mine.sh"]', "by its name or absolute path"),
        ('command = ["nowhere-to-be-found"]', "no 'nowhere-to-be-found'"),
        ('provider = "none"', '`command` beside `provider = "none"`'),
        ('provider = "none"\ncommand = ["sh"]\nmax_tokens = 5', "nobody counts"),
        ('provider = "none"\ncommand = ["sh"]\nmax_turns = 5', "nobody counts"),
        ('provider = "none"\ncommand = ["sh"]\nmodel = "x"', "whose models its command knows"),
        ('provider = "scripted"\nscript = "s.json"\ncommand = ["sh"]', "asks no model"),
    ],
)
def test_what_cannot_be_is_refused_before_anything_starts(
    tmp_path: Path, agent: str, words: str
) -> None:
    (tmp_path / "s.json").write_text('{"steps": [{"text": "Done."}]}')
    file = tmp_path / "experiment.toml"
    file.write_text(f'name = "x"\ntask = "Do it."\n[agent]\n{agent}\n')
    env = {"ANTHROPIC_API_KEY": KEY, "RUNNER_STATE_DIR": str(tmp_path / "state")}
    told = CommandLine(tmp_path, **env)("submit", str(file))
    assert (told.status, words in told.words) == (2, True), told
    assert not (tmp_path / "runs").exists() or not list((tmp_path / "runs").iterdir())
