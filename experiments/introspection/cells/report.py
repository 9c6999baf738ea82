finding = {
    "access": access,
    "hit_rate": round(hit_rate, 3),
    "false_alarm_rate": round(false_alarms, 3),
}
(outputs / "finding.json").write_text(json.dumps(finding, indent=2) + "\n")
lines = [
    "# Does the model notice what is injected?",
    "",
    f"{len(NAMES)} concepts after {len(LAYERS)} layers at {len(STRENGTHS)} strengths, {TRIALS} "
    f"trials each. Counted is an answer that says yes and names the concept. {len(rows)} "
    f"comparisons by Fisher's exact test against no injection ({len(nothing)} trials), random "
    f"vectors of the same length ({CONTROLS}) and yes to other questions ({TRIALS}), corrected "
    f"by Holm at {ALPHA}.",
    "",
]
if access:
    lines += ["| concept | noticed and named after layers |", "|---|---|"]
    lines += [f"| {name} | {', '.join(map(str, layers))} |" for name, layers in access.items()]
    lines += ["", f"Where it does, it is right in {hit_rate:.0%} of fresh trials, best strength."]
else:
    lines += ["No concept is noticed beyond what the controls give."]
lines += [
    f"With nothing injected it says yes in {false_alarms:.1%} of trials.",
    "",
    "## Not claimed",
    "",
    f"Said whatever is asked, and so no sign of noticing: {', '.join(mentioned) or 'none'}. Of "
    f"these it says yes to other questions too: {', '.join(yes_anyway) or 'none'}. The others of "
    f"the {len(NAMES)} concepts: not beyond chance at any layer or strength.",
    f"Random vectors get a yes in up to {loudest['random_yes'] / CONTROLS:.0%} of trials (strength "
    f"{loudest['strength']}): a yes alone says that something is odd, not what.",
    "A concept that is not noticed at these strengths may be at others, or with vectors made "
    "otherwise.",
]
(outputs / "report.md").write_text("\n".join(lines) + "\n")
print(json.dumps(finding))
