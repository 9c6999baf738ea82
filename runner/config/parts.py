"""The small tables of a list: a repository, a volume, a model."""

from __future__ import annotations

from keyword import iskeyword
from typing import Annotated, Any

from pydantic import AfterValidator, BaseModel, ConfigDict, Field, StrictBool, model_validator

from runner.config import checks
from runner.config.files import workspace_path
from runner.config.refuse import HIDDEN, refuse
from runner.names import is_name


class Table(BaseModel):
    """A table of the file: unknown keys refused, values frozen and not echoed in errors."""

    model_config = ConfigDict(
        extra="forbid", frozen=True, hide_input_in_errors=True, defer_build=True
    )


def _volume_name(text: str) -> str:
    if not is_name(text):
        raise refuse("the name of a volume in the settings: lower case letters, digits and `-`")
    return text


def _volume_path(text: str) -> str:
    """Where a volume is mounted: inside the workspace, or an absolute path elsewhere."""
    if text.startswith("/") and not f"{text}/".startswith("/workspace/"):
        if ".." in text.split("/") or text.strip("/") == "":
            raise refuse("an absolute path without `..`, or one inside the workspace")
        return text.rstrip("/")
    return workspace_path(text)


def _ref(text: str) -> str:
    if problem := checks.ref_problem(text):
        raise refuse("a branch, a tag or a full commit", hint=f"Refused, as {problem}.")
    return text


def secret_name(text: str) -> str:
    """A secret's name; what looks like a value is refused and not repeated."""
    if not checks.is_secret_name(text):
        raise refuse(
            'the name of a secret, such as "HF_TOKEN" (upper case letters, digits, `_`)',
            found=HIDDEN,
            hint="The value goes into the environment or a .env file, never into this one.",
        )
    return text


def _model_name(text: str) -> str:
    if not checks.is_model_name(text):
        raise refuse('the name of a model on its hub, such as "org/name"')
    return text


def _variable(text: str) -> str:
    if not text.isidentifier() or iskeyword(text) or text.startswith("_"):
        raise refuse('the name of a variable of Python, such as "model"')
    return text


def _url(text: str) -> str:
    url = checks.full_url(text)
    if problem := checks.url_problem(url):
        raise refuse('a git repository: "org/name" or its URL', hint=f"Refused, as {problem}.")
    return url


SecretName = Annotated[str, AfterValidator(secret_name)]


class RepoConfig(Table):
    """A git repository that is cloned into the workspace; as plain text, its URL."""

    url: Annotated[str, AfterValidator(_url)] = Field(
        description="https:// or ssh:// URL; `org/name` is a repository on GitHub."
    )
    ref: Annotated[str, AfterValidator(_ref)] | None = Field(
        default=None, description="Branch, tag or full commit; the default branch if left out."
    )
    install: StrictBool = Field(
        default=False, description="Also install it into the sandbox's Python, editable."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        if isinstance(value, dict) and "dockerfile" in value:
            raise refuse(
                "a repository without `dockerfile`",
                found="`dockerfile`",
                hint="Nothing builds images at run time: name what it needs in system_packages "
                "and python_packages, or an image that has it in sandbox.image.",
            )
        return {"url": value} if isinstance(value, str) else value

    @property
    def name(self) -> str:
        """The directory in the workspace that it is cloned to."""
        return checks.repo_name(self.url)


class VolumeConfig(Table):
    """Data or weights that the lab already has, by the name that the settings give them."""

    name: Annotated[str, AfterValidator(_volume_name)] = Field(
        description="Name of the volume in the settings."
    )
    path: Annotated[str, AfterValidator(_volume_path)] = Field(
        description="Where the sandbox sees it, in the workspace or absolute."
    )
    read_only: StrictBool = Field(
        default=False, description="Whether the sandbox cannot write there."
    )


class ModelConfig(Table):
    """A model of a Hugging Face hub; as plain text, its name."""

    name: Annotated[str, AfterValidator(_model_name)] = Field(
        description="Name of the model on its hub: `org/name`."
    )
    revision: Annotated[str, AfterValidator(_ref)] | None = Field(
        default=None, description="Branch, tag or full commit; `main` if left out."
    )
    secret: SecretName | None = Field(
        default=None,
        description="Name of a secret with a token of the hub, which only fetching gets; for a "
        "model that is private or gated.",
    )
    var_name: Annotated[str, AfterValidator(_variable)] | None = Field(
        default=None,
        description="Variable of the kernel that holds it, loaded with transformers; files alone "
        "if left out. Its tokenizer is `tokenizer` beside `model`, else `NAME_tokenizer`.",
    )
    hidden: StrictBool = Field(
        default=False,
        description="Whether the agent must not learn the name; what kind of model it is, it sees.",
    )
    is_peft: StrictBool = Field(
        default=False,
        description="Whether it is an adapter, which peft loads onto `base_model`; both are there.",
    )
    base_model: Annotated[str, AfterValidator(_model_name)] | None = Field(
        default=None,
        description="The model an adapter goes on; at the revision that it has in the list, else "
        "`main`.",
    )
    load_as_peft: StrictBool = Field(
        default=False, description="Keep the adapter apart from its base; merged into it if not."
    )

    @model_validator(mode="before")
    @classmethod
    def _from_text(cls, value: Any) -> Any:
        return {"name": value} if isinstance(value, str) else value

    @model_validator(mode="after")
    def _consistent(self) -> ModelConfig:
        if self.is_peft != (self.base_model is not None):
            raise refuse("`is_peft = true` and `base_model` together", found="one of them")
        if self.load_as_peft and not self.is_peft:
            raise refuse("`is_peft = true` beside `load_as_peft`", found="no `is_peft`")
        if (self.load_as_peft or self.hidden) and not self.var_name:
            raise refuse(
                "`var_name` beside `load_as_peft` and `hidden`",
                found="no `var_name`",
                hint="Both are about the variable that the notebook gets: name it.",
            )
        return self

    @property
    def tokenizer(self) -> str | None:
        """The variable of its tokenizer."""
        if self.var_name is None:
            return None
        return "tokenizer" if self.var_name == "model" else f"{self.var_name}_tokenizer"
