"""A transcript's lines make a conversation that the Messages API takes, at every moment."""

from __future__ import annotations

import copy
import json

import pytest
from agent_parts import USAGE, call, says, told
from hypothesis import given
from hypothesis import strategies as st
from messages_api import complaint

from runner.agent.conversation import sendable
from runner.agent.providers import Reply

TASK = {"type": "message", "turn": 0, "role": "user", "content": [{"type": "text", "text": "Go."}]}


def assistant(turn, *blocks, stop="tool_use", **more):
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    line = {"type": "message", "turn": turn, "role": "assistant", "content": content}
    return line | {"stop_reason": stop, "usage": USAGE, "cost_usd": 0.5, "model": "m"} | more


def result(turn, position, key, *blocks, is_error=False):
    content = [{"type": "text", "text": b} if isinstance(b, str) else b for b in blocks]
    line = {"type": "tool_result", "turn": turn, "tool_use_id": key, "tool": "run_cell"}
    return line | {"op": f"run-1-{turn}-{position}", "content": content, "is_error": is_error}


def note(text, about=""):
    line = {"type": "message", "turn": 1, "role": "user", "notice": about}
    return line | {"content": [{"type": "text", "text": text}]}


def sent(conversation):
    return {"model": "m", "max_tokens": 1, "messages": conversation.messages}


def test_calls_are_open_until_they_have_a_result():
    lines = [TASK, assistant(1, "Now.", call("a", "t1"), call("b", "t2"))]
    conversation = told(lines)
    assert [c.op("run-1") for c in conversation.calls] == ["run-1-1-1", "run-1-1-2"]
    conversation.apply(result(1, 1, "t1", "one"))
    assert [c.block["id"] for c in conversation.calls] == ["t2"]
    conversation.apply(result(1, 2, "t2", "two", is_error=True))
    assert conversation.calls == []
    results = conversation.messages[-1]["content"]
    assert [(r["tool_use_id"], r.get("is_error")) for r in results] == [("t1", None), ("t2", True)]
    assert complaint(sent(conversation)) == ""


def test_a_result_answers_the_call_in_its_place_whatever_its_id():
    conversation = told([TASK, assistant(1, call("a", "same"), call("b", "same"))])
    conversation.apply(result(1, 1, "same", "one"))
    assert [c.position for c in conversation.calls] == [2]


def test_text_after_results_and_after_text_is_one_message_of_the_user():
    lines = [TASK, assistant(1, call("a", "t1")), result(1, 1, "t1", "one"), note("Wrap up.")]
    conversation = told(lines)
    assert [m["role"] for m in conversation.messages] == ["user", "assistant", "user"]
    assert [b["type"] for b in conversation.messages[-1]["content"]] == ["tool_result", "text"]
    assert complaint(sent(conversation)) == ""


def test_what_was_handed_out_does_not_change_nor_do_the_lines():
    lines = [TASK, assistant(1, call("a", "t1"), call("b", "t2")), result(1, 1, "t1", "one")]
    kept = copy.deepcopy(lines)
    conversation = told(lines)
    handed, before = list(conversation.messages), json.dumps(conversation.messages)
    conversation.apply(result(1, 2, "t2", "two"))
    conversation.apply(note("Wrap up."))
    assert json.dumps(handed) == before
    assert lines == kept


def test_an_empty_message_is_counted_and_not_sent():
    conversation = told([TASK, assistant(1, stop="end_turn")])
    assert (conversation.turns, conversation.empty, conversation.stop_reason) == (1, 1, "end_turn")
    assert [m["role"] for m in conversation.messages] == ["user"]
    conversation.apply(note("Your last message was empty."))
    conversation.apply(assistant(2, "Sorry.", stop="end_turn"))
    assert conversation.empty == 0
    assert [m["role"] for m in conversation.messages] == ["user", "assistant"]


def test_a_paused_message_goes_on_in_the_same_message():
    lines = [TASK, assistant(1, "One", stop="pause_turn"), assistant(2, "two", stop="end_turn")]
    conversation = told(lines)
    assert [m["role"] for m in conversation.messages] == ["user", "assistant"]
    assert conversation.stop_reason == "end_turn"


def test_what_a_refusal_said_is_not_sent_back_and_not_done():
    refused = assistant(1, "I will", call("a", "t1"), stop="refusal")
    conversation = told([TASK, refused])
    assert (conversation.stop_reason, conversation.calls) == ("refusal", [])
    assert conversation.messages == [{"role": "user", "content": TASK["content"]}]
    conversation.apply({"type": "attempt"})
    assert conversation.stop_reason == "", "a resumed run asks once more"


def test_calls_are_meant_for_the_sandbox_of_their_time():
    lines = [TASK, {"type": "sandbox", "boot": "A"}, assistant(1, call("a", "t1"))]
    conversation = told([*lines, {"type": "sandbox", "boot": "B"}])
    assert [c.boot for c in conversation.calls] == ["A"]
    assert (conversation.boot, conversation.asked) == ("B", "A")


def test_usage_images_and_notices_are_counted():
    image = {"type": "image", "source": {}}
    lines = [TASK, assistant(1, call("a", "t1")), result(1, 1, "t1", image, "x", image)]
    lines += [note("Wrap up.", "turns"), assistant(2, "Done.", cost_usd=None)]
    conversation = told(lines)
    assert (conversation.turns, conversation.tokens, conversation.images) == (2, 400, 2)
    assert (conversation.turn_tokens, conversation.turn_cost_usd) == (200, 0.0)
    assert conversation.cost_usd == 0.5
    assert conversation.notices == {"turns"}


def test_a_malformed_call_says_so():
    conversation = told([TASK, assistant(1, call("a", "t1"), malformed={"t1": "cut off"})])
    assert conversation.calls[0].malformed == "cut off"


# -- replies as they are written down ----------------------------------------------------------


def test_repeated_and_empty_ids_become_unique_and_keep_their_words():
    good, bad = call("run_cell", "x", source="1"), call("run_cell", "x")
    none = {**call("wait"), "id": ""}
    reply = says(good, bad, none, malformed={"x": "no JSON"})
    content, malformed = sendable(reply, taken={"toolu_3"})
    assert [block["id"] for block in content] == ["x", "x_2", "toolu_3_3"]
    assert malformed == {"x_2": "no JSON"}
    content, _ = sendable(says(call("wait", "x")), taken={"x", "x_2"})
    assert content[0]["id"] == "x_1"
    assert good["id"] == "x", "the reply itself is left as it is"


def test_half_surrogates_cannot_be_sent():
    reply = says("a\ud83d", call("write_file", content="\udc00b", path="ok"))
    content, _ = sendable(reply, ())
    json.dumps(content, ensure_ascii=False).encode()
    assert content[0]["text"] == "a?"
    assert content[1]["input"] == {"content": "?b", "path": "ok"}


# -- any transcript, cut anywhere --------------------------------------------------------------

turns = st.lists(
    st.tuples(
        st.booleans(),
        st.lists(st.sampled_from(["a", "b", ""]), max_size=3),
        st.booleans(),
        st.sampled_from(["tool_use", "max_tokens", "pause_turn", "end_turn"]),
    ),
    min_size=1,
    max_size=6,
)


@pytest.mark.parametrize("cut", [False, True])
@given(turns=turns)
def test_any_run_makes_requests_that_the_api_takes(cut, turns):
    conversation = told([TASK])
    for number, (speaks, ids, noted, stop) in enumerate(turns, 1):
        blocks = [{"type": "text", "text": "Now."}] if speaks else []
        blocks += [call("run_cell", source="1") | {"id": key} for key in ids]
        content, malformed = sendable(Reply(blocks, stop, USAGE, "m"), conversation.ids)
        line = assistant(number, *content, stop=stop, malformed=malformed)
        conversation.apply(json.loads(json.dumps(line)))
        for c in conversation.calls:
            conversation.apply(result(number, c.position, c.block["id"], "[ok]"))
        if noted or conversation.messages[-1]["role"] == "assistant":
            conversation.apply(note("Go on."))
        assert complaint(sent(conversation)) == ""
        every = [b for m in conversation.messages for b in m["content"]]
        ids_sent = [block["id"] for block in every if block["type"] == "tool_use"]
        assert len(set(ids_sent)) == len(ids_sent)
