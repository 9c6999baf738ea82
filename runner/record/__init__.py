"""The record of a run: what happened, written from outside the sandbox.

    chain.py    append-only files chained by hash: journal.jsonl, transcript.jsonl
    run.py      transcript lines → run.json (pure)
    store.py    Record: one run's directory; finding runs; rebuilding
    files.py    whole files or none, never outside the record
    follow.py   the lines as they come
    verify.py   was it altered
    travel.py   as an archive, to where there is none
    copy.py     RecordCopy: kept up to date from elsewhere; stream.py sends, receiver.py takes
    closing.py  the end of a run that ended without a word, or with half of one

docs/record.md has the formats.
"""

from runner.record.chain import ChainedLog, ChainReport, check_chain, read_lines
from runner.record.follow import follow
from runner.record.run import ENDED, RunFold, RunState, fold, to_json
from runner.record.store import WITHHELD, Record, find, now, place_of, rebuild, runs

__all__ = [
    "ENDED",
    "WITHHELD",
    "ChainReport",
    "ChainedLog",
    "Record",
    "RunFold",
    "RunState",
    "check_chain",
    "find",
    "fold",
    "follow",
    "now",
    "place_of",
    "read_lines",
    "rebuild",
    "runs",
    "to_json",
]
