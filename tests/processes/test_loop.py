"""The loop: every turn once, whatever breaks, and no further than the bounds."""

from __future__ import annotations

import json
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest
from agent_parts import USAGE, Playing, call, make_plan, make_record, of_type, says, told, words
from agent_parts import transcript as lines_of
from messages_api import complaint, messages_api
from sandbox_process import sandbox, until

from runner.agent.chat import Chat, Said
from runner.agent.loop import CUT, EMPTY, REPLACED, Loop
from runner.agent.providers import ProviderRefused
from runner.agent.providers.anthropic import Anthropic
from runner.agent.stop import Outcome, Stop, Stopped
from runner.agent.tools import Answer, Toolbox, text
from runner.config.sandbox import ExecutionMode
from runner.errors import InfrastructureError, SandboxUnreachable
from runner.prices import Price
from runner.record import Record, check_chain

DONE = Outcome("done", "the agent ended the run", 0)
KEY = "sk-ant-canary-0123456789"


class Tools:
    """Tools that answer what they were called with, or with what they were given."""

    def __init__(self, *answers):
        self.session, self.boot = self, "A"
        self.gone = False
        self.answers, self.calls, self.longest = list(answers), [], []

    def info(self):
        return {"kernel": {}, "versions": {}, "environment": {"python": "3.12"}}

    def masked(self, value):
        if self.gone:
            raise SandboxUnreachable("it is gone")
        return json.loads(json.dumps(value).replace(KEY, "***"))

    def definitions(self):
        return [{"name": "run_cell", "description": "", "input_schema": {}}]

    def call(self, name, given, op, *, boot, longest_s):
        self.calls.append((name, op, boot))
        self.longest.append(longest_s)
        answer = self.answers.pop(0) if self.answers else text(f"[ok] {op}")
        return answer if isinstance(answer, Answer) else answer()


class Run:
    """One run; `go` is one attempt at it, from its transcript."""

    def __init__(self, top, run_id="run-1", **plan):
        self.plan = make_plan(run_id, **plan)
        self.record = make_record(top, self.plan)
        self.stop = Stop()

    def go(self, provider, tools=None, left_s=None, **options):
        tools = tools or Tools()
        self.record.say("sandbox", boot=tools.session.boot)
        lines = lines_of(self.record)[:-1]
        left_s = self.plan.experiment.sandbox.timeout if left_s is None else left_s
        loop = Loop(
            self.plan,
            self.record,
            told(lines),
            provider,
            tools,
            self.stop,
            left_s,
            "Be brief.",
            **options,
        )
        return loop.run()

    def said(self, role):
        return [line for line in of_type(self.record, "message") if line["role"] == role]

    def results(self):
        return of_type(self.record, "tool_result")


@pytest.fixture
def run(tmp_path):
    def run(**plan):
        return Run(tmp_path / f"r{len(list(tmp_path.iterdir()))}", **plan)

    return run


# -- turn after turn ---------------------------------------------------------------------------


def test_task_calls_results_and_the_end_are_written_down(run):
    made, tools = run(), Tools()
    two = says("Now.", call("run_cell", "t1", source="1"), call("wait", "t2", execution="x"))
    provider = Playing(two, says("It is 2."))
    assert made.go(provider, tools) == DONE
    assert tools.calls == [("run_cell", "run-1-1-1", "A"), ("wait", "run-1-1-2", "A")]
    lines = of_type(made.record, "message", "tool_result")
    assert [line.get("role", line.get("op")) for line in lines] == [
        "user",
        "assistant",
        "run-1-1-1",
        "run-1-1-2",
        "assistant",
    ]
    assert words(lines[0]) == "Add 1 and 1."
    assert [line["turn"] for line in lines] == [0, 1, 1, 1, 2]
    assert lines[1]["usage"] == USAGE
    assert lines[2]["journal"] == {"lines": 0, "head": "0" * 64}
    for messages in provider.asked:
        assert complaint({"model": "m", "max_tokens": 1, "messages": messages}) == ""


def test_the_message_is_on_the_disk_before_its_tool_runs(run):
    made = run()
    seen = []

    def look():
        seen.append(lines_of(made.record)[-1])
        return text("[ok]")

    made.go(Playing(says("Now.", call("run_cell", "t1")), says("Done.")), Tools(look))
    assert words(seen[0]) == "Now."


def test_the_record_catches_up_before_a_result_is_written(run):
    made, when = run(), []
    provider = Playing(says(call("run_cell")), says("Done."))
    made.go(provider, catch_up=lambda: when.append(len(made.results())))
    assert when == [0]


def test_secrets_of_the_sandbox_are_masked_in_what_is_written_and_not_in_what_is_done(run):
    made, tools = run(sandbox={"secrets": ["A_TOKEN"]}), Tools()
    given = []
    tools.call = lambda name, asked, op, **_: given.append(asked) or text("[ok]")
    provider = Playing(says(KEY, call("run_cell", source=f"use({KEY!r})")), says("Done."))
    assert made.go(provider, tools) == DONE
    assert given == [{"source": f"use({KEY!r})"}]
    assert KEY not in (made.record.path / "transcript.jsonl").read_text()
    assert words(made.said("assistant")[0]) == "***"


def test_what_is_said_when_the_sandbox_is_gone_is_written_down(run):
    made, tools = run(sandbox={"secrets": ["A_TOKEN"]}), Tools()
    tools.gone = True
    assert made.go(Playing(says("It is 2.")), tools) == DONE
    assert words(made.said("assistant")[0]) == "It is 2."


def test_an_empty_message_is_asked_about_once_and_then_ends_the_run(run):
    made = run()
    provider = Playing(says(call("run_cell")), says(), says())
    assert made.go(provider) == DONE
    assert [words(line) for line in made.said("user")][1:] == [EMPTY]
    made = run()
    assert made.go(Playing(says(), says("2"))) == DONE
    made = run()
    assert made.go(Playing(says(), says())).state == "failed", "it never said anything"


def test_what_was_cut_off_goes_on(run):
    made = run()
    provider = Playing(says("A long", stop="max_tokens"), says(stop="max_tokens"), says("story"))
    assert made.go(provider) == DONE
    assert [words(line) for line in made.said("user")][1:] == [CUT, CUT]


def test_a_pause_goes_on_without_a_word(run):
    made = run()
    assert made.go(Playing(says("One", stop="pause_turn"), says("two"))) == DONE
    assert len(made.said("user")) == 1


def test_a_full_context_is_made_smaller(run):
    made = run()
    big = [text("x" * 40_000 + "\n[ok]") for _ in range(9)]
    replies = [says(call("run_cell", f"t{n}")) for n in range(9)]
    full = says("I", stop="model_context_window_exceeded")
    provider = Playing(*replies, full, says("Done."))
    assert made.go(provider, Tools(*big)) == DONE
    sizes = [len(json.dumps(messages)) for messages in provider.asked]
    assert sizes[-2] > 360_000
    assert sizes[-1] < 210_000


def test_a_refusal_ends_the_run_and_none_of_its_calls_is_made(run):
    made, tools = run(), Tools()
    refused = says("I", call("run_cell", "t1"), stop="refusal")
    outcome = made.go(Playing(refused), tools)
    assert outcome == Outcome("failed", "the model refused to go on", 1)
    assert tools.calls == []
    made.record.say("attempt", attempt=2, reason="resumed")
    assert made.go(Playing(says("Done."))) == DONE, "whoever resumes asks once more"


def test_repeated_ids_are_answered_each_in_its_place(run):
    made, tools = run(), Tools()
    twice = says(call("run_cell", "same", source="1"), call("run_cell", "same", source="2"))
    provider = Playing(twice, twice, says("Done."))
    assert made.go(provider, tools) == DONE
    assert [op for _, op, _ in tools.calls] == ["run-1-1-1", "run-1-1-2", "run-1-2-1", "run-1-2-2"]
    results = [b for m in provider.asked[-1] for b in m["content"] if b["type"] == "tool_result"]
    assert len({b["tool_use_id"] for b in results}) == 4
    assert [b["content"][0]["text"] for b in results] == [f"[ok] {op}" for _, op, _ in tools.calls]
    assert complaint({"model": "m", "max_tokens": 1, "messages": provider.asked[-1]}) == ""


def test_a_malformed_call_is_not_made(run):
    made, tools = run(), Tools()
    reply = says(call("run_cell", "t1"), malformed={"t1": "The input did not arrive."})
    assert made.go(Playing(reply, says("Done.")), tools) == DONE
    assert tools.calls == []
    assert (words(made.results()[0]), made.results()[0]["is_error"]) == (
        "The input did not arrive.",
        True,
    )


def test_cost_is_added_up_where_the_price_is_known(run):
    price = Price(input=1e4, output=0, cache_read=0, cache_write=0)
    made = run(price=price)
    made.go(Playing(says(call("run_cell")), says("Done.")))
    assert [line["cost_usd"] for line in made.said("assistant")] == [1.0, 1.0]
    assert made.record.state().cost_usd == 2.0
    made = run()
    made.go(Playing(says("Done.")))
    assert made.record.state().cost_usd is None
    made = run()
    made.go(Playing(says("Done.", usage=dict.fromkeys(USAGE, 0))))
    assert made.record.state().cost_usd == 0.0


# -- bounds ------------------------------------------------------------------------------------


def calling(count):
    return Playing(*(says(call("run_cell", f"t{n}")) for n in range(count)))


@pytest.mark.parametrize(
    ("agent", "bound", "turns", "used"),
    [
        ({"max_turns": 6}, "turns", 6, "6 of 6 replies"),
        ({"max_tokens": 1000}, "tokens", 5, "1,000 of 1,000 tokens"),
        ({"max_cost_usd": 4.5}, "usd", 5, "$5.00 of $4.50"),
    ],
)
def test_a_bound_is_told_of_once_and_then_ends_the_run(run, agent, bound, turns, used):
    price = Price(input=1e4, output=0, cache_read=0, cache_write=0)
    made = run(agent=agent, price=price)
    provider = calling(20)
    outcome = made.go(provider)
    assert outcome == Outcome("bound", f"a bound was reached: {used}", 4, bound)
    assert len(provider.asked) == turns
    assert len(made.results()) == turns, "what the last reply asked for is done"
    notes = [words(line) for line in made.said("user")][1:]
    assert len(notes) == 1
    assert "Wrap up now" in notes[0]
    for messages in provider.asked:
        assert complaint({"model": "m", "max_tokens": 1, "messages": messages}) == ""
    assert made.go(calling(20)).state == "bound", "resumed, it is still over"
    assert len(made.said("user")) == 2


def test_a_raised_bound_has_a_notice_of_its_own(run):
    made = run(agent={"max_turns": 4})
    assert made.go(calling(9)).state == "bound"
    made.plan = make_plan(agent={"max_turns": 8})
    assert made.go(calling(9)).reason.endswith("8 of 8 replies")
    assert [line["notice"] for line in made.said("user")] == ["", "turns 4", "turns 8"]


def test_who_ends_at_the_bound_is_done(run):
    assert run(agent={"max_turns": 1}).go(Playing(says("2"))) == DONE


def test_time_is_told_of_and_ends_the_run(run):
    made = run(sandbox={"timeout": 100})
    gate = threading.Event()
    provider = Playing(says(call("run_cell")), lambda **_: gate.wait(20))
    begun = time.monotonic()
    outcome = made.go(provider, left_s=0.4)
    gate.set()
    assert (outcome.state, outcome.exit_status, outcome.bound) == ("timeout", 124, None)
    assert time.monotonic() - begun < 10  # not the 20 s of the gate
    assert [line["notice"] for line in made.said("user")] == ["", "time 100"]
    assert made.go(Playing(), left_s=-1.0).state == "timeout"


def test_a_tool_waits_no_longer_than_the_time_allows(run):
    made, tools = run(sandbox={"timeout": 1000}), Tools()
    made.go(Playing(says(call("run_cell", "t1")), says("Done.")), tools, left_s=500)
    assert 340 < tools.longest[0] <= 350, "until the agent is to be told"
    made, tools = run(sandbox={"timeout": 1000}), Tools()
    provider = Playing(says(call("run_cell", "t1")), says(call("run_cell", "t2")), says("Done."))
    made.go(provider, tools, left_s=100)
    assert 90 < tools.longest[0] <= 100, "it was told: until the end"
    made, tools = run(sandbox={"timeout": 1000}), Tools(lambda: threading.Event().wait(20))
    begun = time.monotonic()
    assert made.go(Playing(says(call("run_cell", "t1"))), tools, left_s=0.3).state == "timeout"
    assert time.monotonic() - begun < 10  # not the 20 s of the gate
    assert made.results() == []


# -- stopped from outside ----------------------------------------------------------------------


def test_a_stop_while_the_model_thinks_is_prompt_and_nothing_is_written_afterwards(run):
    made = run()
    gate, left = threading.Event(), threading.Event()
    cancelled = Outcome("cancelled", "by somebody", 130)

    def slow(on_retry, **_):
        on_retry("529 overloaded", 0.1)
        made.stop.outcome = cancelled
        gate.wait(20)
        on_retry("429 slow down", 0.1)
        left.set()
        return says("Too late.")

    begun = time.monotonic()
    assert made.go(Playing(slow)) == cancelled
    assert time.monotonic() - begun < 10  # not the 20 s of the gate
    before = made.record.transcript.head
    gate.set()
    assert left.wait(5)
    assert made.record.transcript.head == before
    assert [line["reason"] for line in of_type(made.record, "retry")] == ["529 overloaded"]


def test_a_stop_is_seen_between_quick_turns(run):
    made = run()
    cancelled = Outcome("cancelled", "by somebody", 130)

    def stop():
        made.stop.outcome = cancelled
        return text("[ok]")

    assert made.go(calling(9), Tools(stop)) == cancelled
    assert len(made.results()) == 1
    assert len(made.said("assistant")) == 1


def test_an_error_of_the_work_is_the_callers_even_a_timeout():
    def fail():
        raise TimeoutError("its own")

    with pytest.raises(TimeoutError, match="its own"):
        Stop().wait_for(fail, time.monotonic() + 5)


def test_a_thread_is_started_when_there_is_room_for_one_again(monkeypatch):
    whole, asked = threading.Thread.start, []

    def start(thread):
        asked.append(thread)
        if len(asked) < 3:
            raise RuntimeError("can't start new thread")
        whole(thread)

    monkeypatch.setattr(threading.Thread, "start", start)
    assert Stop().wait_for(lambda: "done", time.monotonic() + 30) == "done"
    assert len(asked) == 3


def test_a_stop_is_seen_while_there_is_no_room_for_a_thread(monkeypatch):
    stop, cancelled = Stop(), Outcome("cancelled", "by somebody", 130)

    def full(_):
        stop.outcome = cancelled
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(threading.Thread, "start", full)
    with pytest.raises(Stopped) as caught:
        stop.wait_for(lambda: "never", time.monotonic() + 30)
    assert caught.value.outcome == cancelled


# -- another sandbox ---------------------------------------------------------------------------


def test_calls_that_were_open_are_meant_for_the_sandbox_of_their_time(run):
    made = run()
    gone = Tools(lambda: (_ for _ in ()).throw(InfrastructureError("gone")))
    with pytest.raises(InfrastructureError):
        made.go(Playing(says(call("run_cell", "t1"), call("run_cell", "t2"))), gone)
    tools = Tools()
    tools.boot = "B"
    provider = Playing(says(call("run_cell", "t3")), says("Done."))
    assert made.go(provider, tools) == DONE
    assert [(op, boot) for _, op, boot in tools.calls] == [
        ("run-1-1-1", "A"),
        ("run-1-1-2", "A"),
        ("run-1-2-1", "B"),
    ]
    notes = [words(line) for line in made.said("user")][1:]
    assert notes == [REPLACED]
    for messages in provider.asked:
        assert complaint({"model": "m", "max_tokens": 1, "messages": messages}) == ""


def test_a_sandbox_that_is_replaced_while_the_run_goes_on_is_written_down(run):
    made, tools = run(), Tools()

    def replaced():
        tools.boot = "B"
        return text("lost", is_error=True)

    tools.answers = [replaced]
    replies = [says(call("run_cell", "t1"), call("run_cell", "t2")), says(call("run_cell", "t3"))]
    assert made.go(Playing(*replies, says("Done.")), tools) == DONE
    assert [boot for *_, boot in tools.calls] == ["A", "A", "B"], "one message, one sandbox"
    assert [line["boot"] for line in of_type(made.record, "sandbox")] == ["A", "B"]
    assert [line["notice"] for line in made.said("user")] == ["", "sandbox B"]


# -- the real SDK, the real sandbox ------------------------------------------------------------


@pytest.fixture(scope="module")
def box(tmp_path_factory):
    with sandbox(tmp_path_factory.mktemp("sandbox")) as made:
        made.connected = made.session()
        yield made
        made.connected.close()


@pytest.fixture
def play(run, box):
    """Play a script of the Messages API through the loop; (run, server, outcome)."""

    def play(run_id, *script, made=None):
        made = made or run(run_id=run_id)
        tools = Toolbox(box.connected, ExecutionMode.NOTEBOOK)
        with messages_api(script) as server:
            provider = Anthropic("model-1", KEY, base_url=server.url, sleep=lambda _: None)
            try:
                return made, server, made.go(provider, tools)
            finally:
                provider.close()

    return play


def cell(source, **more):
    return {"name": "run_cell", "input": {"source": source}, **more}


def appending(name):
    return cell(f"print(open('{name}', 'a').write('x'))")


def test_faults_of_the_server_cost_a_retry_and_no_cell_twice(play, box):
    made, server, outcome = play(
        "faults",
        {"status": 429, "headers": {"retry-after": "7"}},
        {"text": "Now.", "tools": [appending("faults")]},
        {"status": 529},
        {"tools": [appending("faults")], "cut": "broken"},
        {"tools": [appending("faults")], "cut": "clean"},
        {"event": "overloaded_error", "text": "Hello"},
        {"text": "Done."},
    )
    assert outcome == DONE
    assert (box.workspace / "faults").read_text() == "x"
    retries = of_type(made.record, "retry")
    assert retries[0]["delay_s"] == 7.0
    shown = [retry["reason"].split(":")[0] for retry in retries]
    assert shown[:2] == ["429 rate_limit_error", "529 overloaded_error"]
    assert shown[2:] == ["the stream was cut", "the stream was cut", "overloaded_error"]
    assert made.record.state().retries == 5
    assert len(server.requests) == 7


def test_malformed_input_is_told_to_the_model_and_kept(play, box):
    bad = {"name": "run_cell", "raw": "{\"source\": \"open('bad', 'a')"}
    made, server, outcome = play(
        "malformed",
        {"tools": [bad, appending("good")]},
        {"text": "A", "tools": [bad], "stop_reason": "max_tokens"},
        {"tools": [{"name": "run_cell", "input": {"source": 5}}]},
        {"text": "Done."},
    )
    assert outcome == DONE
    results = [(line["is_error"], words(line)) for line in made.results()]
    assert [is_error for is_error, _ in results] == [True, False, True, True]
    assert "did not arrive as a JSON object" in results[0][1]
    assert "cut off (max_tokens)" in results[2][1]
    assert "source: Input should be a valid string" in results[3][1]
    assert not (box.workspace / "bad").exists()
    malformed = made.said("assistant")[0]["malformed"]
    assert list(malformed.values()) == [results[0][1]]
    assert len(server.requests) == 4


def test_what_the_server_refuses_ends_the_run_at_once_in_its_words(play):
    with pytest.raises(ProviderRefused, match="401 authentication_error: bad key") as caught:
        play("refused", {"status": 401, "message": "bad key"}, {"text": "Never."})
    assert caught.value.exit_status == 1
    assert KEY not in str(caught.value)
    _, server, outcome = play("refused-2", {"text": "I cannot", "stop_reason": "refusal"})
    assert outcome == Outcome("failed", "the model refused to go on", 1)
    assert len(server.requests) == 1


def test_text_that_is_no_unicode_breaks_nothing(play, box):
    _, _, outcome = play(
        "unicode",
        {"text": "half \ud83d", "tools": [cell("print('\ud83d')")]},
        {"tools": [{"name": "write_file", "input": {"path": "half", "content": "\udc00"}}]},
        {"text": "Done."},
    )
    assert outcome == DONE
    assert (box.workspace / "half").read_text() == "?"


def test_the_run_can_go_on_at_another_server(play):
    made, _, _ = play("moved", {"tools": [cell("a = 20")]}, {"text": "x", "stop_reason": "refusal"})
    made.record.say("attempt", attempt=2, reason="resumed")
    made, _, outcome = play("", {"tools": [cell("a + 1")]}, {"text": "21"}, made=made)
    assert outcome == DONE
    assert "[result]\n21\n" in words(made.results()[-1])
    uses = [b["id"] for line in made.said("assistant") for b in line["content"] if "input" in b]
    assert len(set(uses)) == len(uses), "though both servers count from 1"


# -- killed at any moment ----------------------------------------------------------------------


def whole_script(name):
    def tool(key, tool, **given):
        return {"id": key, "name": tool, "input": given}

    note = f"{name}.md"
    return [
        {
            "text": "First.",
            "tools": [
                appending(name) | {"id": "t1"},
                tool("t2", "write_file", path=note, content="seen"),
                tool("t3", "run_shell", command=f"echo y >> {note}"),
            ],
        },
        {"tools": [appending(name) | {"id": "t4"}, tool("t5", "fly")]},
        {"text": "Half", "stop_reason": "max_tokens"},
        {
            "tools": [
                tool("t6", "wait", execution=f"{name}-1-1"),
                tool("t7", "read_file", path=note),
            ]
        },
        {"text": "Done."},
    ]


def copied(made, to, kept):
    """The run as it was after so many lines of its transcript."""
    path, name = made.record.path, made.plan.run_id
    shutil.copytree(path, to / name)
    raw = (path / "transcript.jsonl").read_bytes().splitlines(keepends=True)
    (to / name / "transcript.jsonl").write_bytes(b"".join(raw[:kept]))
    copy = Run.__new__(Run)
    copy.plan, copy.stop, copy.record = made.plan, Stop(), Record.open(to / name, write=True)
    return copy


def test_from_whatever_line_it_goes_on_it_comes_to_the_same_end(play, box, tmp_path):
    script = whole_script("cut")
    made, server, outcome = play("cut", *script)
    assert outcome == DONE
    last, lines = server.requests[-1].body["messages"], lines_of(made.record)
    ops = [line["op"] for line in made.results()]
    assert ops == ["cut-1-1", "cut-1-2", "cut-1-3", "cut-2-1", "cut-2-2", "cut-4-1", "cut-4-2"]
    for kept in range(1, len(lines) + 1):
        again = copied(made, tmp_path / f"copy-{kept}", kept)
        spoken = sum(line.get("role") == "assistant" for line in lines[:kept])
        _, server, outcome = play("", *script[spoken:], made=again)
        assert outcome == DONE, kept
        if spoken < len(script):
            sent = without_times(server.requests[-1].body["messages"])
            assert sent == without_times(last), kept
        assert [line["op"] for line in again.results()] == ops
        assert check_chain(again.record.transcript.path).bad is None
    assert (box.workspace / "cut").read_text() == "xx"
    assert (box.workspace / "cut.md").read_text() == "seeny\n"


def without_times(messages):
    """Messages without how long a cell ran, and without what the prompt cache is told."""
    text = json.dumps(messages).replace(', "cache_control": {"type": "ephemeral"}', "")
    return [part.split(" s; ")[-1] for part in text.split("[ok; ")]


def killed(made, box, steps, *deaths):
    """A process that runs the loop of this run."""
    box_options = json.loads((Path(box.options["state"]).parent / "options.json").read_text())
    script = str(Path(__file__).with_name("dying_loop.py"))
    argv = [str(made.record.path), box.url, box_options["token_file"], json.dumps(steps), *deaths]
    return subprocess.Popen([sys.executable, script, *argv])


@pytest.mark.parametrize("moment", ["assistant", "tool_result", "during"])
def test_a_killed_loop_goes_on_and_its_cell_ran_once(run, play, box, moment):
    name = f"killed-{moment.replace('_', '-')}"
    made = run(run_id=name)
    source = f"print(open('{name}', 'a').write('x'), flush=True)"
    if moment == "during":
        subprocess.run(["mkfifo", str(box.workspace / "gate")], check=True)
        source += "\nopen('gate').read()"
    steps = [{"text": "Now.", "tools": [{"name": "run_cell", "input": {"source": source}}]}]
    process = killed(made, box, [*steps, {"text": "Done."}], moment)
    if moment == "during":
        until((box.workspace / name).exists)
        process.kill()
        (box.workspace / "gate").write_text("go")
    assert process.wait(20) == -signal.SIGKILL
    assert len(made.results()) == (moment == "tool_result")
    made.record = Record.open(made.record.path, write=True)
    made, server, outcome = play("", {"text": "Done."}, made=made)
    assert outcome == DONE
    assert len(server.requests) == 1
    assert [line["op"] for line in made.results()] == [f"{name}-1-1"]
    assert words(made.results()[0]).startswith("1\n")
    assert (box.workspace / name).read_text() == "x"


def test_in_a_new_sandbox_an_open_call_is_lost_and_the_next_one_runs(run, tmp_path):
    made = run(run_id="lost")
    with sandbox(tmp_path) as box:
        first = box.session()
        source = "print('begun', flush=True)\nkept = 1\nimport time\ntime.sleep(60)"
        two = [call("run_cell", "t1", source=source, timeout=0.3)]
        two.append(call("write_file", "t2", path="once", content=""))
        waiting = says(call("wait", "t3", execution="lost-1-1", timeout=30))

        def leave(**_):
            made.stop.outcome = Outcome("interrupted", "SIGTERM", 143)
            return waiting

        tools = Toolbox(first, ExecutionMode.NOTEBOOK)
        assert made.go(Playing(says(*two), leave), tools) == made.stop.outcome
        assert "still running" in words(made.results()[0])
        (box.workspace / "once").unlink()
        box.kill()
        box.start()
        second = box.session()
        tools = Toolbox(second, ExecutionMode.NOTEBOOK)
        asks = says(call("run_cell", "t4", source="'kept' in globals()"))

        open_wait = copied(made, tmp_path / "waiting", len(lines_of(made.record)))
        assert open_wait.go(Playing(asks, says("Done.")), tools) == DONE
        waited, ran = (words(line) for line in open_wait.results()[2:])
        assert waited.startswith("begun\n[error]\nSandboxLost: the sandbox was restarted while")
        assert "[lost: the sandbox in which this ran is gone" in waited
        assert ran.startswith("[result]\nFalse\n[ok;")

        before = next(n for n, line in enumerate(lines_of(made.record)) if "op" in line)
        open_calls = copied(made, tmp_path / "calling", before)
        assert open_calls.go(Playing(asks, says("Done.")), tools) == DONE
        ran, written, asked = open_calls.results()
        assert words(ran).startswith("begun\n[error]\nSandboxLost: ")
        assert "[ok]\n[the sandbox was replaced or restarted: " in words(written)
        assert not (box.workspace / "once").exists(), "it was done once, by the first one"
        assert words(asked).startswith("[result]\nFalse\n[ok;")
        for copy in (open_wait, open_calls):
            assert [words(line) for line in copy.said("user")][1:] == [REPLACED]
        first.close()
        second.close()


# -- what people say ---------------------------------------------------------------------------


def spoken(chat, *texts):
    """Say this; ids of what was heard, as they come."""
    heard = []
    for number, words_ in enumerate(texts, 1):
        id_ = f"c{number}"
        chat.say(Said(id_, "ann", words_, lambda id_=id_: heard.append(id_)))
    return heard


def test_what_is_said_is_told_once_before_the_next_turn(run):
    made, chat = run(), Chat()
    heard = spoken(chat, "Use a log scale.", "And a grid.")
    provider = Playing(says("Done."))
    assert made.go(provider, chat=chat) == DONE
    told_ = [(line["by"], words(line)) for line in made.said("user")[1:]]
    assert told_ == [("ann", "Use a log scale."), ("ann", "And a grid.")]
    assert heard == ["c1", "c2"]
    assert [block["text"] for block in provider.asked[0][0]["content"]][1:] == [
        "Use a log scale.",
        "And a grid.",
    ]
    # The answer was lost, and it is said again to the agent that was started after this one.
    heard = spoken(chat, "Use a log scale.")
    assert made.go(Playing(says("Done.")), chat=chat) == DONE
    assert heard == ["c1"]
    assert len(made.said("user")) == 3


def test_a_secret_in_what_is_said_is_masked(run):
    made, chat = run(sandbox={"secrets": ["KEY"]}), Chat()
    spoken(chat, f"The key is {KEY}.")
    provider = Playing(says("Done."))
    assert made.go(provider, chat=chat) == DONE
    assert words(made.said("user")[1]) == "The key is ***."


def test_the_last_word_is_answered_while_somebody_is_there(run):
    made, chat = run(), Chat()
    chat.join("ann")

    def answer():
        until(lambda: of_type(made.record, "state"), what="it waits")
        spoken(chat, "And the mean?")
        until(lambda: len(of_type(made.record, "state")) == 3, what="it has answered, and waits")
        chat.leave("ann")

    thread = threading.Thread(target=answer)
    thread.start()
    assert made.go(Playing(says("Done."), says("It is 2.")), chat=chat) == DONE
    thread.join()
    assert [words(line) for line in made.said("assistant")] == ["Done.", "It is 2."]
    reasons = [line["reason"] for line in of_type(made.record, "state")]
    assert reasons[0] == reasons[2] == "the agent waits for what `attach --chat` tells it"
    assert reasons[1] == ""


def test_whoever_stays_away_from_a_chat_does_not_hold_the_run_for_longer_than_its_time(run):
    made, chat = run(), Chat()
    chat.join("ann")
    assert made.go(Playing(says("Done.")), chat=chat, left_s=0.5) == DONE


def test_a_run_that_waits_for_words_can_be_cancelled(run):
    made, chat = run(), Chat()
    chat.join("ann")
    cancelled = Outcome("cancelled", "by somebody", 130)

    def cancel():
        until(lambda: of_type(made.record, "state"), what="it waits")
        made.stop.outcome = cancelled

    threading.Thread(target=cancel).start()
    assert made.go(Playing(says("Done.")), chat=chat) == cancelled


def test_a_reply_that_is_interrupted_is_kept_as_far_as_it_came(run):
    made, chat = run(), Chat()
    chat.join("ann")

    def cut(stopped, **_):
        chat.stop()
        assert until(stopped, 5, what="it is told to stop")
        spoken(chat, "Look at the second.")
        return says("I look at the fi", stop="interrupted")

    provider = Playing(cut, lambda **_: chat.leave("ann") or says("Done."))
    assert made.go(provider, chat=chat) == DONE
    assert [words(line) for line in made.said("assistant")] == ["I look at the fi", "Done."]
    last = provider.asked[1][-1]
    assert [block["text"] for block in last["content"]] == [
        "[runner] Somebody who watches has interrupted you.",
        "Look at the second.",
    ]
    assert complaint({"model": "m", "max_tokens": 1, "messages": provider.asked[1]}) == ""


def test_a_reply_that_does_not_heed_an_interrupt_is_dropped(run):
    made, chat, gate = run(), Chat(), threading.Event()

    def deaf(**_):
        chat.stop()
        gate.wait(20)
        return says("Too late.")

    provider = Playing(deaf, says("Done."))
    assert made.go(provider, chat=chat) == DONE  # nobody is there who is to say what next
    gate.set()
    assert [words(line) for line in made.said("assistant")] == ["Done."]
    assert "has interrupted you" in words(made.said("user")[1])


def test_calls_after_an_interrupted_one_are_not_run(run):
    made, chat = run(), Chat()

    def stopped():
        chat.stop()
        until(lambda: not chat.stopped, 5, what="it is heeded")
        return text("KeyboardInterrupt", is_error=True)

    tools = Tools(stopped)
    two = says("Now.", call("run_cell", "t1", source="1"), call("run_cell", "t2", source="2"))
    assert made.go(Playing(two, says("Done.")), tools, chat=chat) == DONE
    assert [op for _, op, _ in tools.calls] == ["run-1-1-1"]
    assert [words(line) for line in made.results()] == [
        "KeyboardInterrupt",
        "not run: somebody who watches interrupted",
    ]


def test_a_call_elsewhere_that_is_interrupted_is_given_up(run):
    made, chat, gate = run(), Chat(), threading.Event()

    def deaf():
        chat.stop()
        gate.wait(20)
        return text("Too late.")

    asks = Playing(says("Now.", call("mcp__papers__find", "t1")), says("Done."))
    assert made.go(asks, Tools(deaf), chat=chat) == DONE
    gate.set()
    assert "what became of it is not known" in words(made.results()[0])


def test_an_agent_that_was_killed_when_it_was_interrupted_goes_on(run):
    made = run()
    cut = says("I look at the fi", stop="interrupted")
    made.go(Playing(cut, says("Done.")))
    lines = lines_of(made.record)
    at = next(n for n, line in enumerate(lines) if line.get("stop_reason") == "interrupted")
    conversation = told(lines[: at + 1])
    assert conversation.stop_reason == "interrupted"
    provider = Playing(says("Done."))
    again = run()
    loop = Loop(
        again.plan, again.record, conversation, provider, Tools(), again.stop, 60, "Be brief."
    )
    assert loop.run() == DONE
    assert provider.asked[0][-1]["role"] == "user"
