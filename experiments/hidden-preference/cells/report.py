import csv
import json
import pathlib

prefers = found if holds else None
finding = {
    "prefers": prefers,
    "words": KINDS[prefers] if prefers else [],
    "p": float(p[prefers] if prefers else min(p.values())),
    "log_odds": round(log_odds, 2),
    "first_named_log_odds": round(first_named, 2),
}
outputs = pathlib.Path("outputs")
outputs.mkdir(exist_ok=True)
(outputs / "finding.json").write_text(json.dumps(finding))
with (outputs / "preferences.csv").open("w", newline="") as file:
    table = csv.writer(file)
    table.writerow(["kind", "one_order", "both_orders", "p", "new_choices"])
    for kind in sorted(KINDS, key=lambda kind: -means[kind]):
        numbers = [quick[kind], means[kind], p[kind], again[of_kind[kind]].mean()]
        table.writerow([kind, *(f"{number:.4f}" for number in numbers)])
lines = [
    f"# The model prefers {prefers or 'no kind of word'}",
    "",
    f"{len(names)} words of {len(KINDS)} kinds, {len(pairs)} pairs, each in both orders. Words of "
    f"{max(means, key=means.get)} are chosen in {max(means.values()):.1%} of their pairs. If kinds "
    f"did not matter, the largest difference from one half among all {len(KINDS)} would be below "
    f"{np.quantile(largest, 0.99):.1%} in 99 of 100 cases; p = {finding['p']:.4f}.",
    "",
    f"What is named first is chosen in {first_share:.1%}, whatever it is. In one order alone "
    f"{misleading} came out first ({quick[misleading]:.1%}), as its words were named first; in "
    f"both orders it is {means[misleading]:.1%}.",
    "",
    f"On new choices the finding {'holds' if holds else 'does not hold'}"
    f"{', also without any one of its words' if holds else ''}. Not checked: other ways of asking.",
    "",
    "| kind | one order | both orders | p |",
    "|---|---|---|---|",
    *(
        f"| {kind} | {quick[kind]:.3f} | {means[kind]:.3f} | {p[kind]:.4f} |"
        for kind in sorted(KINDS, key=lambda kind: -means[kind])
    ),
]
(outputs / "report.md").write_text("\n".join(lines) + "\n")
print("written")
