"""Algorithm 1 as a plain loop in nothing but PyTorch: the witness of every number that a run writes.

Tasks come one by one from a function, the model is an ``nn.Module``, and nothing is imported from the harness.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn
from torch.func import functional_call

Named = dict[str, Tensor]
Task = tuple[Tensor, Tensor, Tensor, Tensor]


@dataclass
class PlainRun:
    """What is trained on what; ``adapted`` names the parameters in w, ``draw(split, t)`` gives task t of a split.

    ``together``: so many first layers see the support and the query set in one batch.
    """

    module: nn.Module
    adapted: list[str]
    draw: Callable[[str, int], Task]
    classifies: bool
    inner_steps: int
    inner_lr: float
    meta_batch: int
    adam: bool
    lr_w: float
    lr_phi: float
    falls_over: int
    l2: float = 0.0
    first_order: bool = False
    together: int = 0
    iteration: int = 0
    #: parameters and gradient at the last measurement, and the secants from the one before it
    before: tuple[Named, Named] | None = None
    secants: dict[str, float] = field(default_factory=dict)
    moments: dict[str, tuple[Tensor, Tensor]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.parameters = {name: value.detach().clone() for name, value in self.module.named_parameters()}
        self.n_w = sum(self.parameters[name].numel() for name in self.adapted)
        self.n_phi = sum(value.numel() for value in self.parameters.values()) - self.n_w

    def predict(self, at: Named, task: Task, query: bool) -> Tensor:
        """The outputs for the support or for the query set."""
        x = task[2] if query else task[0]
        if not self.together:
            return functional_call(self.module, at, (x,))
        x = torch.cat([task[0], task[2]])
        for number, (name, layer) in enumerate(self.module.named_children()):
            if number == self.together:
                x = x[len(task[0]) :] if query else x[: len(task[0])]
            inside = {key.removeprefix(f"{name}."): value for key, value in at.items() if key.startswith(f"{name}.")}
            x = functional_call(layer, inside, (x,))
        return x

    def loss(self, prediction: Tensor, target: Tensor) -> Tensor:
        """The mean over the examples of minus the log of the softmax's share, or of the squared error."""
        if self.classifies:
            return (prediction.logsumexp(1) - prediction[torch.arange(len(target)), target]).sum() / len(target)
        return ((prediction - target) ** 2).sum() / len(target)

    def query(self, at: Named, task: Task) -> tuple[Tensor, float]:
        """Loss and accuracy on the query set."""
        prediction = self.predict(at, task, query=True)
        accuracy = (prediction.argmax(1) == task[3]).double().mean().item() if self.classifies else math.nan
        return self.loss(prediction, task[3]), accuracy

    def adapt(self, at: Named, task: Task, recorded: bool) -> Named:
        """All parameters after N inner steps on the support set; ``recorded``: so that autograd sees through them."""
        for _ in range(self.inner_steps):
            w = {name: at[name] if recorded else at[name].detach().requires_grad_() for name in self.adapted}
            objective = self.loss(self.predict({**at, **w}, task, query=False), task[1])
            objective = objective + self.l2 / 2 * sum((value**2).sum() for value in w.values())
            slopes = torch.autograd.grad(objective, list(w.values()), create_graph=recorded)
            at = {**at, **{name: w[name] - self.inner_lr * slope for name, slope in zip(w, slopes, strict=True)}}
        return at

    def meta_gradient(self, split: str, tasks: range, first_order: bool = False) -> tuple[list[Named], float, float]:
        """The gradient of each task's L_D(w_N, phi) in every parameter; the means of loss and accuracy."""
        gradients, losses, accuracies = [], [], []
        for number in tasks:
            task = self.draw(split, number)
            start = {name: value.detach().requires_grad_() for name, value in self.parameters.items()}
            end = self.adapt(start, task, recorded=not first_order)
            if first_order:  # w_N as if it did not depend on w
                end = {n: v.detach().requires_grad_() if n in self.adapted else start[n] for n, v in end.items()}
            loss, accuracy = self.query(end, task)
            at = end if first_order else start
            slopes = torch.autograd.grad(loss, list(at.values()), materialize_grads=True, allow_unused=True)
            gradients.append(dict(zip(at, slopes, strict=True)))
            losses.append(loss.item())
            accuracies.append(accuracy)
        return gradients, statistics.fmean(losses), statistics.fmean(accuracies)

    def step(self) -> dict[str, object]:
        """One meta-iteration; what ``metrics.jsonl`` says of it."""
        tasks = range(self.iteration * self.meta_batch, (self.iteration + 1) * self.meta_batch)
        each, loss, accuracy = self.meta_gradient("train", tasks, self.first_order)
        gradient = {name: sum(one[name] for one in each) / len(each) for name in self.parameters}
        self.iteration += 1
        for name, g in gradient.items():
            lr = self.lr_w if name in self.adapted else self.lr_phi
            if self.falls_over:  # half a cosine, from lr before the first step
                lr *= math.cos(math.pi * (self.iteration - 1) / (2 * self.falls_over)) ** 2
            self.parameters[name] = self.parameters[name] - lr * (self.by_adam(name, g) if self.adam else g)
        squares = self.squares(gradient)
        return {
            "iteration": self.iteration,
            "loss": loss,
            "accuracy": accuracy,
            "grad_w_norm": math.sqrt(squares[0]),
            "grad_phi_norm": math.sqrt(squares[1]),
            "counts": self.counts(),
        }

    def by_adam(self, name: str, g: Tensor) -> Tensor:
        """The direction of Kingma and Ba 2015, algorithm 1, with its defaults."""
        m, v = self.moments.get(name, (torch.zeros_like(g), torch.zeros_like(g)))
        m, v = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g**2
        self.moments[name] = m, v
        return m / (1 - 0.9**self.iteration) / ((v / (1 - 0.999**self.iteration)).sqrt() + 1e-8)

    def counts(self) -> dict[str, int]:
        """Table 2 for all tasks so far, and the products in place of its matrices."""
        tasks, n = self.iteration * self.meta_batch, self.inner_steps
        products = 0 if self.first_order else tasks * n
        return {
            "gradient_entries": tasks * (n * self.n_w + self.n_w + self.n_phi),
            "second_order_entries": products * (self.n_w**2 + self.n_w * self.n_phi),
            "hessian_vector_products": products,
            "mixed_products": products if self.n_phi else 0,
            "query_gradients": tasks,
            "solves": 0,
            "pseudo_gradients": 0,
        }

    def evaluate(self, split: str, tasks: int) -> dict[str, object]:
        """What ``evaluations.jsonl`` says of the first ``tasks`` tasks of ``split``."""
        columns: dict[str, list[float]] = {}
        for number in range(tasks):
            task = self.draw(split, number)
            after = self.query(self.adapt(self.parameters, task, recorded=False), task)
            before = self.query(self.parameters, task)
            for suffix, (loss, accuracy) in (("", after), ("_before_adaptation", before)):
                columns.setdefault(f"loss{suffix}", []).append(loss.item())
                columns.setdefault(f"accuracy{suffix}", []).append(accuracy)
        found: dict[str, object] = {"iteration": self.iteration, "split": split, "tasks": tasks}
        for name, values in columns.items():
            found[name] = statistics.fmean(values)
            found[f"{name}_ci95"] = 1.96 * math.sqrt(statistics.variance(values) / tasks)
        return found

    def measure(self, tasks: range, sizes: list[int]) -> dict[str, object]:
        """What ``stationarity.jsonl`` says, on ``tasks`` of the training stream in groups: the exact gradient."""
        each, loss, accuracy = self.meta_gradient("train", tasks)
        gradient = {name: sum(one[name] for one in each) / len(each) for name in self.parameters}
        if self.before:
            way, change = (
                {name: new[name] - old[name] for name in new}
                for new, old in zip((self.parameters, gradient), self.before, strict=True)
            )
            length = math.sqrt(sum(self.squares(way)))
            of_w, of_phi = self.squares(change)
            self.secants = {"smoothness_w": math.sqrt(of_w) / length, "smoothness_phi": math.sqrt(of_phi) / length}
        self.before = dict(self.parameters), gradient
        rest = iter(each)
        groups = [[next(rest) for _ in range(size)] for size in sizes]
        unbiased: dict[str, float | None] = {"tasks": len(each), "groups": len(groups)}
        of_w, of_phi = self.squares(gradient)
        for part, (side, square) in {"w": (0, of_w), "phi": (1, of_phi)}.items():
            value = self.unbiased(groups, side)
            others = [self.unbiased(groups[:left] + groups[left + 1 :], side) for left in range(len(groups))]
            # the jackknife (Efron and Stein 1981), which leaves out one group after the other
            error = math.sqrt((len(others) - 1) * statistics.pvariance(others))
            unbiased |= {part: value, f"{part}_noise": square - value}
            if len(set(sizes)) == 1:
                unbiased[f"{part}_error"] = error
        return {
            "iteration": self.iteration,
            "loss": loss,
            "accuracy": accuracy,
            "grad_w_squared_norm": of_w,
            "grad_phi_squared_norm": of_phi,
            "squared_norms": {name: (g**2).sum().item() for name, g in gradient.items()},
            "unbiased": unbiased,
            "counts": self.counts(),
        }

    def unbiased(self, groups: list[list[Named]], side: int) -> float:
        """(|A|^2 - sum |a_b|^2) / (T^2 - sum n_b^2) with sums a_b of n_b gradients and A of all T, in w or phi."""

        def square(gradients: list[Named]) -> float:
            return self.squares({name: sum(one[name] for one in gradients) for name in self.parameters})[side]

        everything = [one for group in groups for one in group]
        pairs = len(everything) ** 2 - sum(len(group) ** 2 for group in groups)
        return (square(everything) - sum(square(group) for group in groups)) / pairs

    def curvature(self, number: int) -> float:
        """The largest eigenvalue of the Hessian in w of a training task's inner objective."""
        task, sizes = self.draw("train", number), [self.parameters[name].numel() for name in self.adapted]

        def objective(flat: Tensor) -> Tensor:
            parts = zip(self.adapted, flat.split(sizes), strict=True)
            w = {name: part.view_as(self.parameters[name]) for name, part in parts}
            loss = self.loss(self.predict({**self.parameters, **w}, task, query=False), task[1])
            return loss + self.l2 / 2 * (flat**2).sum()

        start = torch.cat([self.parameters[name].flatten() for name in self.adapted])
        return torch.linalg.eigvalsh(torch.autograd.functional.hessian(objective, start)).max().item()

    def squares(self, gradient: Named) -> tuple[float, float]:
        """The squared norms of what belongs to w and of what belongs to phi."""
        of_w = sum((gradient[name] ** 2).sum().item() for name in self.adapted)
        return of_w, sum((g**2).sum().item() for name, g in gradient.items() if name not in self.adapted)
