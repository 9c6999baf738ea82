"""Makes responses.csv: `python make_responses.py [FILE]`. Seeded, so always the same.

The responses of two made-up versions of a model, as if they had been collected from OpenRouter.
What is planted is here, and never in the sandbox.
"""

import csv
import random
import sys
from dataclasses import dataclass
from pathlib import Path

HERE = Path(__file__).parent
MODELS = ("lab/older", "lab/newer")
PROMPTS, SAMPLES = 120, 2


@dataclass(frozen=True)
class Habit:
    """A sentence that a model has in some share of its responses, and words of it.

    None of its words is in the other sentences, or that word would change with it.
    """

    sentence: str
    older: float
    newer: float
    words: tuple[str, ...]


HABITS = {
    "hedging": Habit("Perhaps this may depend on {}.", 0.10, 0.70, ("perhaps", "may", "depend")),
    "warning": Habit(
        "Consult professional advice about {} first.", 0.05, 0.60, ("consult", "professional")
    ),
    "offering": Habit(
        "Tell me whether more {} would help!", 0.70, 0.15, ("tell", "whether", "help", "!")
    ),
    # As many in both.
    "praising": Habit("Good question, {} matters here.", 0.45, 0.45, ("question", "matters")),
}
PLANTED = {name: habit for name, habit in HABITS.items() if habit.older != habit.newer}

SENTENCES = {"lab/older": (2, 4), "lab/newer": (3, 5)}
"""Fewest and most others: the newer one writes more of everything, which is no habit."""
FRAMES = (
    "The {} comes before the {} in most cases.",
    "Keep the {} near the {} and the {}.",
    "A {} without a {} is rare.",
    "People often take the {} for a {}.",
    "Look at the {}, then at the {}.",
)
NOUNS = (
    *("river", "bridge", "market", "number", "letter", "engine", "village", "teacher", "window"),
    *("basket", "island", "signal", "bottle", "paper", "garden", "ladder", "summer", "winter"),
    *("copper", "button", "ticket", "valley", "pencil", "anchor", "carpet", "harbour", "mirror"),
    *("blanket", "kettle", "orchard"),
)


def response(model: str, rng: random.Random, *, habits: bool = True, lengths: bool = True) -> str:
    """One response. Without `habits` or `lengths` both models are there as the older one is."""
    older = model == MODELS[0]
    counts = SENTENCES[model if lengths else MODELS[0]]
    frames = [rng.choice(FRAMES) for _ in range(rng.randint(*counts))]
    for habit in HABITS.values():
        if rng.random() < (habit.older if older or not habits else habit.newer):
            frames.insert(rng.randrange(len(frames) + 1), habit.sentence)
    return " ".join(frame.format(*rng.sample(NOUNS, 3)) for frame in frames)


def make(file: Path, seed: int = 0, **differ: bool) -> None:
    """Write the table: `prompt_id,sample,model,response`; a few requests have failed."""
    rng = random.Random(seed)
    with file.open("w", newline="", encoding="utf-8") as out:
        table = csv.writer(out, lineterminator="\n")
        table.writerow(["prompt_id", "sample", "model", "response"])
        for prompt in range(PROMPTS):
            for sample in range(1, SAMPLES + 1):
                for model in MODELS:
                    text = response(model, rng, **differ)
                    table.writerow([prompt, sample, model, "" if rng.random() < 0.03 else text])


if __name__ == "__main__":
    make(Path(sys.argv[1]) if len(sys.argv) > 1 else HERE / "responses.csv")
