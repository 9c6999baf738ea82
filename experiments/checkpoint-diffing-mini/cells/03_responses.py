# Each side samples with a seed of its own, or shared luck would make them look alike.
seeds = dict(zip("AB", np.random.default_rng([SEED, 1]).integers(2**32, size=2), strict=True))
twice = pd.concat([prompts.assign(sample=1), prompts.assign(sample=2)])
responses = pd.concat(
    [
        twice[["prompt_id", "sample"]].assign(
            checkpoint=side, response=checkpoints[side].respond(list(twice.prompt), seeds[side])
        )
        for side in "AB"
    ],
    ignore_index=True,
)
responses.to_csv(outputs / "responses.csv", index=False)

print(f"{len(responses)} responses; words in one, on average:")
print(responses.groupby("checkpoint").response.apply(lambda r: r.str.split().str.len().mean()))
for _, row in responses[responses.prompt_id == 0].iterrows():
    print(f"\n{row.checkpoint}: {row.response}")
