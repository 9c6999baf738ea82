"""The real SDK against a server on loopback, fault by fault; and the scripted provider."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest
from messages_api import messages_api

from runner.agent.providers import ProviderRefused
from runner.agent.providers.anthropic import Anthropic, retry_after_s
from runner.agent.providers.scripted import Scripted, load
from runner.errors import ConfigError, InfrastructureError

KEY = "sk-ant-canary-0123456789"
ASK = [{"role": "user", "content": "Go."}]
TOOLS = [{"name": "run_cell", "description": "Run.", "input_schema": {"type": "object"}}]
CALL = {"name": "run_cell", "input": {"source": "print(1)\n" * 5, "timeout": None}}


class Heard:
    """What a provider told its caller."""

    def __init__(self):
        self.text, self.retries, self.slept = [], [], []

    def retry(self, reason, delay_s):
        self.retries.append((reason, delay_s))

    def ask(self, provider, messages=ASK, system="Be brief.", stopped=lambda: False):
        return provider.reply(
            system=system,
            messages=messages,
            tools=TOOLS,
            on_text=self.text.append,
            on_retry=self.retry,
            stopped=stopped,
        )


@pytest.fixture
def heard():
    return Heard()


@pytest.fixture
def play(heard):
    """Serve a script and ask once: (reply, server)."""

    def play(*script, messages=ASK, **options):
        options = {"deadline_s": 60, "sleep": heard.slept.append, **options}
        with messages_api(script) as server:
            provider = Anthropic("model-1", KEY, base_url=server.url, **options)
            try:
                return heard.ask(provider, messages), server
            finally:
                provider.close()

    return play


def test_a_reply_is_plain_blocks_and_goes_back_as_it_is(play, heard):
    reply, _ = play({"text": "I will look at the data first.", "tools": [CALL]})
    assert reply.content == [
        {"type": "text", "text": "I will look at the data first."},
        {"type": "tool_use", "id": "toolu_1_1", **CALL},
    ]
    assert (reply.stop_reason, reply.model, reply.malformed) == ("tool_use", "model-1", {})
    assert reply.usage == {
        "input_tokens": 100,
        "output_tokens": 20,
        "cache_read_input_tokens": 30,
        "cache_creation_input_tokens": 40,
    }
    assert "".join(heard.text) == "I will look at the data first."
    assert len(heard.text) > 1
    result = {"type": "tool_result", "tool_use_id": "toolu_1_1", "content": "1"}
    messages = [
        *ASK,
        {"role": "assistant", "content": reply.content},
        {"role": "user", "content": [result]},
    ]
    assert play({"text": "Done."}, messages=messages)[0].stop_reason == "end_turn"


def test_a_request_has_the_key_tools_and_two_cache_breakpoints(play):
    _, server = play({"text": "Yes."})
    (request,) = server.requests
    assert request.headers["authorization"] == f"Bearer {KEY}"
    mark = {"cache_control": {"type": "ephemeral"}}
    assert request.body == {
        "model": "model-1",
        "max_tokens": 16_384,
        "stream": True,
        "system": [{"type": "text", "text": "Be brief.", **mark}],
        "tools": TOOLS,
        "messages": [{"role": "user", "content": [{"type": "text", "text": "Go.", **mark}]}],
    }
    assert ASK == [{"role": "user", "content": "Go."}], "the caller's messages are left alone"


@pytest.mark.parametrize(
    ("fault", "reason"),
    [
        ({"status": 429}, "429 rate_limit_error"),
        ({"status": 500}, "500 api_error"),
        ({"status": 529}, "529 overloaded_error"),
        ({"status": 400, "headers": {"x-should-retry": "true"}}, "400 invalid_request_error"),
        ({"text": "Half a sen", "cut": "broken"}, "the stream was cut"),
        ({"text": "Half a sen", "cut": "clean"}, "the stream was cut"),
        ({"text": "Half a sen", "event": "overloaded_error"}, "overloaded_error: says the"),
        ({"body": "event: message_start\ndata: {\n\n", "content_type": "text/event-stream"}, "cut"),
    ],
)
def test_a_passing_fault_is_tried_again(play, heard, fault, reason):
    reply, server = play(fault, fault, {"text": "Whole."})
    assert reply.content == [{"type": "text", "text": "Whole."}]
    assert len(server.requests) == 3
    assert server.requests[0].body == server.requests[2].body
    assert [reason in told for told, _ in heard.retries] == [True, True]
    assert heard.slept == [delay for _, delay in heard.retries]
    assert 0.5 <= heard.slept[0] <= 1.0 <= heard.slept[1] <= 1.5, "exponential, with jitter"


@pytest.mark.parametrize("headers", [{"retry-after-ms": "50"}, {"retry-after": "0.05"}])
def test_the_servers_own_delay_is_kept(play, heard, headers):
    started = time.monotonic()
    play({"status": 429, "headers": headers}, {"text": "Now."}, sleep=time.sleep)
    assert [delay for _, delay in heard.retries] == [pytest.approx(0.05)]
    assert time.monotonic() - started >= 0.05


def test_retry_after_is_read_as_the_standard_has_it():
    assert retry_after_s({"retry-after": "Thu, 01 Jan 1970 00:00:30 GMT"}, now=10) == 20
    for value in ("", "soon", "-3", "0", "nan", "inf"):
        assert retry_after_s({"retry-after": value}) is None


def test_retries_end_at_the_deadline(play, heard):
    with pytest.raises(InfrastructureError, match=r"no whole reply within 4 s: 529 overloaded"):
        play(*[{"status": 529}] * 9, deadline_s=4)
    assert 2 <= len(heard.slept) <= 4
    heard.slept.clear()
    with pytest.raises(InfrastructureError, match="429"):
        play({"status": 429, "headers": {"retry-after": "3600"}})
    assert heard.slept == [], "a wait past the deadline is not begun"


def test_a_silent_and_an_endless_stream_count_as_cut(play, heard):
    slow = {"text": "x" * 50, "delay_s": 0.3}
    assert play(slow, {"text": "Quick."}, read_timeout_s=0.1)[0].content[0]["text"] == "Quick."
    assert "cut" in heard.retries[0][0]
    endless = {"text": "x" * 1000, "delay_s": 0.02}
    with pytest.raises(InfrastructureError, match="still streaming at the deadline"):
        play(endless, deadline_s=0.1)


def test_nobody_listening_is_tried_again_and_then_named(heard):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        provider = Anthropic("m", KEY, base_url=url, deadline_s=3, sleep=heard.slept.append)
        with pytest.raises(InfrastructureError, match=r"connection failed: .*refused"):
            heard.ask(provider)
        provider.close()
    assert heard.slept


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_a_refusal_is_final_and_in_the_servers_words(play, heard, status):
    with pytest.raises(ProviderRefused, match=f"{status} .*: no such thing") as caught:
        play({"status": status, "message": "no such thing"})
    assert heard.retries == []
    assert caught.value.exit_status == 1


def test_a_server_that_speaks_something_else_is_named(play):
    with pytest.raises(ProviderRefused, match="answered 200 with text/html"):
        play({"body": "<h1>Log in</h1>"})


def test_the_key_shows_nowhere(play):
    assert KEY not in repr(Anthropic("m", KEY))
    for fault in ({"status": 401}, {"status": 529}, {"text": "x", "event": "api_error"}):
        with pytest.raises((ProviderRefused, InfrastructureError)) as caught:
            play({**fault, "message": f"bad key {KEY}"}, deadline_s=0.1)
        assert "bad key ***" in str(caught.value)
        assert caught.value.__suppress_context__
    for bad in ("", "  \n", "sk\nant", "schlüssel"):
        with pytest.raises(ConfigError) as error:
            Anthropic("m", bad)
        assert not bad.strip() or bad not in str(error.value)


@pytest.mark.parametrize("raw", ['{"source": print(1)}', '{"a": 1', "[1]", "x", '{"a": 1}}'])
def test_input_that_is_not_json_costs_one_call_only(play, raw):
    bad, good = {"name": "run_cell", "raw": raw}, {**CALL, "id": "good"}
    reply, server = play({"text": "Two.", "tools": [bad, good]})
    assert [block.get("input") for block in reply.content] == [None, {}, CALL["input"]]
    assert list(reply.malformed) == ["toolu_1_1"]
    assert "Nothing was run. Send the call again." in reply.malformed["toolu_1_1"]
    assert reply.usage["output_tokens"] == 20, "the message was read to its end"
    assert len(server.requests) == 1


@pytest.mark.parametrize("raw", ['{"source": "print(', ""])
def test_a_call_cut_by_max_tokens_is_not_run(play, raw):
    tools = [CALL, {"name": "run_cell", "raw": raw}]
    reply, _ = play({"tools": tools, "stop_reason": "max_tokens"})
    assert reply.stop_reason == "max_tokens"
    assert [block["input"] for block in reply.content] == [CALL["input"], {}]
    assert list(reply.malformed) == ["toolu_1_2"]
    assert "cut off (max_tokens)" in reply.malformed["toolu_1_2"]
    assert "Send less at a time" in reply.malformed["toolu_1_2"]


def test_a_call_without_input_is_whole(play):
    reply, _ = play({"tools": [{"name": "restart_kernel", "raw": ""}]})
    assert (reply.content[0]["input"], reply.malformed) == ({}, {})


def test_a_models_own_refusal_and_an_empty_message_are_replies(play):
    assert play({"text": "I can't.", "stop_reason": "refusal"})[0].stop_reason == "refusal"
    assert play({"text": ""})[0].content == []


def test_what_the_caller_raises_is_not_a_fault_of_the_stream(heard):
    def stop(text):
        raise ValueError("stop")

    with messages_api([{"text": "Hello"}]) as server:
        provider = Anthropic("m", KEY, base_url=server.url)
        heard.text = type("", (), {"append": staticmethod(stop)})
        with pytest.raises(ValueError, match="stop"):
            heard.ask(provider)
        provider.close()
    assert heard.retries == []


def _turn(calls, results, role="user"):
    return [
        {"role": "assistant", "content": [{"type": "tool_use", "id": i, **CALL} for i in calls]},
        {
            "role": role,
            "content": [{"type": "tool_result", "tool_use_id": i, "content": "1"} for i in results]
            or [{"type": "text", "text": "So?"}],
        },
    ]


@pytest.mark.parametrize(
    ("messages", "words"),
    [
        ([*ASK, *_turn(["a"], [])], "must have `tool_result` blocks"),
        ([*ASK, *_turn(["a"], ["b"])], "must have `tool_result` blocks"),
        ([*ASK, *ASK], "alternate"),
        ([*ASK, {"role": "assistant", "content": []}, *ASK], "non-empty content"),
        ([{"role": "user", "content": " "}], "text content blocks must be non-empty"),
    ],
)
def test_the_server_refuses_what_the_real_one_would(play, messages, words):
    with pytest.raises(ProviderRefused, match=words):
        play({"text": "never"}, messages=messages)


def test_the_server_runs_as_a_process(heard, tmp_path):
    script = tmp_path / "script.json"
    script.write_text('[{"text": "From afar."}]')
    command = [sys.executable, str(Path(__file__).with_name("messages_api.py")), "--script", script]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            provider = Anthropic("m", KEY, base_url=process.stdout.readline().strip())
            assert heard.ask(provider).content[0]["text"] == "From afar."
            provider.close()
        finally:
            process.terminate()


# --- scripted ---


@pytest.fixture
def script(tmp_path):
    def write(steps, **more):
        path = tmp_path / "script.json"
        path.write_text(steps if isinstance(steps, str) else json.dumps({"steps": steps, **more}))
        return path

    return write


def test_a_script_is_played_step_by_step_from_the_conversation_alone(script, heard, tmp_path):
    (tmp_path / "look.py").write_text("print(6 * 7)\n")
    steps = load(
        script(
            [
                {
                    "text": "Look.",
                    "tools": [
                        {"name": "run_cell", "input": {"source_file": "look.py", "timeout": 9}},
                        {"name": "run_cell", "input": {"source": ["a = 1", "a"]}},
                        {"name": "read_notebook"},
                    ],
                },
                {"expect": r"^4\d$", "text": "Done: 42."},
            ]
        )
    )
    steps = json.loads(json.dumps(steps))
    first = heard.ask(Scripted(steps))
    assert [block.get("input") for block in first.content] == [
        None,
        {"timeout": 9, "source": "print(6 * 7)\n"},
        {"source": "a = 1\na"},
        {},
    ]
    assert [block.get("id", "")[-3:] for block in first.content] == ["", "1_1", "1_2", "1_3"]
    assert (first.stop_reason, first.model, sum(first.usage.values())) == (
        "tool_use",
        "scripted",
        0,
    )
    results = [
        {
            "type": "tool_result",
            "tool_use_id": "x",
            "content": [{"type": "text", "text": "42\n[ok]"}],
        }
    ]
    messages = [*ASK, {"role": "assistant", "content": first.content}]
    messages.append({"role": "user", "content": results})
    second = heard.ask(Scripted(steps), messages)
    assert second.content == [{"type": "text", "text": "Done: 42."}]
    assert second.stop_reason == "end_turn"
    messages += [{"role": "assistant", "content": second.content}, *ASK]
    assert "has 2 steps" in heard.ask(Scripted(steps), messages).content[0]["text"]
    assert heard.text[:2] == ["Look.", "Done: 42."]


def test_a_script_cannot_claim_what_did_not_happen(heard):
    steps = [{"text": "a"}, {"text": "All four found.", "expect": r"found 4"}]
    result = {"type": "tool_result", "tool_use_id": "x", "content": "NameError: found"}
    messages = [*ASK, {"role": "assistant", "content": "a"}, {"role": "user", "content": [result]}]
    with pytest.raises(ProviderRefused, match=r"step 2 .*'found 4', got:\nNameError: found"):
        heard.ask(Scripted(steps), messages)


@pytest.mark.parametrize(
    ("steps", "words"),
    [
        ("{", "script.json: line 1, column 2: expected JSON"),
        ([], "steps: expected"),
        ([{"text": 3}], r"steps\[0\].text: expected .*string.*found 3"),
        ([{"tool": []}], r"(?s)steps\[0\].tool: expected a known key.*did you mean `tools`"),
        ([{"text": " "}], r"steps\[0\]: expected `text` or `tools`"),
        ([{"text": "a"}, {"text": "b", "expect": "("}], r"steps\[1\].expect: expected a regular"),
        ([{"text": "a", "expect": "b"}], "no `expect` in the first step"),
        ([{"tools": [{"name": ""}]}], r"steps\[0\].tools\[0\].name"),
        (
            [{"tools": [{"name": "a", "input": {"source_file": "no.py"}}]}],
            "source_file: .*no.py: No",
        ),
        ([{"tools": [{"name": "a", "input": {"source_file": 1}}]}], "either `source`"),
        (
            [{"tools": [{"name": "a", "input": {"source": [1]}}]}],
            "source: expected a list of lines",
        ),
    ],
)
def test_a_wrong_script_names_file_and_key(script, steps, words):
    with pytest.raises(ConfigError, match=words) as caught:
        load(script(steps))
    assert caught.value.file.endswith("script.json")


def test_a_script_that_is_not_there_or_not_text(tmp_path):
    with pytest.raises(ConfigError, match="No such file"):
        load(tmp_path / "none.json")
    (tmp_path / "binary.json").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="not UTF-8"):
        load(tmp_path / "binary.json")


# -- stopped -----------------------------------------------------------------------------------


def test_a_reply_that_is_stopped_is_what_has_come_of_it(heard):
    reply = {"text": "I shall look at the first one. " * 20, "tools": [CALL], "delay_s": 0.02}
    with messages_api([reply]) as server:
        provider = Anthropic("model-1", KEY, base_url=server.url)
        made = heard.ask(provider, stopped=lambda: len(heard.text) >= 3)
        provider.close()
    assert made.stop_reason == "interrupted"
    assert made.content == [{"type": "text", "text": "".join(heard.text)}]
    assert 0 < len("".join(heard.text)) < len(reply["text"])
    assert made.usage["input_tokens"] == 100


def test_a_call_that_was_not_whole_is_left_out(heard):
    seen = []
    reply = {"text": "Now.", "tools": [{"name": "run_cell", "raw": '{"source": "' + "1\\n" * 99}]}
    with messages_api([reply]) as server:
        provider = Anthropic("model-1", KEY, base_url=server.url)
        made = heard.ask(provider, stopped=lambda: seen.append(0) or len(seen) > 12)
        provider.close()
    assert made.stop_reason == "interrupted"
    assert [block["type"] for block in made.content] == ["text"]


def test_nobody_is_asked_again_for_a_reply_that_is_stopped(heard):
    with messages_api([{"status": 529}, {"text": "Too late."}]) as server:
        provider = Anthropic("model-1", KEY, base_url=server.url, sleep=heard.slept.append)
        made = heard.ask(provider, stopped=lambda: bool(heard.slept))
        provider.close()
        assert len(server.requests) == 1
    assert (made.content, made.stop_reason) == ([], "interrupted")
