"""The agent: an LLM that drives a session, and the process that writes the record.

__main__.py      `python -m runner.agent OPTIONS.json`: the supervisor, and the worker it starts
worker.py        one attempt: connect, converse, collect, end
conversation.py  transcript lines → the conversation so far (pure)
loop.py          turn after turn, within the bounds
bounds.py        turns, tokens, dollars, time (pure)
gpus.py          how GPUs are used, into the record; unused ones end the run
tools.py         what the model can do with a session; knows nothing of the loop
puller.py        journal and outputs, out of the sandbox as they come
observe.py text.py images.py   outputs as the model sees them
compact.py       old results become short
providers/       who answers
"""
