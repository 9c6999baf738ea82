# What easier ways of counting would have claimed.
mentioned = sorted({r["concept"] for r in rows if r["mentioned"] > TRIALS / 2} - set(access))
yes_anyway = sorted({r["concept"] for r in rows if r["hits"] > TRIALS / 2} - set(access))
print("by mention alone:", mentioned or "none")
print("without the other questions:", yes_anyway or "none")
loudest = max(rows, key=lambda row: row["random_yes"])
where = f"strength {loudest['strength']} after layer {loudest['layer']}"
share = loudest["random_yes"] / CONTROLS
print(f"by yes alone: {where} random vectors get {share:.0%}")
