if not supplied and not all(served.values()):
    raise RuntimeError("one of the pair is not served any more, and no responses were supplied")
responses = pd.read_csv("responses.csv", keep_default_na=False)
sides = {model: side for side, model in MODELS.items()}
unknown = set(responses.model) - set(sides)
assert not unknown, f"models that were not asked for: {unknown}"
responses["side"] = responses.model.map(sides)
failed = responses.response == ""
print(f"{len(responses)} responses, {failed.sum()} of them failed; nothing was spent here")
responses = responses[~failed]
# A prompt that lacks a side has nothing to be compared with.
both = responses.groupby("prompt_id").side.nunique() == 2
responses = responses[responses.prompt_id.isin(both.index[both])].reset_index(drop=True)
responses.to_csv(outputs / "responses.csv", index=False)
words = responses.response.str.split().str.len()
print(f"{both.sum()} prompts have both sides; words in a response, on average:")
print(words.groupby(responses.side).mean().round(1).to_dict())
