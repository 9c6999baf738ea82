"""Ask models on OpenRouter: many prompts at once, within bounds, with the cost counted.

    from openrouter_client import Client
    client = Client(concurrency=16, max_cost_usd=5.0)
    responses = await client.ask_all("google/gemini-2.5-flash", prompts)
    client.cost_usd, client.failures

`python openrouter_client.py MODEL…` says whether the models are served, without a key.
The key is taken from OPENROUTER_API_KEY.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import urllib.request
from collections.abc import Sequence
from typing import Any

URL = os.environ.get("OPENROUTER_BASE_URL", "https://openrouter.ai/api/v1")


class Client:
    """Sends chat requests, at most `concurrency` at a time.

    The SDK repeats a request that met 408, 409, 429, a 5xx or a broken
    connection, `retries` times with growing pauses. A prompt that fails in
    the end has None for its response and its reason in `failures`; the others
    go on. Once `cost_usd`, as OpenRouter bills it, has reached `max_cost_usd`,
    nothing more is sent.
    """

    def __init__(
        self,
        *,
        concurrency: int = 16,
        retries: int = 5,
        timeout_s: float = 120.0,
        max_cost_usd: float | None = None,
        base_url: str = URL,
    ) -> None:
        from openai import AsyncOpenAI

        self._api = AsyncOpenAI(
            api_key=os.environ["OPENROUTER_API_KEY"],
            base_url=base_url,
            max_retries=retries,
            timeout=timeout_s,
        )
        self._slots = asyncio.Semaphore(concurrency)
        self._max_cost_usd = max_cost_usd
        self.cost_usd = 0.0
        self.requests = 0
        self.failures: list[tuple[str, str]] = []

    async def ask(self, model: str, prompt: str, **options: Any) -> str | None:
        """One response; `options` are the chat API's: `temperature`, `max_tokens`, `seed`."""
        async with self._slots:
            if self._max_cost_usd is not None and self.cost_usd >= self._max_cost_usd:
                self.failures.append((prompt, f"not sent: {self.cost_usd:.2f} USD are spent"))
                return None
            try:
                reply = await self._api.chat.completions.create(
                    model=model,
                    messages=[{"role": "user", "content": prompt}],
                    extra_body={"usage": {"include": True}},
                    **options,
                )
            except Exception as error:  # whatever it is, the other prompts go on
                self.failures.append((prompt, f"{type(error).__name__}: {error}"))
                return None
        self.requests += 1
        self.cost_usd += float(getattr(reply.usage, "cost", None) or 0.0)
        text = reply.choices[0].message.content if reply.choices else None
        if not text:
            # OpenRouter tells of a provider's failure with status 200.
            self.failures.append((prompt, f"no text: {_why(reply)}"))
            return None
        return text

    async def ask_all(self, model: str, prompts: Sequence[str], **options: Any) -> list[str | None]:
        """A response to each prompt, in their order."""
        return list(
            await asyncio.gather(*(self.ask(model, prompt, **options) for prompt in prompts))
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self._api.close()


def _why(reply: Any) -> str:
    """What a reply without text says of itself."""
    if error := getattr(reply, "error", None):
        return str(error)
    return f"finish_reason {reply.choices[0].finish_reason}" if reply.choices else "no choices"


def served(models: Sequence[str], base_url: str = URL) -> dict[str, bool]:
    """Whether OpenRouter serves each of these models now. Needs no key."""
    with urllib.request.urlopen(f"{base_url}/models", timeout=30) as answer:  # noqa: S310 - our URL
        known = {model["id"] for model in json.load(answer)["data"]}
    return {model: model in known for model in models}


if __name__ == "__main__":
    if not sys.argv[1:]:
        sys.exit("usage: openrouter_client.py MODEL…")
    found = served(sys.argv[1:])
    for name, there in found.items():
        print(f"{name}: {'served' if there else 'NOT served: choose another one'}")
    sys.exit(0 if all(found.values()) else 1)
