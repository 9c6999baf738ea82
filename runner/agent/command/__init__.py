"""Agents that are not ours: a command beside the sandbox, its tools, and the way to its model.

`drive` runs it; a server on loopback has the sandbox's tools over MCP and, where `[agent]` names
a provider, its API, at which what the command asks is counted.
"""

from runner.agent.command.drive import drive

__all__ = ["drive"]
