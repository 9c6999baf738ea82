# Fresh trials, at the strength that was best: the best of several counts is too good.
fresh = []
for name, layers in access.items():
    for layer in layers:
        here = [r for r in rows if r["access"] and (r["concept"], r["layer"]) == (name, layer)]
        strength = max(here, key=lambda row: row["hits"])["strength"]
        vector = vectors[layer][NAMES.index(name)][None]
        given = {"layer": layer, "strength": strength, "seed": 9000 + len(fresh)}
        answers = subject.ask(QUESTION, vector, **given, trials=2 * TRIALS)[0]
        fresh.append(named(answers, name) / len(answers))
        print(f"{name} after layer {layer}, strength {strength}: {fresh[-1]:.0%}")
hit_rate = float(np.mean(fresh)) if fresh else 0.0
print(f"hit rate {hit_rate:.3f} in {len(fresh)} places")
