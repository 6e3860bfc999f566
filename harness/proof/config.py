"""ProofConfig: whose model and tasks ``harness verify`` looks at. Importing it must not import torch."""

from __future__ import annotations

from pydantic import Field

from harness.settings.config import ProblemConfig, RunConfig

_N = RunConfig.model_fields["inner_steps"]


class ProofConfig(ProblemConfig):
    """A run's settings, as far as a meta-gradient knows them."""

    inner_steps: int = Field(default=_N.default, ge=0, description=str(_N.description))
