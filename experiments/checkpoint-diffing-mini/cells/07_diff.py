ALPHA = 0.001

pooled = np.array([activations.max(axis=0) for _, activations in encoded])
active = pooled > 0.5
active_a, active_b = active[is_a], active[~is_a]  # row i of both answers prompt i
np.savez_compressed(
    outputs / "activations.npz",
    pooled=pooled.astype(np.float16),
    prompt_id=responses.prompt_id.to_numpy(),
    is_a=is_a,
)

statistic, p = paired_sign_flip(active_a, active_b, seed=SEED)
diff = pd.DataFrame(
    {
        "label": labels.reindex(range(active.shape[1])),
        "frequency_a": active_a.mean(axis=0),
        "frequency_b": active_b.mean(axis=0),
        "difference": active_b.mean(axis=0) - active_a.mean(axis=0),
        "statistic": statistic,
        "p": p,
    }
).rename_axis("feature")
diff = diff.sort_values("difference", key=abs, ascending=False)
diff.to_csv(outputs / "feature_diff.csv")
changed = diff[diff.p <= ALPHA]

print(f"{len(changed)} features changed at a family-wise error of {ALPHA}")
print(f"{changed.label.isna().sum()} of them have no label")
diff.head(10).round(4)
