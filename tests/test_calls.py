"""The channels of a sandbox server: each part is there once, in order, and nobody waits in vain."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from runner.sandbox import calls
from runner.sandbox.calls import CallGone, Channel, ChannelClosed, Channels

Notes = list[dict[str, Any]]


def on(work: Callable[[Channel, Notes], Awaitable[None]]) -> None:
    """Run `work` with an open channel, and what it notes in the journal."""

    async def run() -> None:
        notes: Notes = []
        channels = Channels(lambda type, **fields: notes.append({"type": type, **fields}))
        await work(channels.open("c"), notes)

    asyncio.run(asyncio.wait_for(run(), 10))


def test_a_call_and_its_answer() -> None:
    async def work(channel: Channel, notes: Notes) -> None:
        waiting = asyncio.create_task(channel.next(0, 5))
        await asyncio.sleep(0)
        assert await channel.ask("a", b"how much?", 0)
        call = await waiting
        assert call is not None
        assert (call.id, call.number, call.body) == ("a", 1, b"how much?")
        assert await channel.next(1, 0) is None
        taking = asyncio.create_task(channel.take("a", 0, 5))
        await asyncio.sleep(0)
        assert await channel.answer("a", 1, b"so ", end=False, wait_s=0)
        assert await taking == (b"so ", 1, False)
        assert await channel.answer("a", 2, b"much", end=True, wait_s=0)
        assert await channel.take("a", 1, 0) == (b"much", 2, True)
        channel.give_up("a")
        assert [(note["event"], note.get("text")) for note in notes] == [
            ("begin", "how much?"),
            ("end", "so much"),
        ]

    on(work)


def test_what_is_asked_or_sent_again_is_there_once() -> None:
    async def work(channel: Channel, notes: Notes) -> None:
        for _ in range(2):
            assert await channel.ask("a", b"x", 0)
        for _ in range(2):
            assert await channel.answer("a", 1, b"1", end=False, wait_s=0)
        for _ in range(2):  # an answer that was lost on its way is asked for again
            assert await channel.take("a", 0, 0) == (b"1", 1, False)
        with pytest.raises(ValueError, match="part 3 after part 1"):
            await channel.answer("a", 3, b"3", end=True, wait_s=0)
        assert await channel.answer("a", 2, b"2", end=True, wait_s=0)
        assert await channel.answer("a", 2, b"2", end=True, wait_s=0)
        assert await channel.take("a", 0, 0) == (b"12", 2, True)
        assert len(notes) == 2

    on(work)


def test_who_answers_waits_for_a_slow_caller(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "HOLD_AT_MOST", 10)
    monkeypatch.setattr(calls, "HOLD_AT_LEAST", 5)

    async def work(channel: Channel, _: Notes) -> None:
        await channel.ask("a", b"", 0)
        assert await channel.answer("a", 1, b"x" * 10, end=False, wait_s=0)
        assert not await channel.answer("a", 2, b"y", end=True, wait_s=0)
        sending = asyncio.create_task(channel.answer("a", 2, b"y", end=True, wait_s=5))
        await asyncio.sleep(0)
        assert await channel.take("a", 0, 0) == (b"x" * 10, 1, False)
        assert await channel.take("a", 1, 5) == (b"y", 2, True)
        assert await sending

    on(work)


def test_nobody_waits_for_what_will_not_come() -> None:
    async def work(channel: Channel, notes: Notes) -> None:
        await channel.ask("a", b"", 0)
        await channel.ask("b", b"", 0)
        channel.give_up("a")
        assert notes[-1]["event"] == "given up"
        with pytest.raises(CallGone):
            await channel.answer("a", 1, b"", end=True, wait_s=5)
        waiting = [
            asyncio.create_task(work) for work in (channel.next(2, 5), channel.take("b", 0, 5))
        ]
        await asyncio.sleep(0)
        channel.close("it has ended")
        for task in waiting:
            with pytest.raises(ChannelClosed, match="it has ended"):
                await task
        with pytest.raises(ChannelClosed, match="it has ended"):
            await channel.ask("c", b"", 0)

    on(work)


def test_a_caller_that_is_gone_is_forgotten(monkeypatch: pytest.MonkeyPatch) -> None:
    async def work(channel: Channel, _: Notes) -> None:
        await channel.ask("a", b"", 0)
        monkeypatch.setattr(calls, "FORGOTTEN_S", -1.0)
        with pytest.raises(CallGone):
            await channel.answer("a", 1, b"", end=True, wait_s=0)
        assert not channel.calls

    on(work)


@pytest.mark.parametrize("limit", ["MOST_CALLS", "BODIES_AT_MOST"])
def test_too_many_calls_wait(monkeypatch: pytest.MonkeyPatch, limit: str) -> None:
    monkeypatch.setattr(calls, limit, 1)

    async def work(channel: Channel, _: Notes) -> None:
        assert await channel.ask("a", b"xx", 0)  # one there always is room for
        assert not await channel.ask("b", b"x", 0)
        asking = asyncio.create_task(channel.ask("b", b"x", 5))
        await asyncio.sleep(0)
        channel.give_up("a")
        assert await asking

    on(work)


def test_one_slow_caller_does_not_stop_the_others(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "HOLD_AT_MOST", 10)
    monkeypatch.setattr(calls, "HOLD_AT_LEAST", 5)

    async def work(channel: Channel, _: Notes) -> None:
        for id in ("slow", "other"):
            await channel.ask(id, b"", 0)
        assert await channel.answer("slow", 1, b"x" * 20, end=False, wait_s=0)
        assert not await channel.answer("slow", 2, b"x", end=False, wait_s=0)
        assert await channel.answer("other", 1, b"x" * 4, end=False, wait_s=0)
        assert await channel.answer("other", 2, b"x" * 4, end=False, wait_s=0)
        assert not await channel.answer("other", 3, b"x", end=False, wait_s=0)

    on(work)


def test_tokens_are_for_one_side_of_one_channel() -> None:
    async def run() -> None:
        channels = Channels(lambda *_, **__: None)
        one, other = channels.open("one"), channels.open("other")
        assert channels.open("one") is one
        assert one.admits(one.caller, serving=False)
        assert one.admits(one.server, serving=True)
        for token in (one.server, other.caller, "", None):
            assert not one.admits(token, serving=False)
        with pytest.raises(ChannelClosed, match="there is no channel third"):
            channels.find("third")
        one.close("why")
        assert channels.open("one") is not one

    asyncio.run(run())
