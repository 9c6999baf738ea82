"""Who answers: the seam between the loop and a model.

Only the seam is imported here; `anthropic` (3 s to import) and `scripted` are
imported by whoever uses them.
"""

from runner.agent.providers.base import STOPPED, Provider, ProviderRefused, Reply

__all__ = ["STOPPED", "Provider", "ProviderRefused", "Reply"]
