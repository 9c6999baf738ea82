"""Verifying a record: is it whole, and is it the one whose head was kept elsewhere."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from runner.errors import RecordError
from runner.record.chain import NO_LINE, links, torn
from runner.record.files import sha256_of
from runner.record.run import RunFold
from runner.record.store import Record, place_of, rebuilt

EVIDENCE, TESTIMONY = "evidence", "testimony"


@dataclass(frozen=True)
class Finding:
    """Something that is not as it was written: where, and what."""

    file: str
    line: int | None
    what: str

    def __str__(self) -> str:
        where = f"{self.file}, line {self.line}" if self.line else self.file
        return f"{where}: {self.what}"


@dataclass(frozen=True)
class OutputReport:
    """What a file in outputs/ is worth: evidence or testimony, and why."""

    path: str
    kind: str
    line: int | None  # of the transcript, where its sum is written
    what: str


@dataclass(frozen=True)
class VerifyReport:
    """The result of `verify`. `notes` are harmless; `ok` means no findings."""

    ok: bool
    findings: tuple[Finding, ...]
    notes: tuple[str, ...]
    outputs: tuple[OutputReport, ...]
    transcript_head: str
    transcript_lines: int
    journal_head: str
    journal_lines: int


def verify(path: Path, head: str | None = None) -> VerifyReport:
    """Check a record against itself and, where given, against a head kept elsewhere.

    Without `head` a record that was rewritten whole passes.
    """
    check = _Check(path)
    check.transcript(head)
    check.journal()
    outputs = tuple(check.outputs())
    check.inputs()
    if Record(path, write=False, mask=str).alive():
        check.notes.append("the run goes on: run.json and notebook.ipynb may be a little behind")
    elif not check.findings:
        check.renderings()
    return VerifyReport(
        ok=not check.findings,
        findings=tuple(check.findings),
        notes=tuple(check.notes),
        outputs=outputs,
        transcript_head=check.heads["transcript.jsonl"][0],
        transcript_lines=check.heads["transcript.jsonl"][1],
        journal_head=check.heads["journal.jsonl"][0],
        journal_lines=check.heads["journal.jsonl"][1],
    )


class _Check:
    """One verification; each step adds findings and notes."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.findings: list[Finding] = []
        self.notes: list[str] = []
        self.heads: dict[str, tuple[str, int]] = {}
        self._run = RunFold()
        self._named: list[tuple[int, dict[str, Any]]] = []  # journal heads, by transcript line

    def transcript(self, head: str | None) -> None:
        """Walk the transcript's chain; look for the head that was kept elsewhere."""
        name, seen = "transcript.jsonl", 0 if head == NO_LINE else None
        for number, after, line in self._chain(name):
            self._apply(line, number)
            if isinstance(line.get("journal"), dict):
                self._named.append((number, line["journal"]))
            if after == head:
                seen = number
        last, lines = self.heads[name]
        if not lines:
            self._find(name, None, "is missing or empty")
        if head is None:
            self.notes.append(
                "no head was given: a record rewritten as a whole would pass; "
                "compare the head with the one that the run printed"
            )
        elif seen is None:
            self._find(name, None, f"never had the head {head}; its head is {last}")
        elif seen < lines:
            self.notes.append(f"the head given is that of line {seen}; {lines - seen} lines follow")

    def journal(self) -> None:
        """Walk the journal's chain; compare the heads of it that the transcript names."""
        name, heads = "journal.jsonl", {0: NO_LINE}
        wanted = {named.get("lines") for _, named in self._named}
        for number, after, _ in self._chain(name):
            if number in wanted:
                heads[number] = after
        for line, named in self._named:
            count = named.get("lines")
            if count not in heads:
                what = f"names {count} lines of the journal, which has {self.heads[name][1]}"
            elif heads[count] != named.get("head"):
                what = f"names another head after line {count} of the journal than it has"
            else:
                continue
            self._find("transcript.jsonl", line, what)

    def outputs(self) -> Iterator[OutputReport]:
        """Each file in outputs/ against the last sum that the transcript has of it."""
        root = self.path / "outputs"
        there = {
            str(file.relative_to(root))
            for file in root.rglob("*")
            if file.is_symlink() or not file.is_dir()
        }
        for item in self._run.state().outputs:
            path, line = str(item.get("path")), item["line"]
            if item.get("withheld"):
                yield self._withheld(path, line, item)
                continue
            if path not in there:
                self._find(f"outputs/{path}", None, f"is missing; transcript line {line} has it")
                continue
            there.discard(path)
            try:
                if sha256_of(root / path) != item.get("sha256"):
                    self._find(f"outputs/{path}", None, f"is not what transcript line {line} has")
            except RecordError as error:
                self._find(f"outputs/{path}", None, error.message)
            pulled = item.get("source") == "pulled"
            yield OutputReport(
                path,
                EVIDENCE if pulled else TESTIMONY,
                line,
                f"pulled while the run went on, transcript line {line}"
                if pulled
                else f"not pulled from the sandbox but {item.get('source')}",
            )
        for path in sorted(there):
            yield OutputReport(path, TESTIMONY, None, "no line of the transcript has its sum")

    def _withheld(self, path: str, line: int, item: Mapping[str, Any]) -> OutputReport:
        """A file that holds a secret value; a copy of the record may go without it."""
        what, file = f"set aside, as it holds a secret; transcript line {line}", place_of(item)
        if not (self.path / file).exists():
            what += "; not in this copy"
        elif sha256_of(self.path / file) != item.get("sha256"):
            self._find(str(file), None, f"is not what transcript line {line} has")
        return OutputReport(path, EVIDENCE, line, what)

    def inputs(self) -> None:
        """Each kept input against its name, which is its sum."""
        for file in sorted((self.path / "inputs").glob("*")):
            if sha256_of(file) != file.name:
                self._find(f"inputs/{file.name}", None, "its content is not what its name says")

    def renderings(self) -> None:
        """run.json and notebook.ipynb against what the truth amounts to.

        Those of a run whose processes were killed may be behind: that is told, but is no finding.
        """
        for name, content in rebuilt(self.path).items():
            file = self.path / name
            if not file.is_file():
                self._find(name, None, "is missing; `rebuild` makes it anew")
            elif file.read_bytes() == content:
                continue
            elif self._run.state().is_over:
                self._find(name, None, "is not what the truth amounts to; `rebuild` makes it anew")
            else:
                self.notes.append(f"{name} is behind the truth; `rebuild` makes it anew")

    def _chain(self, name: str) -> Iterator[tuple[int, str, dict[str, Any]]]:
        """Walk a chain; its first break is a finding. Yields number, head, line."""
        self.heads[name], broken = (NO_LINE, 0), False
        for link in links(self.path / name):
            if link.problem and not broken:
                broken = True
                self._find(name, link.number, link.problem)
            self.heads[name] = (link.head, link.number)
            yield link.number, link.head, link.line
        if torn(self.path / name):
            self.notes.append(f"{name}: the last line is half written: a crash, or still running")

    def _apply(self, line: dict[str, Any], number: int) -> None:
        try:
            self._run.apply(line)
        except RecordError:
            self._find("transcript.jsonl", number, f"is malformed for a {line.get('type')!r}")

    def _find(self, file: str, line: int | None, what: str) -> None:
        self.findings.append(Finding(file, line, what))
