"""What a run's processes get of the user's environment. Pure."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

_KEPT = {
    "CUDA_HOME",
    "CURL_CA_BUNDLE",
    "HF_ENDPOINT",
    "HF_HOME",
    "HF_HUB_CACHE",
    "HOME",
    "LANG",
    "LANGUAGE",
    "LD_LIBRARY_PATH",
    "LOGNAME",
    "PATH",
    "REQUESTS_CA_BUNDLE",
    "SHELL",
    "TMPDIR",
    "TZ",
    "USER",
    "XDG_CACHE_HOME",
}
_KEPT_PREFIXES = ("GIT_SSL_", "LC_", "PIP_", "SSL_", "UV_")
_PROXIES = {"all_proxy", "http_proxy", "https_proxy", "no_proxy"}

_FETCHING = {"HF_TOKEN", "NETRC", "SSH_AGENT_PID", "SSH_AUTH_SOCK", "XDG_CONFIG_HOME"}
_FETCHING_PREFIXES = ("GIT_", "PIP_", "UV_")

_SECRET_NAME = re.compile(r"TOKEN|PASSWORD|PASSWD|SECRET|CREDENTIAL|USERNAME|_KEY$|HEADER")
_SECRET_VALUE = re.compile(r"://[^/\s]*@")


def for_sandbox(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """Places, languages and certificates: what the agent's code may see."""
    return {
        name: value
        for name, value in environ.items()
        if (name in _KEPT or name.startswith(_KEPT_PREFIXES) or name.lower() in _PROXIES)
        and not _SECRET_NAME.search(name)
        and not _SECRET_VALUE.search(value)
    }


def for_agent(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The same, and the way to the network, also where the proxy wants a password."""
    proxies = {name: value for name, value in environ.items() if name.lower() in _PROXIES}
    return for_sandbox(environ) | proxies


def for_fetching(environ: Mapping[str, str] = os.environ) -> dict[str, str]:
    """The same, and what git, uv and the hub go by, credentials too: for preparing only."""
    return for_agent(environ) | {
        name: value
        for name, value in environ.items()
        if name in _FETCHING or name.startswith(_FETCHING_PREFIXES)
    }
