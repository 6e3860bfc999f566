"""The tables of ``harness theory`` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rich.table import Table

from harness.terminal.console import table


def theory_tables(document: Mapping[str, Any]) -> list[Table]:
    """Tables 1 and 2 and the theorems as formulas, the constants, the predicted factors, and the smoothness if any."""
    shown = [
        table(
            "Table 1: ANIL under two geometries, ξ = μ²/L²",
            ("geometry", "convergence rate", "gradient complexity", "second-order complexity"),
            [
                [
                    row["geometry"],
                    *(_text(row[key]) for key in ("rate", "gradient_complexity", "second_order_complexity")),
                ]
                for row in document["table_1"]
            ],
        ),
        table(
            "Table 2: entries to an ε-accurate point, κ the inner step size of MAML",
            ("algorithm", "geometry", "gradient entries", "second-order entries"),
            [
                [
                    row["algorithm"],
                    row["geometry"],
                    *(_text(row[key]) for key in ("gradient_evaluations", "second_order_evaluations")),
                ]
                for row in document["table_2"]
            ],
        ),
        table(
            "Theorems 1 (convex) and 2 (nonconvex)",
            ("theorem", "quantity", "order"),
            [[row["theorem"], row["quantity"], _text(row["order"])] for row in document["theorems"]],
        ),
        _constants(document),
        _predictions(document),
    ]
    return [*shown, _smoothness(document["smoothness"])] if document["smoothness"] else shown


def _constants(document: Mapping[str, Any]) -> Table:
    constants = document["constants"]
    name = f"{document['algorithm']} {document['geometry']} on {document['benchmark']}"
    place = (
        f"{document['tasks']} tasks at initialisation, N = {document['inner_steps']}, alpha = {document['inner_lr']:g}"
    )
    how = {
        "xi": "μ²/L²" if constants["xi"] is not None else "the inner objective is not strongly convex here",
        "kappa_L": "κ = alpha, and L of the Hessian in all parameters",
        "M": "of |∇L_D|; sampled, a lower bound",
        "rho": "of the Hessian in w; sampled, a lower bound",
        "tau": "of the mixed derivative; sampled, a lower bound",
    }
    rows = [
        [symbol, _number(constants[symbol]["value"]), f"{words}, {_error(constants[symbol])}"]
        for symbol, words in (("L", "largest |eigenvalue| of the Hessian in w"), ("mu", "smallest eigenvalue"))
    ]
    rows += [
        [symbol, _number(constants[symbol], "none" if symbol == "xi" else "not finite"), words]
        for symbol, words in how.items()
    ]
    rows.append(["n_w, n_phi", f"{document['n_w']:,}, {document['n_phi']:,}", f"λ = {document['lambda']:g}"])
    return table(f"{name}, {place}", ("constant", "estimate", ""), rows)


def _predictions(document: Mapping[str, Any]) -> Table:
    rows = [
        [
            row["geometry"],
            str(row["inner_steps"]),
            *(f"{row[f'{name}_entries']['gradient']:,}" for name in ("maml", "anil")),
            *(f"{row[f'{name}_entries']['second_order']:,}" for name in ("maml", "anil")),
            _number(row["factor"]["gradient"], "∞"),
            _number(row["factor"]["second_order"], "∞" if row["inner_steps"] else "none"),
        ]
        for row in document["predictions"]
    ]
    columns = ("ANIL", "N", "MAML ∇", "ANIL ∇", "MAML ∇²", "ANIL ∇²", "factor ∇ to ε", "factor ∇² to ε")
    return table("Entries per task, and how many times fewer ANIL is predicted to need", columns, rows)


def _smoothness(found: Mapping[str, Any]) -> Table:
    keys = ("w_w", "w_phi", "phi_w", "phi_phi", "w", "phi")
    rows = [[str(row["inner_steps"]), *(_number(row[key]) for key in keys)] for row in found["rows"]]
    decay = found["decay"]
    rate = decay["parameters"].get("rate", (None,))[0]
    predicted = _number(decay["predicted_rate"])
    fitted = f"w is a·{_number(rate)}^N" if decay["holds"] else f"w does not decay like a·r^N: {decay['reason']}"
    title = f"Smoothness of L_meta, a_b of the gradient in a along b; {fitted}; Proposition 2: rate {predicted}"
    return table(title, ("N", *keys), rows)


def _text(formula: Mapping[str, str]) -> str:
    return formula["text"]


def _error(estimate: Mapping[str, Any]) -> str:
    state = "" if estimate["converged"] else ", not converged"
    return f"± {_number(estimate['error'])}{state}"


def _number(value: float | None, missing: str = "not finite") -> str:
    return missing if value is None else f"{value:.4g}"
