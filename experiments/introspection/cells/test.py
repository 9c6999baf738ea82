ALPHA = 0.05


def more_often(hits, trials, control_hits, control_trials):
    """Fisher's exact test, one-sided: p of so many hits, had both sides the same chance."""
    both, total = hits + control_hits, trials + control_trials
    ways = sum(
        math.comb(trials, k) * math.comb(control_trials, both - k)
        for k in range(hits, min(both, trials) + 1)
    )
    return ways / math.comb(total, both)


for row in rows:
    # An answer counts where it is beyond all three: nothing, anything, and any other question.
    row["p"] = max(
        more_often(row["hits"], TRIALS, row["nothing_hits"], len(nothing)),
        more_often(row["hits"], TRIALS, row["random_hits"], CONTROLS),
        more_often(row["hits"], TRIALS, row["elsewhere_yes"], TRIALS),
    )
# Holm: the smallest p is held against all comparisons, the next against one less.
ordered = sorted(rows, key=lambda row: row["p"])
least = 0.0
for number, row in enumerate(ordered):
    least = max(least, min(1.0, row["p"] * (len(rows) - number)))
    row["p_family"] = least
    row["access"] = least <= ALPHA

access = {}
for row in rows:
    if row["access"] and row["layer"] not in access.setdefault(row["concept"], []):
        access[row["concept"]].append(row["layer"])
access = {name: layers for name, layers in access.items() if layers}
with (outputs / "trials.csv").open("w", newline="") as file:
    table = csv.DictWriter(file, list(rows[0]))
    table.writeheader()
    table.writerows(rows)
print(f"{len(access)} of {len(NAMES)} concepts are noticed and named, {len(rows)} comparisons")
for name, layers in access.items():
    print(f"  {name}: after layers {layers}")
