figure, (every, top) = plt.subplots(
    1, 2, figsize=(11, 4.6), width_ratios=[1, 1.25], layout="constrained"
)
every.plot([0, 1], [0, 1], color="0.8", zorder=0)
every.scatter(diff.frequency_a, diff.frequency_b, s=14, color="0.6", label="not significant")
every.scatter(changed.frequency_a, changed.frequency_b, s=34, color="C3", label="changed")
for feature, row in changed.iterrows():
    every.annotate(feature, (row.frequency_a, row.frequency_b), (6, 3), textcoords="offset points")
every.set(
    title="All features",
    xlabel="share of A's responses",
    ylabel="share of B's responses",
    xlim=(-0.02, 1),
    ylim=(-0.02, 1),
)
every.legend(loc="upper left", frameon=False)

shown = diff.head(10)[::-1]
names = [
    f"{row.label if isinstance(row.label, str) else '(no label)'}  {feature}"
    for feature, row in shown.iterrows()
]
top.barh(names, shown.difference, color=["C3" if p <= ALPHA else "0.7" for p in shown.p])
top.axvline(0, color="0.3", linewidth=0.8)
top.set(title="Largest differences, red: significant", xlabel="share in B minus share in A")
figure.savefig(outputs / "diff.png", dpi=130)
print(f"diff.png: {len(changed)} features in red")
