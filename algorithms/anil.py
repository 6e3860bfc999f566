"""ANIL (Raghu et al. 2020; Ji et al. 2020): only the last layers are adapted, the body is shared."""

from collections.abc import Mapping

from pydantic import BaseModel, ConfigDict, Field

from algorithms.maml import MAML
from harness.problem.algorithm import Choice, Geometry, Range


class ANILOptions(BaseModel):
    """Options of ANIL."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    l2: float = Field(1e-3, ge=0, le=1e38, description="lambda of the convex inner loss L_S + (lambda/2)|w|^2")


class ANIL(MAML):
    """MAML whose w is the last layer (strongly convex inner loop) or the last two (nonconvex)."""

    name = "anil"
    summary = "adapts the last layers only; exact meta-gradient, features computed once per task"
    geometries = {
        "convex": Geometry("last:1", "last linear layer, L_S + (lambda/2)|w|^2, so mu >= lambda"),
        "nonconvex": Geometry("last:2", "last two layers: last convolution block and classifier"),
    }
    Options = ANILOptions

    @property
    def search_space(self) -> Mapping[str, Range | Choice]:
        """See :attr:`Algorithm.search_space`; lambda belongs to the convex geometry alone."""
        space = dict(super().search_space)
        if self.geometry == "convex":
            space["algo_options.l2"] = Range(1e-5, 1e-1, log=True)
        return space

    @property
    def l2(self) -> float:
        """lambda in the convex geometry, 0 in the nonconvex one (section 2 of Ji et al.)."""
        return float(self.options.l2) if self.geometry == "convex" else 0.0
