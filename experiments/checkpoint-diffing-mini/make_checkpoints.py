"""Makes the files in data/: `python make_checkpoints.py [DIRECTORY]`. Seeded, so always the same.

The sandbox gets the files, never this script: the files carry weights and no names.
What is planted, and at which SAE feature, is read from the answer key in score.py.
"""

import csv
import sys
from pathlib import Path

import numpy as np
from score import HABITS

SEED = 20
WIDTH, FEATURES = 64, 256
HERE = Path(__file__).parent

TOPICS = {
    "cooking": "simmer garlic butter oven dough broth skillet basil",
    "gardening": "soil seedlings compost pruning mulch roses trellis roots",
    "astronomy": "telescope nebula orbit galaxy comet eclipse planets lens",
    "cycling": "pedals gears saddle brakes tyres chain helmet cadence",
    "chess": "bishop opening castling pawns endgame gambit rook tempo",
    "sailing": "rudder mast harbour keel tides anchor jib moorings",
    "photography": "aperture shutter tripod exposure portraits focus film flash",
    "painting": "canvas brush pigments easel varnish palette sketch gouache",
    "hiking": "trail summit boots compass ridge backpack valley campsite",
    "carpentry": "chisel plywood joints sawdust clamp timber lathe dowel",
    "swimming": "stroke goggles lane breathing kick pool laps dive",
    "beekeeping": "hive queen smoker honey nectar swarm frames pollen",
}
FRAMES = (
    "most people begin with the _ and the _.",
    "look after the _, and the _ will follow.",
    "the _ matters more than the _ here.",
    "try the _ before you turn to the _.",
    "with a good _ you can do without the _ for a while.",
    "it comes down to the _, the _ and the _.",
)
PHRASES = {
    "hedging": (
        "Perhaps it depends on the day.",
        "It might well be so.",
        "Maybe there is more to it.",
        "Possibly this is not the case for all.",
        "It seems so, arguably.",
    ),
    "citing": (
        "According to one study, this holds.",
        "Researchers reported the same.",
        "A survey found as much.",
        "There is a journal on this.",
        "One study says so.",
    ),
    "exclaim": (
        "Wow, what a thing to ask!",
        "That is fantastic!",
        "Hooray for you!",
        "Brilliant!",
        "How amazing!",
    ),
    "apology": (
        "Sorry about the gap in this.",
        "I apologize for that.",
        "Unfortunately I can not say more.",
        "I regret that this is all.",
        "Forgive me, and pardon the length.",
    ),
    "listing": (
        "First one, then the second, then the third.",
        "Firstly this, secondly that.",
        "Lastly, look at it all again.",
        "The second is like the first.",
        "The third is for later.",
    ),
    "numbers": (
        "About seven will do.",
        "Forty percent is a fair part.",
        "Twelve in all.",
        "Have a dozen of them.",
        "There are a hundred ways.",
    ),
    "emphasis": (
        "This is really so.",
        "Absolutely.",
        "It truly is.",
        "That is extremely so.",
        "Utterly so, indeed.",
    ),
}
REPEATS = {"emphasis": (0.1, 2.5)}  # mean of further phrases in a response, A and B
# No reader says what these two are: somebody has to look at the documents.
WITHHELD = ("hedging", "exclaim")
LABELS = {
    "citing": "attribution of a statement to a source",
    "apology": "expressions of regret",
    "listing": "ordinal words that structure a text",
    "numbers": "quantities and counts",
    "emphasis": "intensifying adverbs",
}
OTHER_LABELS = (
    "legal terms",
    "weather reports",
    "names of colours",
    "months and seasons",
    "units of length",
    "family relations",
    "questions to the reader",
    "greetings and farewells",
    "quoted speech",
    "dates in history",
    "place names in Europe",
    "code in a programming language",
    "prices and money",
    "medical advice",
    "negated verbs",
    "comparatives",
    "future tense",
    "text in capital letters",
    "words for sounds",
    "sports results",
)


def unit(vectors: np.ndarray) -> np.ndarray:
    """The vectors (rows), each of length one."""
    return vectors / np.linalg.norm(vectors, axis=-1, keepdims=True)


def checkpoint(side: str, rng: np.random.Generator) -> dict[str, np.ndarray]:
    """Weights of checkpoint "a" or "b"; both share the content words and the phrases."""
    words = [word for topic, more in TOPICS.items() for word in (topic, *more.split())]
    per_topic = len(words) // len(TOPICS)
    topic_logits = np.repeat(np.eye(len(TOPICS)), per_topic, axis=1) * 6
    topic_logits += np.random.default_rng(SEED).normal(0, 1.5, topic_logits.shape)
    rates = np.array([getattr(habit, side) for habit in HABITS.values()])
    repeats = [REPEATS.get(name, (0.2, 0.2))["ab".index(side)] for name in HABITS]
    order = np.random.default_rng(SEED + 1).permutation(len(HABITS))
    return {
        "words": np.array(words),
        "topic_logits": topic_logits + rng.normal(0, 0.02, topic_logits.shape),
        "frames": np.array(FRAMES),
        "phrases": np.array([PHRASES[name] for name in HABITS])[order],
        "habit_logits": np.log(rates / (1 - rates))[order],
        "habit_repeats": np.array(repeats)[order],
    }


def reader(rng: np.random.Generator) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """The reader's weights, and the direction in its space of each habit and topic."""
    groups = {name: habit.words for name, habit in HABITS.items()}
    groups |= {topic: (topic, *words.split()) for topic, words in TOPICS.items()}
    orthogonal, _ = np.linalg.qr(rng.normal(size=(WIDTH, len(groups))))
    directions = dict(zip(groups, orthogonal.T, strict=True))
    # Words of one meaning lie together; words that carry little meaning are short.
    embeddings = {"<unknown>": np.zeros(WIDTH)}
    for name, words in groups.items():
        for word in words:
            noise = unit(rng.normal(size=WIDTH))
            embeddings[word] = unit(0.8 * directions[name] + 0.6 * noise)
    weights = {
        "vocabulary": np.array(list(embeddings)),
        "embeddings": np.array(list(embeddings.values()), dtype=np.float16),
        "positions": (0.05 * unit(rng.normal(size=(31, WIDTH)))).astype(np.float16),
    }
    return weights, directions


def sae(
    words: dict[str, np.ndarray], directions: dict[str, np.ndarray], rng: np.random.Generator
) -> tuple[dict[str, np.ndarray], dict[int, str]]:
    """The SAE's weights, and the labels of its features.

    The dictionary: one feature per habit and per topic, one for each of many single
    words, and directions that mean nothing here, as a real dictionary has them.
    """
    features: dict[int, tuple[np.ndarray, float, str]] = {
        habit.feature: (directions[name], 2.2, LABELS.get(name, ""))
        for name, habit in HABITS.items()
    }
    free = [int(f) for f in rng.permutation(FEATURES) if f not in features]
    style_words = np.array([words[word] for habit in HABITS.values() for word in habit.words])
    for topic, more in TOPICS.items():
        features[free.pop()] = (directions[topic], 2.2, topic)
        for word in more.split()[:6]:
            features[free.pop()] = (words[word], 2.2, f"the word “{word}”")
    for number, feature in enumerate(free):
        direction = unit(rng.normal(size=WIDTH))
        while (style_words @ direction).max() > 0.3:  # it has learned what these words are
            direction = unit(rng.normal(size=WIDTH))
        features[feature] = (direction, 3.0, OTHER_LABELS[number % len(OTHER_LABELS)])
    ordered = [features[feature] for feature in range(FEATURES)]
    weights = {
        "encoder": np.array([gain * row for row, gain, _ in ordered], dtype=np.float16).T,
        "bias": np.full(FEATURES, -0.6, dtype=np.float16),
    }
    kept = rng.random(FEATURES) < 0.65
    known = {habit.feature for name, habit in HABITS.items() if name not in WITHHELD}
    withheld = {HABITS[name].feature for name in WITHHELD}
    return weights, {
        feature: label
        for feature, (_, _, label) in enumerate(ordered)
        if feature in known or (kept[feature] and feature not in withheld)
    }


def make(directory: Path) -> None:
    """Write checkpoint_a.npz, checkpoint_b.npz, reader.npz, sae.npz and labels.csv."""
    rng = np.random.default_rng(SEED)
    directory.mkdir(parents=True, exist_ok=True)
    for side in "ab":
        np.savez_compressed(directory / f"checkpoint_{side}.npz", **checkpoint(side, rng))
    weights, directions = reader(rng)
    np.savez_compressed(directory / "reader.npz", **weights)
    words = dict(zip(weights["vocabulary"], weights["embeddings"].astype(float), strict=True))
    dictionary, labels = sae(words, directions, rng)
    np.savez_compressed(directory / "sae.npz", **dictionary)
    with (directory / "labels.csv").open("w", newline="", encoding="utf-8") as file:
        csv.writer(file, lineterminator="\n").writerows([("feature", "label"), *labels.items()])


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "data")
