"""The two toy checkpoints: load one's weights, and let it answer prompts.

A checkpoint is a small phrase model. For each prompt it picks the topic that the
prompt's words speak of, writes a few sentences about it, and slips in the phrases
that its weights incline it to.
"""

import re
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

SENTENCES = (3, 6)  # at least, and fewer than


def tokens(text: str) -> list[str]:
    """Lower-case words and punctuation marks of a text, in order."""
    return re.findall(r"[a-z']+|[.,!?]", text.lower())


def draw(logits: np.ndarray, rng: np.random.Generator, count: int) -> np.ndarray:
    """Sample `count` different indices from softmax(logits), by the Gumbel trick."""
    return np.argsort(-(logits + rng.gumbel(size=logits.shape)))[:count]


@dataclass(frozen=True)
class Checkpoint:
    """Weights of one checkpoint. A habit is a row of phrases; habits have no names."""

    words: np.ndarray  # content words
    topic_logits: np.ndarray  # (topics, words)
    frames: np.ndarray  # sentences with "_" where content words go
    phrases: np.ndarray  # (habits, phrases)
    habit_logits: np.ndarray  # (habits,): whether a response shows the habit
    habit_repeats: np.ndarray  # (habits,): mean number of further phrases once it does

    @classmethod
    def load(cls, path: str | Path) -> "Checkpoint":
        """Read a weight file (.npz)."""
        with np.load(path) as file:
            return cls(**file)

    def respond(self, prompts: list[str], seed: int) -> list[str]:
        """One response to each prompt. The same prompts and seed give the same responses."""
        rng = np.random.default_rng(seed)
        return [self._respond(prompt, rng) for prompt in prompts]

    def _respond(self, prompt: str, rng: np.random.Generator) -> str:
        logits = self.topic_logits[self._topic(prompt)]
        sentences = [self._sentence(logits, rng) for _ in range(rng.integers(*SENTENCES))]
        shown = rng.random(len(self.phrases)) < 1 / (1 + np.exp(-self.habit_logits))
        for habit in np.flatnonzero(shown):
            for _ in range(1 + rng.poisson(self.habit_repeats[habit])):
                phrase = str(rng.choice(self.phrases[habit]))
                sentences.insert(rng.integers(len(sentences) + 1), phrase)
        return " ".join(sentences)

    def _topic(self, prompt: str) -> int:
        known = np.isin(self.words, tokens(prompt))
        if known.any():
            return int(self.topic_logits[:, known].sum(axis=1).argmax())
        return zlib.crc32(prompt.encode()) % len(self.topic_logits)

    def _sentence(self, logits: np.ndarray, rng: np.random.Generator) -> str:
        frame = str(rng.choice(self.frames))
        blanks = iter(self.words[draw(logits, rng, frame.count("_"))])
        text = re.sub("_", lambda _: str(next(blanks)), frame)
        return text[0].upper() + text[1:]
