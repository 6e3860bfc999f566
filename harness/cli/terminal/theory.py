"""The tables of ``harness theory`` on a terminal."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.padding import Padding
from rich.text import Text

from harness.cli.terminal.advice import advice_tables
from harness.cli.terminal.console import table
from harness.cli.terminal.fitted import Fitted
from harness.strangers.named import brief


def theory_tables(document: Mapping[str, Any]) -> list[Fitted | Padding]:
    """Tables 1 and 2 and the theorems as formulas with their notes, then what they come to on this problem."""
    notes = document["notes"]
    shown: list[Fitted | Padding] = [
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
        _notes(notes["table_1"]),
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
        _notes(notes["table_2"]),
        table(
            "Theorems 1 (convex) and 2 (nonconvex)",
            ("theorem", "quantity", "order"),
            [[row["theorem"], row["quantity"], _text(row["order"])] for row in document["theorems"]],
        ),
        _notes(notes["theorems"]),
        _constants(document),
        *_steps(document),
        *_predictions(document),
    ]
    if document["smoothness"]:
        shown += _smoothness(document["smoothness"])
    return [*shown, *advice_tables(document["advice"])] if document["advice"] else shown


def _constants(document: Mapping[str, Any]) -> Fitted:
    constants = document["constants"]
    name = f"{document['algorithm']} {document['geometry']} on {brief(document['benchmark'])}"
    place = (
        f"{document['tasks']} tasks at initialisation, N = {document['inner_steps']}, alpha = {document['inner_lr']:g}"
    )
    L_all = _number(constants["L_all"])
    xi = constants["xi"]
    how = {
        "xi": "μ²/L²" if xi is not None else "μ is not certainly positive: not strongly convex here",
        "L_all": "L of the Hessian in all parameters" + (", as Assumption 1 has it: ξ may be smaller" if xi else ""),
        "kappa_L": f"κ = alpha, times {L_all}",
        "M": "of |∇L_D|; sampled, a lower bound",
        "rho": "of the Hessian in w; sampled, a lower bound",
        "tau": "of the mixed derivative; sampled, a lower bound",
    }
    floor = constants["mu_at_least"]
    certain = f"; λ ≤ μ, as L_S is convex in w: λ = {floor:g}" if floor else ""
    rows = [
        [
            "L",
            _number(constants["L"]["value"]),
            f"largest |eigenvalue| of the Hessian in w, {_error(constants, 'L', 'more')}",
        ],
        ["mu", _number(constants["mu"]["value"]), f"smallest eigenvalue, {_error(constants, 'mu', 'less')}{certain}"],
    ]
    rows += [
        [symbol, _number(constants[symbol], "none" if symbol == "xi" else "not finite"), words]
        for symbol, words in how.items()
    ]
    rows.append(["n_w, n_phi", f"{document['n_w']:,}, {document['n_phi']:,}", f"λ = {document['lambda']:g}"])
    return table(f"{name}, {place}", ("constant", "estimate", ""), rows)


def _steps(document: Mapping[str, Any]) -> list[Fitted | Padding]:
    """The theorem's step sizes beside the run's, and whether the theorem is about such a run."""
    steps = document["steps"]
    found, over, run = steps["conditions"], steps["over_poly"], steps["run"]
    shown: list[Fitted | Padding] = []
    if found["theorem"] is not None:
        convex = found["theorem"] == 1
        alpha = "μ/L²" if convex else "1/(N L), for O(1/N)"
        betas = ("poly μ² (1-ξ)^(-N/2)", "poly μ³") if convex else ("poly/N", "poly/N")
        rows = [
            ["outer loop", "SGD", "", run["outer_optimizer"]],
            ["α", alpha, _number(found["alpha"], "unknown"), f"{document['inner_lr']:g}"],
        ]
        rows += [
            [name, formula, "unknown" if over[key] is None else f"poly · {over[key]:.4g}", f"{run[key]:g}"]
            for name, formula, key in zip(("β_w", "β_φ"), betas, ("outer_lr_w", "outer_lr_phi"), strict=True)
        ]
        if convex:
            rows.append(["(1-ξ)^(N/2)", "", _number(over["decay"], "unknown"), ""])
        title = f"Step sizes: Theorem {found['theorem']}, N = {document['inner_steps']}, and a run with these settings"
        shown.append(table(title, ("", "theorem", "comes to", "run"), rows))
    sentences = [sentence for sentence in (found["sentence"], found["effect"], steps["advice"]) if sentence]
    return [*shown, _notes([_sentence(sentence) for sentence in sentences])]


def _predictions(document: Mapping[str, Any]) -> list[Fitted | Padding]:
    """A table for each geometry of ANIL."""
    columns = ("N", "MAML ∇", "ANIL ∇", "MAML ∇²", "ANIL ∇²", "factor ∇", "factor ∇²")
    shown: list[Fitted | Padding] = []
    for geometry in dict.fromkeys(row["geometry"] for row in document["predictions"]):
        found = [row for row in document["predictions"] if row["geometry"] == geometry]
        rows = [
            [
                str(row["inner_steps"]),
                *(_count(row[f"{name}_entries"]["gradient"]) for name in ("maml", "anil")),
                *(_count(row[f"{name}_entries"]["second_order"]) for name in ("maml", "anil")),
                _number(row["factor"]["gradient"], "∞"),
                _number(row["factor"]["second_order"], "∞" if row["inner_steps"] else "none"),
            ]
            for row in found
        ]
        title = f"Entries per task, and how many times fewer to ε ANIL {geometry} is predicted to need"
        shown.append(table(title, columns, rows))
        if outside := [str(row["inner_steps"]) for row in found if row["factor_condition"]]:
            kappa = f"MAML's κ = alpha = {document['inner_lr']:g}"
            shown.append(_notes([f"This factor is for κ ≤ 1/N, and {kappa} is larger at N = {', '.join(outside)}."]))
    return shown


def _smoothness(found: Mapping[str, Any]) -> list[Fitted | Padding]:
    blocks, rows = ("w_w", "w_phi", "phi_phi"), found["rows"]
    columns = ("N", *blocks, "w", "phi")
    measured = [[str(row["inner_steps"]), *(_number(row[key]) for key in columns[1:])] for row in rows]
    shown: list[Fitted | Padding] = [table("Smoothness of L_meta, a_b of the gradient in a along b", columns, measured)]
    bounds = [
        [str(row["inner_steps"]), *(_number(row["bound"][key], "∞") for key in blocks)] for row in rows if row["bound"]
    ]
    if bounds:
        shown.append(table(f"Its bounds by Proposition {found['proposition']}", ("N", *blocks), bounds))
    return [*shown, _notes(_smoothness_notes(found))]


def _smoothness_notes(found: Mapping[str, Any]) -> list[str]:
    decay = found["decay"]
    rate = decay["parameters"].get("rate", (None,))[0]
    fitted = f"w is a·{_number(rate)}^N" if decay["holds"] else f"w does not decay like a·r^N: {decay['reason']}"
    notes = ["phi_w is w_phi. The bounds take the sampled constants, lower bounds themselves, so they prove nothing."]
    if found["proposition"] == 2:
        notes.append(f"{fitted}; Proposition 2: rate 1-αμ = {_number(decay['predicted_rate'])}, for α = μ/L².")
        if found["alpha_L"] is not None and found["alpha_L"] > 1:
            notes.append(
                f"No bounds: αL = {_number(found['alpha_L'])} is above 1, and an inner step need not contract."
            )
        return notes
    return [
        *notes,
        f"{fitted}. Proposition 3 promises no decay: smoothness up to poly · N for α < O(1/N). The bounds here are of "
        "order (1+αL)^(2N): bounded as N grows for α = 1/N, exponential for an α that does not fall with N.",
    ]


def _notes(lines: Sequence[str]) -> Padding:
    return Padding(Text("\n".join(lines)), (0, 0, 1, 2))


def _sentence(words: str) -> str:
    return f"{words[0].upper()}{words[1:]}."


def _text(formula: Mapping[str, str]) -> str:
    return formula["text"]


def _error(constants: Mapping[str, Any], name: str, way: str) -> str:
    """How much further than the eigenvalue that was found the end of the spectrum may lie."""
    estimate, L = constants[name], constants["L"]["value"]
    error = estimate["error"]
    if L is None or error is None:
        return "not converged"
    if error <= 1e-9 * L:
        return "exact to rounding"
    state = "" if estimate["converged"] else ", not converged"
    return f"at most {_number(error)} {way} (99.99 % sure, each task){state}"


def _count(entries: int) -> str:
    return f"{entries:,}" if entries < 1e6 else f"{entries:.3e}"


def _number(value: float | None, missing: str = "not finite") -> str:
    return missing if value is None else f"{value:.4g}"
