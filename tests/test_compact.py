"""A long conversation is kept small without breaking it, or the prompt cache."""

from __future__ import annotations

import json

from hypothesis import given, settings
from hypothesis import strategies as st
from messages_api import complaint

from runner.agent.compact import _size, compact

IMAGE = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A"}}


def conversation(results):
    """One turn per entry: (length of the text, whether there is an image)."""
    messages = [{"role": "user", "content": "Find the planted ones."}]
    for turn, (length, image) in enumerate(results):
        call = {"type": "tool_use", "id": f"t{turn}", "name": "run_cell", "input": {"source": "x"}}
        text = {"type": "text", "text": "y" * length + f"\n[ok; 0.1 s; cell c{turn}]"}
        result = {
            "type": "tool_result",
            "tool_use_id": f"t{turn}",
            "content": [*([IMAGE] if image else []), text],
        }
        messages.append({"role": "assistant", "content": [call]})
        messages.append({"role": "user", "content": [result]})
    return messages


def texts(message):
    return [part.get("text", "") for part in message["content"][0]["content"]]


def test_a_short_conversation_is_left_alone():
    messages = conversation([(1_000, True)] * 3)
    assert compact(messages, keep_last=4, limit_chars=100_000) == messages


def test_old_results_become_one_line_that_names_the_cell():
    messages = conversation([(5_000, False)] * 20)
    before = json.dumps(messages)
    small = compact(messages, keep_last=6, limit_chars=40_000)
    assert json.dumps(messages) == before
    assert texts(small[2]) == [
        "[result of run_cell: 5,021 characters, left out of the conversation by now; "
        "read_notebook and read_cell show cells again]\n[ok; 0.1 s; cell c0]"
    ]
    assert small[-6:] == messages[-6:]
    assert small[1::2] == messages[1::2], "what the assistant said and called"
    assert _size(small) <= 40_000


def test_images_go_before_text():
    messages = conversation([(600, True)] * 10)
    small = compact(messages, keep_last=2, limit_chars=60_000)
    assert texts(small[2])[0] == "[an image, left out of the conversation by now]"
    assert texts(small[2])[1].startswith("yyy")


def test_results_given_as_a_string_and_errors_are_kept_apart():
    messages = conversation([(9_000, False)] * 4)
    for message in messages[2::2]:
        result = message["content"][0]
        result["content"] = result["content"][0]["text"]
        result["is_error"] = True
    small = compact(messages, keep_last=2, limit_chars=10_000)
    assert small[2]["content"][0]["is_error"] is True
    assert "9,021 characters" in texts(small[2])[0]


def test_the_prefix_changes_in_big_steps():
    messages = conversation([(1_000, False)] * 200)
    changes, before = 0, []
    for end in range(1, len(messages) + 1, 2):
        now = compact(messages[:end], keep_last=6, limit_chars=40_000)
        changes += now[: len(before)] != before
        before = now
    assert 5 <= changes <= 12, "20,000 characters at a time"


turns = st.lists(st.tuples(st.integers(0, 3_000), st.booleans()), max_size=25)


@settings(deadline=None, max_examples=50)
@given(turns, st.integers(0, 8), st.integers(1, 60_000))
def test_pairs_stay_whole_and_a_second_time_changes_nothing(results, keep_last, limit):
    messages = conversation(results)
    small = compact(messages, keep_last=keep_last, limit_chars=limit)
    assert complaint({"model": "m", "max_tokens": 1, "messages": small}) == ""
    assert len(small) == len(messages)
    assert small[len(small) - keep_last :] == messages[len(small) - keep_last :]
    if _size(small) <= limit:
        assert compact(small, keep_last=keep_last, limit_chars=limit) == small


@settings(deadline=None, max_examples=50)
@given(turns, st.integers(0, 8), st.integers(1, 60_000))
def test_what_was_left_out_stays_out(results, keep_last, limit):
    messages, gone = conversation(results), 0
    for end in range(1, len(messages) + 1, 2):
        small = compact(messages[:end], keep_last=keep_last, limit_chars=limit)
        changed = [a != b for a, b in zip(small, messages, strict=False)]
        count = max((index for index, is_changed in enumerate(changed) if is_changed), default=0)
        assert count >= gone
        gone = count
