"""BOIL (Oh, Yoo, Kim, Yun 2021): the body is adapted, the head is not."""

from algorithms.maml import MAML
from harness.problem.algorithm import Geometry


class BOIL(MAML):
    """MAML whose w is everything but the last layer, which the outer loop alone trains."""

    name = "boil"
    summary = "adapts everything but the last layer; exact second-order meta-gradient"
    geometries = {"nonconvex": Geometry("not last:1", "everything but the last layer")}
