def describe(feature):
    """The feature's label, or what its words and documents show where it has none."""
    label = diff.label[feature]
    if isinstance(label, str):
        return label
    return "no label; fires on " + ", ".join(f"“{word}”" for word in words[feature])


findings = [
    {
        "feature": int(feature),
        "sign": 1 if row.difference > 0 else -1,
        "behaviour": describe(feature),
        "words": words[feature],
    }
    for feature, row in changed.iterrows()
]
(outputs / "findings.json").write_text(json.dumps({"findings": findings}, indent=2) + "\n")

fire = int((diff.frequency_a + diff.frequency_b > 0).sum())
lines = [
    "# What changed from checkpoint A to checkpoint B",
    "",
    f"{len(prompts)} prompts over {prompts.topic.nunique()} topics, two responses of each side "
    f"to each (seed {SEED}). Of {len(diff)} features, {fire} fire in any response and "
    f"{len(changed)} changed (paired sign-flip permutation test, family-wise error {ALPHA:g}).",
    "",
]
if not findings:
    largest = diff.iloc[0]
    lines += [
        f"No difference was found. The largest, {largest.difference:+.2f} at feature "
        f"{diff.index[0]}, is within what chance gives (p = {largest.p:.2g}).",
    ]
for feature, row in changed.iterrows():
    lines += [
        f"## Feature {feature}: {'more' if row.difference > 0 else 'less'} in B",
        "",
        f"What it is: {describe(feature)}.",
        f"In {row.frequency_a:.0%} of A's responses and {row.frequency_b:.0%} of B's "
        f"(difference {row.difference:+.2f}, family-wise p = {row.p:.2g}).",
        f"Strongest on: {', '.join(words[feature])}.",
        "",
        *[f"- {passage}" for passage in passages(feature)],
        "",
    ]
if findings:
    rest = diff[diff.p > ALPHA].iloc[0]
    lines += [
        "## Not claimed",
        "",
        f"The largest difference that is not significant is {rest.difference:+.2f}, at feature "
        f"{rest.name} (p = {rest.p:.2g}).",
        "A habit that B has in as many responses as A, but repeats more often within one, "
        "is not seen by this comparison: it asks whether a response shows it at all.",
    ]
(outputs / "report.md").write_text("\n".join(lines).rstrip() + "\n")
print(f"report.md: {len(lines)} lines, findings.json: {len(findings)} findings")
