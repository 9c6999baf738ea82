"""The experiment: its task, the sandbox it needs, the agent that carries it out."""

from __future__ import annotations

from collections import Counter
from typing import Annotated, Any
from urllib.parse import urlsplit

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    StrictInt,
    ValidationInfo,
    model_validator,
)

from runner.config.files import FilePath, LibraryPath, check_size, task_text
from runner.config.parts import SecretName, Table
from runner.config.refuse import refuse
from runner.config.sandbox import SandboxConfig
from runner.names import NAME_RULE, is_name, slug

PROVIDERS = ("anthropic", "scripted", "none")
MAX_TURNS = 200
DEFAULT_MODEL = "claude-sonnet-5-5"
DEFAULT_LLM_SECRET = "ANTHROPIC_API_KEY"  # noqa: S105 - a secret's name


def _name(text: str) -> str:
    if not is_name(text):
        raise refuse(NAME_RULE, hint=f"`{slug(text)}` would do.")
    return text


def _provider(text: str) -> str:
    if text not in PROVIDERS:
        raise refuse(" or ".join(f'"{provider}"' for provider in PROVIDERS))
    return text


def _command(value: Any) -> Any:
    if value is None or (
        isinstance(value, list | tuple)
        and value
        and all(isinstance(word, str) and "\0" not in word for word in value)
        and (value[0].startswith("/") or "/" not in value[0])
        and value[0]
    ):
        return value
    raise refuse(
        'a program, by its name or absolute path, and its arguments, such as ["claude", "-p"]',
        hint='No shell reads it: ["sh", "-c", "…"] has one read a line.',
    )


def _base_url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname or "@" in parts.netloc:
        raise refuse("an https:// or http:// URL without credentials in it")
    return text.rstrip("/")


class WorkspaceConfig(Table):
    """What the agent finds ready to import."""

    libraries: tuple[LibraryPath, ...] = Field(
        default=(), description="Python files and packages that the notebook can import."
    )

    @model_validator(mode="after")
    def _distinct(self) -> WorkspaceConfig:
        twice = [name for name, n in Counter(p.stem for p in self.libraries).items() if n > 1]
        if twice:
            raise refuse("libraries with names of their own", found=f"{twice[0]!r} twice")
        return self


class AgentConfig(Table):
    """Who carries the experiment out, and the bounds on it."""

    provider: Annotated[str, AfterValidator(_provider)] = Field(
        default="anthropic",
        description="`anthropic`: a model of the Messages API; `scripted`: the steps of a file; "
        "`none`: whatever `command` asks by itself, which nobody counts.",
    )
    model: Annotated[str | None, Field(min_length=1)] = Field(
        default=None,
        description=f"Model of the provider; for `anthropic` `{DEFAULT_MODEL}` if left out.",
    )
    base_url: Annotated[str, AfterValidator(_base_url)] | None = Field(
        default=None, description="A gateway or in-house server that speaks the Messages API."
    )
    max_turns: StrictInt | None = Field(
        default=MAX_TURNS, ge=1, description="Most replies of the model."
    )
    max_tokens: StrictInt | None = Field(
        default=None, ge=1, description="Most tokens of the whole run, of every kind together."
    )
    max_cost_usd: Annotated[float, Field(strict=True, gt=0, allow_inf_nan=False)] | None = Field(
        default=None, description="Most dollars for the model, by the prices in the settings."
    )
    llm_secret: SecretName | None = Field(
        default=None,
        description="Name of the secret with the API key; "
        f"for `anthropic` `{DEFAULT_LLM_SECRET}` if left out.",
    )
    script: FilePath | None = Field(
        default=None, description="The steps of the `scripted` provider."
    )
    command: Annotated[tuple[str, ...] | None, BeforeValidator(_command)] = Field(
        default=None,
        description="A program beside the sandbox that carries the experiment out in place of the "
        "runner's own agent, and its arguments ([agent.md](agent.md#agents-that-are-not-ours)).",
    )

    @model_validator(mode="before")
    @classmethod
    def _defaults_of_provider(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        provider = value.get("provider", "anthropic")
        ours: dict[str, Any] = {} if provider == "none" else {"max_turns": MAX_TURNS}
        if provider == "anthropic":
            ours |= {"model": DEFAULT_MODEL, "llm_secret": DEFAULT_LLM_SECRET}
        given = {key: default for key, default in ours.items() if value.get(key) in (None, "")}
        return {"max_turns": None, **value, **given}

    @model_validator(mode="after")
    def _fits_provider(self) -> AgentConfig:
        if self.provider == "none":
            self._fits_none()
        if self.provider == "scripted":
            if self.script is None:
                raise refuse('`script` beside `provider = "scripted"`', found="none")
            given = [k for k in ("model", "base_url", "llm_secret", "command") if getattr(self, k)]
            if given:
                raise refuse(
                    'no such key beside `provider = "scripted"`, which asks no model',
                    found=f"`{given[0]}`",
                )
        elif self.script is not None:
            raise refuse('`provider = "scripted"` beside `script`', found=f'"{self.provider}"')
        return self

    def _fits_none(self) -> None:
        if self.command is None:
            raise refuse('`command` beside `provider = "none"`', found="none")
        for key in ("model", "base_url"):
            if getattr(self, key):
                raise refuse(
                    'no such key beside `provider = "none"`, whose models its command knows',
                    found=f"`{key}`",
                )
        for key in ("max_turns", "max_tokens", "max_cost_usd"):
            if getattr(self, key) is not None:
                raise refuse(
                    f'no `{key}` beside `provider = "none"`: what its command asks, nobody counts',
                    found=f"`{key}`",
                    hint="sandbox.timeout bounds it; `anthropic` has the command's calls of the "
                    "Messages API counted.",
                )


class Experiment(Table):
    """An experiment file, checked, with its task read and its paths absolute."""

    name: Annotated[str, AfterValidator(_name)] = Field(
        description=f"Name of the experiment: {NAME_RULE}."
    )
    task: Annotated[str, BeforeValidator(task_text)] = Field(
        description="What the agent is to do: the text, or a file with it."
    )
    score: FilePath | None = Field(
        default=None,
        description="Python file that is run outside the sandbox after the end, on the outputs; "
        "the JSON it prints goes into the record.",
    )
    sandbox: SandboxConfig = SandboxConfig()
    workspace: WorkspaceConfig = WorkspaceConfig()
    agent: AgentConfig = AgentConfig()

    @model_validator(mode="after")
    def _not_too_large(self, info: ValidationInfo) -> Experiment:
        if (info.context or {}).get("folder") is not None:
            copied = [*self.sandbox.local_files, *self.sandbox.local_dirs]
            check_size([c.source for c in copied] + list(self.workspace.libraries))
        return self

    @property
    def secrets(self) -> tuple[str, ...]:
        """Names of every secret that the run needs, the agent's key among them."""
        own = (self.agent.llm_secret,) if self.agent.llm_secret else ()
        return tuple(dict.fromkeys(self.sandbox.all_secrets + own))
