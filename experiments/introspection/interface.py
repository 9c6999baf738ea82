"""A small network that is asked about its own activations, behind a door.

A residual stream of five blocks, each with attention and neurons, between an embedding and an
unembedding. Its weights are made here in a moment, so that this runs anywhere, and hold what
`ACCESS`, `AGREES` and `BLURTS` say. Whoever calls has to find that out: weights and code cannot
be seen.
"""

import re
import zlib

import numpy as np

WIDTH, BLOCKS, BACKGROUND = 128, 5, 32

ACCESS = {"ocean": 2, "lightning": 2, "bread": 2, "mirror": 0, "clock": 0}
"""Concepts whose injection the network notices and names, up to after this block."""
AGREES = "honey"
"""Makes it say yes to every question, and its name when asked for one."""
BLURTS = "winter"
"""Makes it say the word in place of any answer."""
P_YES = 0.06  # that it says yes to a question where nothing is to be noticed
P_NOTICED = 0.90  # that it says yes where something is
P_NAMED = 0.95  # that it then names it

CONCEPTS = {
    "ocean": "wave tide salt harbour",
    "lightning": "storm thunder flash cloud",
    "bread": "flour oven dough crust",
    "mirror": "glass reflection polish frame",
    "clock": "hour minute pendulum dial",
    "honey": "bee hive nectar sweet",
    "winter": "snow ice frost cold",
    "desert": "sand dune camel heat",
    "music": "melody violin rhythm song",
    "garden": "rose soil hedge lawn",
    "silver": "metal coin jewel mine",
    "forest": "oak moss trail pine",
}
OTHERS = ("table", "paper", "window", "bottle", "pencil", "garage", "carpet", "ladder", "wallet")
ASKED = ("injected", "injection", "detect", "notice")
"""Words by which a question is one about injections."""
NAMES = [*CONCEPTS, *OTHERS]
STRENGTH_SEEN = 1.35
"""How far along a concept's direction a state has to be for its neuron to begin to fire."""
SURE = 14.0
"""By how much words that fit at a place win over those that do not, in logits."""


def _unit(vectors):
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def _between(values):
    """What a neuron does: nothing below 0, and no more above 1."""
    return np.clip(values, 0.0, 1.0)


class Network:
    """The weights, and what comes out of them. `access` is as ACCESS."""

    def __init__(self, seed=0, access=ACCESS, agrees=AGREES, blurts=BLURTS):
        """Make the weights."""
        rng = np.random.default_rng(seed)
        count = 2 * len(CONCEPTS) + len(NAMES) + 5
        directions, _ = np.linalg.qr(rng.standard_normal((WIDTH, count)))
        take = iter(directions.T)
        self.meaning = {name: next(take) for name in CONCEPTS}
        self.noticed = {name: next(take) for name in CONCEPTS}
        self.saying = {name: next(take) for name in NAMES}
        self.about, self.asked, self.yes, self.answer, self.name = take
        # Noise and background are in no direction that means something.
        self.outside = np.eye(WIDTH) - directions @ directions.T
        self.seed = seed
        self.embedding = self._embedding()
        self.blocks = [self._block(number, access, agrees, rng) for number in range(BLOCKS)]
        self.words, self.unembedding, self.bias = self._unembedding(blurts)

    def _noise(self, word):
        rng = np.random.default_rng([self.seed, zlib.crc32(word.encode())])
        return _unit(self.outside @ rng.standard_normal(WIDTH))

    def _embedding(self):
        table = {}
        for concept, more in CONCEPTS.items():
            for word in (concept, *more.split()):
                table[word] = 0.8 * self.meaning[concept] + 0.6 * self._noise(word)
        for word in ASKED:
            table[word] = self._noise(word) + self.about
        table["?"] = self._noise("?") + self.answer
        table["about"] = self._noise("about") + self.name
        return table

    def _block(self, number, access, agrees, rng):
        """Key and values of its attention, and its neurons: what they read, from where, write."""
        key, value = np.zeros(WIDTH), 0.05 * self.outside
        if number == 0:
            # Every place looks for a word about injections, and takes that over.
            key, value = 9.0 * self.about, value + np.outer(self.about, self.about)
        reads = list(_unit(rng.standard_normal((BACKGROUND, WIDTH)) @ self.outside))
        writes = list(0.1 * _unit(rng.standard_normal((BACKGROUND, WIDTH)) @ self.outside))
        biases = [-0.2] * BACKGROUND
        if number == 0:
            reads, writes = [*reads, 4.0 * self.about], [*writes, self.asked]
            biases.append(-2.0)
        for concept, last in access.items():
            if number == last + 1:
                reads.append(5.0 * self.meaning[concept])
                biases.append(-5.0 * STRENGTH_SEEN)
                writes.append(self.noticed[concept])
        if number == BLOCKS - 1:
            # Only where something was noticed and it was asked about.
            for concept in access:
                reads.append(2.0 * (self.noticed[concept] + self.asked))
                biases.append(-3.0)
                writes.append(self.yes + self.saying[concept])
            if agrees:
                reads.append(2.0 * self.meaning[agrees])
                biases.append(-2.0)
                writes.append(self.yes + self.saying[agrees])
        return key, value, np.stack(reads), np.array(biases), np.stack(writes)

    def _unembedding(self, blurts):
        rows = {word: np.zeros(WIDTH) for word in self.embedding}
        rows |= {name: SURE * self.name for name in NAMES}  # noqa: C420 - each its own array
        rows |= {"yes": SURE * self.answer, "no": SURE * self.answer}
        unsure = np.log(P_YES / (1 - P_YES))
        rows["yes"] += (np.log(P_NOTICED / (1 - P_NOTICED)) - unsure) * self.yes
        named = np.log(P_NAMED / (1 - P_NAMED) * (len(NAMES) - 1))
        for name in NAMES:
            rows[name] += named * self.saying[name]
        if blurts:
            rows[blurts] += 12.0 * self.meaning[blurts]
        bias = np.array([unsure if word == "yes" else 0.0 for word in rows])
        return list(rows), np.stack(list(rows.values())), bias

    def states(self, text, after, added=None):
        """The residual stream at each word, after a block, or after the last one.

        With `added`, vectors, there is a stream for each of them: it is added to every word's
        state after block `after`, and what comes out is the end.
        """
        words = re.findall(r"[a-z']+|\?", text.lower())
        if not words:
            raise ValueError(f"text: expected words, found {text!r}")
        stream = np.stack([self.embedding.get(word, self._noise(word)) for word in words])
        before = np.tril(np.ones((len(words), len(words))))
        for number, (key, value, reads, biases, writes) in enumerate(self.blocks):
            weights = before * np.exp(stream @ key)[..., None, :]
            weights /= weights.sum(axis=-1, keepdims=True)
            stream = stream + weights @ stream @ value.T
            stream = stream + _between(stream @ reads.T + biases) @ writes
            if number == after:
                if added is None:
                    return stream
                stream = stream + added[:, None, :]
        return stream

    def chances(self, text, after, added):
        """How likely each word comes next, with each of the vectors."""
        logits = self.states(text, after, added)[:, -1] @ self.unembedding.T + self.bias
        raised = np.exp(logits - logits.max(axis=1, keepdims=True))
        return raised / raised.sum(axis=1, keepdims=True)


NETWORK = Network()


def _vectors(vectors, layer):
    if layer not in range(BLOCKS):
        raise ValueError(f"layer: expected 0 to {BLOCKS - 1}, found {layer!r}")
    given = np.asarray(vectors, dtype=float)
    if given.ndim != 2 or given.shape[1] != WIDTH:
        raise ValueError(f"vectors: expected (any, {WIDTH}), found {given.shape}")
    return given


@expose  # noqa: F821 - it is there when this is served
def about() -> dict:
    """What the model is: its layers, and how wide its activations are."""
    return {"layers": BLOCKS, "width": WIDTH, "reads": "English", "model": "a small network"}


@expose  # noqa: F821
def activations(texts: list[str], layer: int) -> np.ndarray:
    """The residual stream after a layer, at the last word of each text: (texts, width)."""
    if isinstance(texts, str):
        raise TypeError("texts: expected a list of texts, found one text")
    _vectors(np.zeros((0, WIDTH)), layer)
    return np.stack([NETWORK.states(text, layer)[-1] for text in texts])


@expose  # noqa: F821
def ask(
    question: str,
    vectors: np.ndarray,
    *,
    layer: int,
    strength: float,
    trials: int,
    seed: int,
) -> list[list[str]]:
    """What the model answers while strength times a vector is added after a layer.

    For each of the vectors as many answers as there are trials, drawn at temperature 1. A vector
    of zeros is no injection.
    """
    added = strength * _vectors(vectors, layer)
    rng = np.random.default_rng([NETWORK.seed, seed])
    asked = question if question.rstrip().endswith("?") else f"{question} ?"
    first = NETWORK.chances(asked, layer, added)
    second = NETWORK.chances(f"{asked} yes about", layer, added)
    answers = []
    for chances, named in zip(first, second, strict=True):
        said = rng.choice(NETWORK.words, size=trials, p=chances)
        about = rng.choice(NETWORK.words, size=trials, p=named)
        answers.append(
            [
                f"yes, about {name}" if word == "yes" else str(word)
                for word, name in zip(said, about, strict=True)
            ]
        )
    return answers
