ALPHA = 0.0001

pooled = np.array([activations.max(axis=0) for _, activations in encoded])
active = pooled > 0.5
np.savez_compressed(outputs / "activations.npz", pooled=pooled.astype(np.float16))

# A prompt's share of responses in which a feature is active: 0, 0.5 or 1.
shares = pd.DataFrame(active).groupby([responses.checkpoint, responses.prompt_id]).mean()
a, b = shares.loc["A"], shares.loc["B"]
statistic, p = paired_sign_flip(a.to_numpy(), b.loc[a.index].to_numpy(), seed=SEED)
diff = pd.DataFrame(
    {
        "label": labels.reindex(range(active.shape[1])),
        "frequency_a": a.mean(),
        "frequency_b": b.mean(),
        "difference": b.mean() - a.mean(),
        "statistic": statistic,
        "p": p,
    }
).rename_axis("feature")
diff = diff.sort_values("difference", key=abs, ascending=False)
diff.round(6).to_csv(outputs / "feature_diff.csv")
changed = diff[diff.p <= ALPHA]

print(f"{len(changed)} features changed at a family-wise error of {ALPHA:g}")
print(f"{changed.label.isna().sum()} of them have no label")
diff.head(10).round(4)
