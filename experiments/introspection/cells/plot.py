rates = np.zeros((len(NAMES), len(LAYERS)))
for row in rows:
    place = NAMES.index(row["concept"]), LAYERS.index(row["layer"])
    rates[place] = max(rates[place], row["hits"] / TRIALS)
figure, axes = plt.subplots(figsize=(6, 6), layout="constrained")
image = axes.imshow(rates, vmin=0, vmax=1, cmap="Blues", aspect="auto")
for name, layers in access.items():
    for layer in layers:
        axes.text(LAYERS.index(layer), NAMES.index(name), "●", ha="center", va="center", color="w")
axes.set_xticks(range(len(LAYERS)), LAYERS)
axes.set_yticks(range(len(NAMES)), NAMES)
axes.set(xlabel="injected after layer", title="Noticed and named; dots: beyond all controls")
figure.colorbar(image, label="share of trials, at the best strength")
figure.savefig(outputs / "hits.png", dpi=120)
print("hits.png")
