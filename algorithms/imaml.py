"""iMAML (Rajeswaran, Finn, Kakade, Levine 2019): the implicit meta-gradient of a proximal inner problem."""

from pydantic import Field

from algorithms.conjugate_gradients import conjugate_gradients
from algorithms.minibatch_prox import MinibatchProx, ProximalOptions
from harness.problem.algorithm import MetaGradient, Oracle


class IMAMLOptions(ProximalOptions):
    """Options of iMAML."""

    cg_steps: int = Field(10, ge=1, le=10_000, description="conjugate gradients, at most")
    cg_tolerance: float = Field(1e-2, ge=0, lt=1, description="of their residual, relative to the right-hand side")


class IMAML(MinibatchProx):
    """The gradient of L_D(w*, phi), w* = argmin L_S(w, phi) + (lambda/2) |w - w_0|^2, by the implicit function theorem.

    With x from (H + lambda I) x = grad_w L_D(w*), H = grad_w^2 L_S(w*): dL/dw = lambda x, and
    dL/dphi = grad_phi L_D - [grad_phi grad_w L_S(w*)] x. As exact as w* and x are.
    """

    name = "imaml"
    summary = "implicit gradient of a proximal inner problem, by conjugate gradients"
    Options = IMAMLOptions

    def meta_gradient(self, oracle: Oracle, inner_steps: int, inner_lr: float) -> MetaGradient:
        """The implicit gradient; no step of the inner loop is differentiated."""
        w = self.adapt(oracle, inner_steps, inner_lr)
        oracle.inner_gradient(w, linearise=True)
        v, g_phi = oracle.outer_gradient(w)
        own = self.options
        x = conjugate_gradients(oracle, w, v, own.strength, own.cg_steps, own.cg_tolerance)
        if oracle.n_phi:
            g_phi = g_phi - oracle.mixed_product(w, x)
        return MetaGradient(own.strength * x.mean(0), oracle.phi_gradient(g_phi))
