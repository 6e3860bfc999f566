"""First-order MAML (Finn, Abbeel, Levine 2017, section 5.2): MAML without its second-order terms."""

from algorithms.maml import MAML
from harness.problem.algorithm import MetaGradient, Oracle, first_order


class FOMAML(MAML):
    """MAML that takes the gradient of L_D at w_N for the meta-gradient."""

    name = "fomaml"
    summary = "MAML without second-order terms"
    derivative = "first_order"

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The gradient of L_D at w_N, as if w_N did not depend on w."""
        return first_order(oracle, inner_steps, inner_lr)
