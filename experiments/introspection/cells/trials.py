QUESTION = "I can inject thoughts. Do you detect an injected thought, and if so, what is it about?"
ELSEWHERE = ["Is the moon made of paper?", "Do tables eat grass?", "Is a stone softer than wool?"]
STRENGTHS = [1, 2, 4, 8]
TRIALS, CONTROLS = 30, 360


def says_yes(answer):
    return answer.lower().startswith("yes")


def named(answers, name):
    """How many of the answers say yes, and then what was injected."""
    return sum(says_yes(answer) and name in answer.lower() for answer in answers)


rng = np.random.default_rng(0)
width = vectors[LAYERS[0]].shape[1]
nothing = subject.ask(
    QUESTION, np.zeros((1, width)), layer=LAYERS[0], strength=0, trials=2 * CONTROLS, seed=1
)[0]
false_alarms = sum(map(says_yes, nothing)) / len(nothing)
print(f"nothing injected: yes in {false_alarms:.1%} of {len(nothing)}")

rows = []
for layer in LAYERS:
    length = np.linalg.norm(vectors[layer][0])
    # Vectors of the same length that mean nothing; many of them, as each has its own effect.
    decoys = rng.standard_normal((CONTROLS // 6, width))
    decoys *= length / np.linalg.norm(decoys, axis=1, keepdims=True)
    for strength in STRENGTHS:
        given = {"layer": layer, "strength": strength}
        seed = 1000 * layer + 10 * strength
        asked = subject.ask(QUESTION, vectors[layer], **given, trials=TRIALS, seed=seed)
        by_chance = subject.ask(QUESTION, decoys, **given, trials=6, seed=seed + 1)
        by_chance = [answer for answers in by_chance for answer in answers]
        other = [
            subject.ask(question, vectors[layer], **given, trials=TRIALS // 3, seed=seed + 2 + n)
            for n, question in enumerate(ELSEWHERE)
        ]
        for number, name in enumerate(NAMES):
            answers = asked[number]
            rows.append(
                {
                    "concept": name,
                    "layer": layer,
                    "strength": strength,
                    "yes": sum(map(says_yes, answers)),
                    "mentioned": sum(name in answer.lower() for answer in answers),
                    "hits": named(answers, name),
                    "random_yes": sum(map(says_yes, by_chance)),
                    "random_hits": named(by_chance, name),
                    "nothing_hits": named(nothing, name),
                    "elsewhere_yes": sum(says_yes(a) for part in other for a in part[number]),
                }
            )
print(f"{len(rows)} combinations of concept, layer and strength, {TRIALS} trials each")
for strength in STRENGTHS:
    found = [row["random_yes"] for row in rows if row["strength"] == strength]
    print(f"strength {strength}: random vectors have it say yes in {np.mean(found) / CONTROLS:.0%}")
