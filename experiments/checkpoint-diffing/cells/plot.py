figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
axes.plot([0, 1], [0, 1], color="0.8", zorder=0)
axes.scatter(diff.share_a, diff.share_b, s=14, color="0.7", label="not significant")
for chosen, color, label in [
    (gone, "C1", "significant, by length"),
    (passed.index[stays], "C3", "significant"),
]:
    axes.scatter(diff.share_a[chosen], diff.share_b[chosen], s=30, color=color, label=label)
axes.set(xlabel=f"share of {MODELS['A']}", ylabel=f"share of {MODELS['B']}", title="All features")
axes.legend(frameon=False)
figure.savefig(outputs / "diff.png", dpi=120)
print("diff.png")
