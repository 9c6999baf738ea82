sae = interp_embed.sae.SmallSAE.fit(responses.response, seed=SEED)
dataset = interp_embed.Dataset(responses, sae=sae, field="response")
pooled = dataset.latents("max")
rows, columns = np.nonzero(pooled)
np.savez_compressed(
    outputs / "activations.npz",
    row=rows,
    column=columns,
    value=pooled[rows, columns].astype(np.float16),
    shape=pooled.shape,
)
documents, features = pooled.shape
print(f"{documents} documents, {features} features, {(pooled > 0).mean():.0%} not zero")
