"""Tables 1 and 2 and the statements of Theorems 1 and 2 of Ji et al. 2020, as formulas to print. Free of torch."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Formula:
    """One formula, as ``text`` for a terminal and as ``latex`` for math mode, without dollar signs."""

    text: str
    latex: str

    def __str__(self) -> str:
        return self.text


@dataclass(frozen=True)
class GeometryRow:
    """A row of Table 1; every order is that of the larger of the two blocks w and phi."""

    geometry: str
    rate: Formula
    gradient_complexity: Formula
    second_order_complexity: Formula


@dataclass(frozen=True)
class AlgorithmRow:
    """A row of Table 2: entries evaluated until Definition 1 holds with epsilon."""

    algorithm: str
    geometry: str
    gradient_evaluations: Formula
    second_order_evaluations: Formula


@dataclass(frozen=True)
class Statement:
    """One line of a theorem."""

    theorem: str
    quantity: str
    order: Formula


def _order(text: str, latex: str) -> Formula:
    return Formula(f"O({text})", rf"\mathcal{{O}}\bigl({latex}\bigr)")


_SATURATING = "((1-ξ)^(N/2) + c_ε)"
_SATURATING_LATEX = r"\bigl((1-\xi)^{N/2}+c_\epsilon\bigr)"
_CONVEX_COST = _order(f"N {_SATURATING} ε^-2", rf"N{_SATURATING_LATEX}\epsilon^{{-2}}")
_NONCONVEX_COST = _order("N^2 ε^-2", r"N^2\epsilon^{-2}")

#: Table 1: ANIL under the two geometries; xi = mu^2 / L^2, and c_k, c_b, c_epsilon do not depend on N.
TABLE_1 = (
    GeometryRow(
        "convex",
        _order(
            "((1-ξ)^(N/2) + c_k)/K + ((1-ξ)^(3N/2) + c_b)/B",
            r"\tfrac{(1-\xi)^{N/2}+c_k}{K}+\tfrac{(1-\xi)^{3N/2}+c_b}{B}",
        ),
        _CONVEX_COST,
        _CONVEX_COST,
    ),
    GeometryRow("nonconvex", _order("N/K + 1/B", r"\tfrac{N}{K}+\tfrac{1}{B}"), _NONCONVEX_COST, _NONCONVEX_COST),
)

_MAML_GROWTH = ("(1+κL)^N ε^-2", r"(1+\kappa L)^N\epsilon^{-2}")

#: Table 2: MAML with inner step size kappa, and ANIL; the paper has no row for FOMAML.
TABLE_2 = (
    AlgorithmRow(
        "maml",
        "nonconvex",
        _order(f"(N n_w + N n_φ) {_MAML_GROWTH[0]}", rf"(Nn_w+Nn_\phi){_MAML_GROWTH[1]}"),
        _order(f"N (n_w + n_φ)^2 {_MAML_GROWTH[0]}", rf"N(n_w+n_\phi)^2{_MAML_GROWTH[1]}"),
    ),
    AlgorithmRow(
        "anil",
        "convex",
        _order(f"(N n_w + n_φ) {_SATURATING} ε^-2", rf"(Nn_w+n_\phi){_SATURATING_LATEX}\epsilon^{{-2}}"),
        _order(f"N (n_w^2 + n_w n_φ) {_SATURATING} ε^-2", rf"N(n_w^2+n_wn_\phi){_SATURATING_LATEX}\epsilon^{{-2}}"),
    ),
    AlgorithmRow(
        "anil",
        "nonconvex",
        _order("(N n_w + n_φ) N ε^-2", r"(Nn_w+n_\phi)N\epsilon^{-2}"),
        _order("N^2 (n_w^2 + n_w n_φ) ε^-2", r"N^2(n_w^2+n_wn_\phi)\epsilon^{-2}"),
    ),
)

_XI_HALF = r"(1-\tfrac{\mu^2}{L^2})^{N/2}"
_CONVEX_EPSILON = "(μ^-4 (1-μ²/L²)^(N/2) + μ^-5) ε^-2"
_CONVEX_EPSILON_LATEX = rf"\bigl(\mu^{{-4}}{_XI_HALF}+\mu^{{-5}}\bigr)\epsilon^{{-2}}"

#: Theorems 1 (strongly convex inner loop) and 2 (nonconvex, alpha of order 1/N); see harness.theory.bounds.
THEOREMS = (
    Statement(
        "Theorem 1",
        "‖∂L_meta/∂w‖²",
        _order(
            "μ^-2 (1-μ²/L²)^(N/2)/K + μ^-1 (1-μ²/L²)^(N/2)/B",
            rf"\tfrac{{{_XI_HALF}}}{{\mu^2K}}+\tfrac{{{_XI_HALF}}}{{\mu B}}",
        ),
    ),
    Statement(
        "Theorem 1",
        "‖∂L_meta/∂φ‖²",
        _order(
            "(μ^-2 (1-μ²/L²)^(N/2) + μ^-3)/K + (μ^-1 (1-μ²/L²)^(3N/2) + μ^-2)/B",
            rf"\tfrac{{\mu^{{-2}}{_XI_HALF}+\mu^{{-3}}}}{{K}}"
            r"+\tfrac{\mu^{-1}(1-\tfrac{\mu^2}{L^2})^{3N/2}+\mu^{-2}}{B}",
        ),
    ),
    Statement(
        "Theorem 1",
        "gradients in w, second order",
        _order(f"N {_CONVEX_EPSILON}", f"N{_CONVEX_EPSILON_LATEX}"),
    ),
    Statement("Theorem 1", "gradients in φ", _order(_CONVEX_EPSILON, _CONVEX_EPSILON_LATEX)),
    Statement("Theorem 2", "‖∂L_meta/∂w‖², ‖∂L_meta/∂φ‖²", _order("N/K + 1/B", r"\tfrac{N}{K}+\tfrac{1}{B}")),
    Statement("Theorem 2", "gradients in w, second order", _NONCONVEX_COST),
    Statement("Theorem 2", "gradients in φ", _order("N ε^-2", r"N\epsilon^{-2}")),
)
