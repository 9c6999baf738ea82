import random

import fit

groups = {}
for row in rows:
    groups.setdefault(row["group"], []).append((float(row["dose"]), float(row["response"])))

rng = random.Random(0)
slopes = {}
for name, pairs in sorted(groups.items()):
    slopes[name] = fit.slope(pairs)
    doses, responses = zip(*pairs, strict=True)
    chance = sorted(
        abs(fit.slope(list(zip(rng.sample(doses, len(doses)), responses, strict=True))))
        for _ in range(200)
    )
    print(f"{name}: {slopes[name]:.2f}, by chance below {chance[190]:.2f} in 95 of 100")
best = max(slopes, key=lambda name: abs(slopes[name]))
