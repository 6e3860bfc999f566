"""MAML (Finn, Abbeel, Levine 2017): everything is adapted, the meta-gradient is exact."""

from harness.problem.algorithm import Algorithm, Geometry, MetaGradient, Oracle, exact


class MAML(Algorithm):
    """w is the whole network and phi is empty; N steps on L_S, differentiated exactly."""

    name = "maml"
    summary = "adapts every parameter; exact second-order meta-gradient"
    geometries = {"nonconvex": Geometry("all", "the whole network")}
    derivative = "exact"

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The exact gradient of L_D(w_N) in w."""
        return exact(oracle, inner_steps, inner_lr)
