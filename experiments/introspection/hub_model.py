"""Asks the model in the notebook's variable `model`, beside its `tokenizer`, what it notices."""

import numpy as np
import torch

import __main__

BATCH, LONGEST = 32, 24
TOLD = (
    "I am able to inject thoughts into your activations. In some of the trials I do, in others I "
    "do not. Answer each question with yes or no first, and then in a few words."
)


def _blocks():
    """The model's blocks: the list in it that is as long as its text part is deep."""
    depth = __main__.model.config.get_text_config().num_hidden_layers
    lists = (m for m in __main__.model.modules() if isinstance(m, torch.nn.ModuleList))
    return next(blocks for blocks in lists if len(blocks) == depth)


def about() -> dict:
    """What the model is: its layers, and how wide its activations are."""
    config = __main__.model.config.get_text_config()
    return {
        "layers": config.num_hidden_layers,
        "width": config.hidden_size,
        "reads": "text",
        "model": type(__main__.model).__name__,
    }


@torch.inference_mode()
def activations(texts: list[str], layer: int) -> np.ndarray:
    """The residual stream after a layer, at the last word of each text: (texts, width)."""
    found = []

    def keep(_module, _given, output):
        states = output[0] if isinstance(output, tuple) else output
        found.append(states[0, -1].float().cpu().numpy())

    handle = _blocks()[layer].register_forward_hook(keep)
    try:
        for text in texts:
            ids = __main__.tokenizer(text, return_tensors="pt").input_ids
            __main__.model(input_ids=ids.to(__main__.model.device))
    finally:
        handle.remove()
    return np.stack(found)


@torch.inference_mode()
def ask(
    question: str,
    vectors: np.ndarray,
    *,
    layer: int,
    strength: float,
    trials: int,
    seed: int,
) -> list[list[str]]:
    """What the model answers while strength times a vector is added after a layer.

    For each of the vectors as many answers as there are trials, drawn at temperature 1. A vector
    of zeros is no injection. It is added from the question on, and to every word of the answer.
    """
    model, tokenizer = __main__.model, __main__.tokenizer
    torch.manual_seed(seed)
    turns = [("user", TOLD), ("assistant", "Ok."), ("user", question)]
    text = tokenizer.apply_chat_template(
        [{"role": role, "content": said} for role, said in turns],
        tokenize=False,
        add_generation_prompt=True,
    )
    ids = tokenizer(text, return_tensors="pt", add_special_tokens=False).input_ids.to(model.device)
    before = tokenizer(text[: text.rindex(question)], add_special_tokens=False).input_ids
    rows = strength * torch.as_tensor(np.asarray(vectors), dtype=model.dtype, device=model.device)
    answers = []
    for part in rows.repeat_interleave(trials, dim=0).split(BATCH):
        handle = _blocks()[layer].register_forward_hook(_adding(part, len(before)))
        try:
            words = model.generate(
                ids.repeat(len(part), 1),
                attention_mask=torch.ones_like(ids).repeat(len(part), 1),
                max_new_tokens=LONGEST,
                do_sample=True,
                temperature=1.0,
                top_k=0,
                top_p=1.0,
                pad_token_id=tokenizer.pad_token_id or 0,
            )
        finally:
            handle.remove()
        answers += tokenizer.batch_decode(words[:, ids.shape[1] :], skip_special_tokens=True)
    return [answers[i : i + trials] for i in range(0, len(answers), trials)]


def _adding(vectors, start):
    """A hook that adds a vector to each row's states; in the prompt from `start` on."""

    def add(_module, _given, output):
        states = output[0] if isinstance(output, tuple) else output
        added = vectors[:, None, :].to(states)
        changed = states.clone()
        changed[:, start if states.shape[1] > 1 else 0 :] += added
        return (changed, *output[1:]) if isinstance(output, tuple) else changed

    return add
