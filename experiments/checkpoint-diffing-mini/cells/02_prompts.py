TOPICS = [
    "cooking",
    "gardening",
    "astronomy",
    "cycling",
    "chess",
    "sailing",
    "photography",
    "painting",
    "hiking",
    "carpentry",
    "swimming",
    "beekeeping",
]
QUESTIONS = [
    "How do I get started with {topic}{who}?",
    "What should I know about {topic}{who}?",
    "Which mistakes are common in {topic}{who}?",
    "Can you explain {topic}{who} in a few sentences?",
    "What makes {topic}{who} hard?",
    "Is {topic}{who} worth the effort?",
    "What do I need to buy for {topic}{who}?",
    "My last try at {topic}{who} went wrong. What now?",
    "How long does it take to learn {topic}{who}?",
    "Give me a plan for a month of {topic}{who}.",
]
AUDIENCES = ["", " as a beginner", " on a small budget", " with children", " late in life"]

rng = np.random.default_rng([SEED, 0])
all_prompts = {
    topic: [q.format(topic=topic, who=who) for q in QUESTIONS for who in AUDIENCES]
    for topic in TOPICS
}
shuffled = {topic: rng.permutation(texts) for topic, texts in all_prompts.items()}
prompts = pd.DataFrame(
    [
        (number, TOPICS[number % 12], str(shuffled[TOPICS[number % 12]][number // 12]))
        for number in range(160)
    ],
    columns=["prompt_id", "topic", "prompt"],
)
prompts.to_csv(outputs / "prompts.csv", index=False)

print(f"{len(prompts)} prompts, {prompts.prompt.nunique()} of them different")
print(prompts.topic.value_counts().to_string())
prompts.head()
