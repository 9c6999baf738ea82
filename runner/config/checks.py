"""What may be handed to git, to uv and to an environment. Pure: each says what is wrong, or "".

Every one of these texts reaches another program's command line or configuration; what that
program would take for an option, a local path or a transport of its own is refused here.
"""

from __future__ import annotations

import re
from urllib.parse import urlsplit

_SCP = re.compile(
    r"(?P<user>\w[\w.-]*)@(?P<host>[A-Za-z0-9][\w.-]*):(?P<path>[\w~/][\w./~+-]*)", re.ASCII
)
_GITHUB = re.compile(r"[A-Za-z0-9][\w-]*/[\w.][\w.-]*", re.ASCII)
_REPO_NAME = re.compile(r"[\w.][\w.-]*", re.ASCII)
_REF_NEVER = re.compile(r"[\x00-\x20\x7f~^:?*\[\\]|\.\.|@\{|//|\.lock$|/$|\.$|^/|^\.|/\.")
_MODEL = re.compile(
    r"(?=.{1,96}$)(?!.*(--|\.\.|[.-]/|\.git$))(\w[\w.-]*/)?\w[\w.-]*(?<![.-])", re.ASCII
)
_ENV_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_SECRET_NAME = re.compile(r"[A-Z_][A-Z0-9_]{0,63}")
_SYSTEM_PACKAGE = re.compile(r"[A-Za-z0-9][A-Za-z0-9+._-]*")

ONLY = "only https:// and ssh:// (or git@host:org/name) are accepted"


def full_url(text: str) -> str:
    """The URL that is meant: `org/name` is a repository on GitHub."""
    return f"https://github.com/{text}" if _GITHUB.fullmatch(text) else text


def url_problem(url: str) -> str:
    """Why git must not be given this URL, or ""."""
    if url.startswith("-"):
        return "it starts with `-`, so git would take it for an option"
    if re.match(r"[\w+.-]*::", url):
        return f"`{url.split('::')[0]}::` makes git start another program; {ONLY}"
    if re.search(r"[\x00-\x20\x7f]", url):
        return "it has white space or control characters in it"
    if "://" not in url:
        return _path_problem(url) if _SCP.fullmatch(url) else f"it is no URL; {ONLY}"
    parts = urlsplit(url)
    if parts.scheme not in ("https", "ssh"):
        return f"`{parts.scheme}://` is not accepted; {ONLY}"
    if parts.password is not None or (parts.scheme == "https" and "@" in parts.netloc):
        return "it has credentials in it; they belong in git's credential helper"
    if not re.match(r"[A-Za-z0-9\[]", parts.hostname or "") or (parts.username or "").startswith(
        "-"
    ):
        return "its host is missing or is no host name"
    if parts.query or parts.fragment:
        return "it has a `?` or `#` part; name a branch, tag or commit with `ref`"
    return _path_problem(url)


def _path_problem(url: str) -> str:
    path = _path(url).strip("/")
    if not path:
        return "it names no repository on that host"
    if ".." in path.split("/") or not _REPO_NAME.fullmatch(repo_name(url)):
        return "its last part cannot be the name of a directory"
    if repo_name(url) in ("", ".", "..", ".git"):
        return "its last part cannot be the name of a directory"
    return ""


def _path(url: str) -> str:
    scp = _SCP.fullmatch(url)
    return scp["path"] if scp else urlsplit(url).path


def repo_name(url: str) -> str:
    """The directory a clone of this URL goes to, as git itself would name it."""
    return _path(url).rstrip("/").rsplit("/", 1)[-1].removesuffix(".git")


def ref_problem(ref: str) -> str:
    """Why this is no branch, tag or commit, or ""."""
    if ref.startswith("-"):
        return "it starts with `-`, so git would take it for an option"
    if not ref or len(ref) > 250 or _REF_NEVER.search(ref):
        return "git allows no such name for a branch or tag"
    return ""


def requirement_problem(text: str) -> str:
    """Why uv must not be given this as a package, or ""; whether it exists is uv's to say."""
    if re.search(r"(^|\s)-", text):
        return "a part of it starts with `-`, so uv would take that for an option"
    if not text.strip() or re.search(r"[\x00-\x1f\x7f]", text):
        return "it is empty or has line breaks in it"
    if re.search(r"://[^/\s]*@", text) and not re.search(r"git\+ssh://[\w.-]+@[^:@/]+/", text):
        return "it has credentials in its URL"
    if not re.match(r"[A-Za-z0-9]", text) or "#" in text.split("://")[0]:
        return 'it does not start with a package name, such as "pandas>=2"'
    if "://" not in text and re.search(r"[/\\]|\.(whl|zip|tar\.gz|txt)$", text):
        return "it is a path; copy a package in with `local_dirs`, or a repo with `install = true`"
    if re.search(r"(?<![\w+])(git\+)?(file|http|ftp)://|git\+(?!https://|ssh://)", text):
        return "its URL is not https:// or git+https://"
    return ""


def is_env_name(text: str) -> bool:
    """Whether a shell and Python accept this as the name of an environment variable."""
    return _ENV_NAME.fullmatch(text) is not None


def is_model_name(text: str) -> bool:
    """Whether a hub could have a model of this name."""
    return _MODEL.fullmatch(text) is not None


def tells_of_model(text: str, name: str) -> bool:
    """Whether a model's name is in a text, or the part of it after the organisation as a word."""
    last = re.escape(name.rpartition("/")[2])
    return re.search(rf"(?<![a-z0-9]){last}(?![a-z0-9])", text, re.IGNORECASE) is not None


def is_secret_name(text: str) -> bool:
    """Whether this is a secret's name: an environment variable in upper case."""
    return _SECRET_NAME.fullmatch(text) is not None


def is_system_package(text: str) -> bool:
    """Whether this can be the name of a Debian package or a command."""
    return _SYSTEM_PACKAGE.fullmatch(text) is not None
