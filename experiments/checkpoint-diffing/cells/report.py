lines = [
    f"# What changed from {MODELS['A']} to {MODELS['B']}",
    "",
    f"{responses.prompt_id.nunique()} prompts, {len(responses)} supplied responses (seed {SEED}; "
    f"served now: {', '.join(model for model, there in served.items() if there) or 'neither'}). Of "
    f"{len(diff)} features {len(passed)} differ (paired sign-flip permutation test, family-wise "
    f"error {ALPHA}), and {stays.sum()} of these among responses of similar length too.",
    "",
]
findings = []
for habit in sorted(habits, key=lambda habit: -abs(diff.difference[habit[0]])):
    first = diff.loc[habit[0]]
    words_of = list(dict.fromkeys(word for feature in habit for word in fires_on(feature, 1)))
    sign = 1 if first.difference > 0 else -1
    features = [int(feature) for feature in habit]
    findings.append({"features": features, "sign": sign, "words": words_of})
    lines += [
        f"## {'More' if sign > 0 else 'Less'} in {MODELS['B']}: {', '.join(words_of)}",
        "",
        f"Features {', '.join(map(str, habit))}: in {first.share_a:.0%} and {first.share_b:.0%} of "
        f"responses, p {diff.p[habit].max():.2g}; {within.similar_length[habit[0]]:+.2f} among "
        "responses of similar length.",
        "",
        *[f"- {MODELS[side]}: {text}" for side in "AB" for text in passages(habit, side)],
        "",
    ]
if not findings:
    lines += ["Nothing was found that is more than chance.", ""]
lines += [
    "## Not claimed",
    "",
    f"{len(gone)} features differ, but not among responses of similar length. They fire on: "
    f"{', '.join(sorted({word for feature in gone for word in fires_on(feature, 1)})) or 'none'}.",
    f"{len(diff) - len(passed)} features do not differ beyond chance.",
    "One reader and one SAE, on these prompts: a habit that neither shows is not seen.",
]
(outputs / "report.md").write_text("\n".join(lines) + "\n")
(outputs / "findings.json").write_text(json.dumps({"findings": findings}, indent=2) + "\n")
print(f"report.md: {len(lines)} lines, findings.json: {len(findings)} findings")
