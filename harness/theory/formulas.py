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

_NONCONVEX_RATE = _order("N/K + N/B", r"\tfrac{N}{K}+\tfrac{N}{B}")

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
    GeometryRow("nonconvex", _NONCONVEX_RATE, _NONCONVEX_COST, _NONCONVEX_COST),
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

#: Theorems 1 (strongly convex inner loop) and 2 (nonconvex), each with its step sizes; see harness.theory.bounds.
THEOREMS = (
    Statement(
        "Theorem 1",
        "step sizes, SGD",
        Formula(
            "α = μ/L², β_w = poly μ² (1-μ²/L²)^(-N/2), β_φ = poly μ³",
            r"\alpha=\tfrac{\mu}{L^2},\;\beta_w=\mathrm{poly}\,\mu^2(1-\tfrac{\mu^2}{L^2})^{-N/2},"
            r"\;\beta_\phi=\mathrm{poly}\,\mu^3",
        ),
    ),
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
    Statement(
        "Theorem 2",
        "step sizes, SGD",
        Formula(
            "α < O(1/N), β_w = β_φ = poly/N",
            r"\alpha<\mathcal{O}(\tfrac{1}{N}),\;\beta_w=\beta_\phi=\mathrm{poly}\,N^{-1}",
        ),
    ),
    Statement("Theorem 2", "‖∂L_meta/∂w‖², ‖∂L_meta/∂φ‖²", _NONCONVEX_RATE),
    Statement("Theorem 2", "gradients in w, second order", _NONCONVEX_COST),
    Statement("Theorem 2", "gradients in φ", _order("N ε^-2", r"N\epsilon^{-2}")),
)

_SOURCE = "Orders as stated by Ji, Lee, Liang and Poor 2020 (arXiv 2006.09486); constants free of N are left out."

#: what a reader of Table 1 has to know, a sentence or two each
TABLE_1_NOTES = (
    _SOURCE,
    "N/B is what the paper prints. Its complexities, N^2/ε^2 in w and N/ε^2 in φ, are K times B tasks with K = N/ε and "
    "B = 1/ε, so they need 1/B; with N/B they would be N^3/ε^2 and N^2/ε^2.",
    "The nonconvex N/K rests on Proposition 3, smoothness that grows like N. The bound spelled out by harness theory "
    "--smoothness is sharper: with α = 1/N it stays bounded as N grows, outer steps need not shrink, and K ~ N is not "
    "implied.",
)
#: and of Table 2
TABLE_2_NOTES = (
    _SOURCE,
    "MAML's row is Theorem 2 of Ji, Yang and Liang 2020 (arXiv 2002.07836). For the nonconvex geometry the paper then "
    "sets κ ≤ 1/N and states a factor without (1+κL)^N; the quotient of the two rows has (1+κL)^N / N in its place.",
    "Upper bounds, so that a factor is the quotient of two of them with every constant 1. The outer gradient in w, n_w "
    "entries a task that the rows leave out as of lower order, is counted where entries are.",
)
#: and of the theorems
THEOREM_NOTES = (
    "poly: polynomials in L, M, rho and tau, spelled out in the paper's appendices C.2 and D.1. The bounds of harness "
    "theory --smoothness are derived anew from Assumptions 1 and 2: same orders in w and φ, sharper in φ along w.",
    "The paper's L_D is a sum over the query set, equation (1), and here a mean over its |D| examples: ε here is the "
    "paper's over |D|², β the paper's times |D|. No order in N or ε changes.",
)
