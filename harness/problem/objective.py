"""What a loss is: its value for one task, the targets that it takes, what is right under it, and other metrics."""

from __future__ import annotations

import dataclasses
import inspect

import torch
import torch.nn.functional as F
from torch import Tensor

from harness.errors import InputError
from harness.problem.losses import Loss
from harness.store.foreign import one_line
from harness.strangers.blame import blamed
from harness.strangers.named import load_named

#: by how much the probabilities of a soft label may miss 1
_SUM = 1e-3


def loaded(loss: Loss) -> Loss:
    """``loss`` with the function of a person's own imported; raises :class:`InputError`."""
    who = f"loss {one_line(loss.name)!r}"
    if not loss.own:
        return loss
    function = load_named("loss", loss.name, "function") if loss.function is None else loss.function
    if not callable(function):
        raise InputError(f"{who} is not callable; allowed: a function (prediction, target) -> one number")
    try:
        inspect.signature(function).bind(None, None, **loss.options)
    except TypeError as error:
        raise InputError(f"{who}: {error}; it is called as (prediction, target, **loss_options)") from error
    except ValueError:
        pass  # written in C, without a signature: the call will tell
    return dataclasses.replace(loss, function=function)


def task_loss(loss: Loss | str, prediction: Tensor, target: Tensor) -> Tensor:
    """L(w, phi) of one task: ``prediction`` ``[S, out]``; ``target`` ``[S]`` classes, ``[S, out]`` numbers, or own."""
    loss = Loss.of(loss)
    if loss.function is not None:
        value: Tensor = loss.function(prediction, target, **loss.options)
        return value
    if loss.name == "cross_entropy":
        if loss.plain and not target.is_floating_point():
            return F.cross_entropy(prediction, target)
        return -(label_weights(loss, target, prediction) * prediction.log_softmax(-1)).sum()
    if prediction.shape != target.shape:  # broadcast, every prediction would meet every target
        raise InputError(f"predictions {list(prediction.shape)} and targets {list(target.shape)}: not of one shape")
    if loss.name == "bce":
        return -(target * F.logsigmoid(prediction) + (1 - target) * F.logsigmoid(-prediction)).mean()
    error = prediction - target
    if loss.name == "mse":
        return error.square().mean()
    if loss.name == "l1":
        return error.abs().mean()
    delta: float = loss.options["delta"]
    within = error.clamp(-delta, delta)
    return (within * (error - within / 2)).mean()


def label_weights(loss: Loss, target: Tensor, prediction: Tensor) -> Tensor:
    """q ``[..., S, out]``, with which cross-entropy is - sum q log softmax(prediction), summed over a task's examples.

    As torch has it: a mean over examples of soft labels, and of classes one that is weighted by each label's weight.
    """
    classes: int = prediction.shape[-1]
    smoothing: float = loss.options["label_smoothing"]
    weight = prediction.new_tensor(loss.options["class_weights"] or [1.0] * classes)
    if target.is_floating_point():
        return (target * (1 - smoothing) + smoothing / classes) * weight / target.shape[-2]
    counted = _counted(loss, target)
    label = target.where(counted, 0)
    one_hot = label[..., None] == torch.arange(classes, device=label.device)  # F.one_hot is none of vmap's
    each = one_hot.to(weight.dtype) * (1 - smoothing) + smoothing / classes
    total = (weight[label] * counted).sum(-1)
    return each * weight * counted[..., None] / total[..., None, None]


def accuracy(loss: Loss | str, prediction: Tensor, target: Tensor) -> Tensor:
    """Share of what is right of each task's ``[..., S, out]``; NaN where nothing can be right, or is no number.

    Of classes, and under a loss of one's own of classes that are int64: examples whose largest output is that of the
    label (of a soft one, of its largest share), padding left out. Of "bce": labels on their side of 1/2.
    """
    loss = Loss.of(loss)
    known = ~prediction.isnan()
    if loss.name == "bce":
        right = ((prediction > 0) == (target > 0.5)).double()
        return right.where(known, torch.nan).mean((-1, -2))
    classes = not target.is_floating_point() and target.shape == prediction.shape[:-1] and prediction.shape[-1] > 1
    if loss.name != "cross_entropy" and not (loss.own and classes):
        return torch.full(prediction.shape[:-2], torch.nan, dtype=torch.float64, device=prediction.device)
    label = target.argmax(-1) if target.is_floating_point() else target
    right = (prediction.argmax(-1) == label).double().where(known.all(-1), torch.nan)
    if not loss.own and loss.options["ignore_index"] is None:
        return right.mean(-1)
    counted = _counted(loss, label)
    return right.where(counted, 0).sum(-1) / counted.sum(-1)


def _counted(loss: Loss, label: Tensor) -> Tensor:
    if loss.own:
        return label >= 0
    index = loss.options["ignore_index"]
    return torch.ones_like(label, dtype=torch.bool) if index is None else label != index


def metrics(loss: Loss | str, prediction: Tensor, target: Tensor) -> dict[str, Tensor]:
    """Other figures of each task's ``[..., S, out]``, by name.

    In regression ``rmse`` and ``r2``, 1 less the squared error over that of each output's mean target (NaN where all
    targets are one); under "bce" ``f1``, of all labels of a task together (1 where there is none to find and none was).
    """
    loss = Loss.of(loss)
    if loss.regression:
        squared = (prediction - target).double().square()
        spread = (target - target.mean(-2, keepdim=True)).double().square()
        total = spread.sum((-1, -2))
        r2 = 1 - squared.sum((-1, -2)) / total.where(total > 0, torch.nan)
        return {"rmse": squared.mean((-1, -2)).sqrt(), "r2": r2}
    if loss.name == "bce":
        found, there = prediction > 0, target > 0.5
        both, either = (2 * (found & there)).sum((-1, -2)), (found.long() + there.long()).sum((-1, -2))
        f1 = (both.double() / either).where(either > 0, 1.0)
        return {"f1": f1.where(~prediction.isnan().any(-1).any(-1), torch.nan)}
    return {}


def target_fault(
    loss: Loss, target: Tensor, examples: tuple[int, ...], outputs: int, values: bool
) -> tuple[str, str] | None:
    """What is wrong with the targets of tasks with ``examples`` ``(B, S)``, and what is allowed; None for nothing.

    ``values``: look at every number too, which waits for the device.
    """
    shape, kind = list(target.shape), str(target.dtype).removeprefix("torch.")
    if loss.own:
        well = not target.is_complex() and target.shape[:2] == examples
        return None if well else (f"has type {kind} and shape {shape}", f"[{examples[0]}, {examples[1]}, ...]")
    whole = [*examples, outputs]
    if loss.name != "cross_entropy":
        if not target.is_floating_point():
            return f"has type {kind}", f"floating-point numbers as {whole} for loss {loss.name}"
        if shape != whole:
            return f"has shape {shape}", str(whole)
        if values and loss.name == "bce" and (target.min() < 0 or target.max() > 1):
            return f"has labels from {float(target.min()):g} to {float(target.max()):g}", "0 to 1"
        return None
    weights, ignored = loss.options["class_weights"], loss.options["ignore_index"]
    if weights is not None and len(weights) != outputs:
        raise InputError(f"loss_options.class_weights: {len(weights)} numbers; allowed: {outputs}, one for each class")
    if target.is_floating_point() and target.dim() == 3:
        if shape != whole:
            return f"has shape {shape}", f"{list(examples)} classes or {whole} probabilities"
        if ignored is not None:
            return "has probabilities", "classes as int64, where loss_options.ignore_index is set"
        if values and bool((target.min() < 0) | ((target.sum(-1) - 1).abs().max() > _SUM)):
            return "has soft labels that are no probabilities", "numbers >= 0 that add up to 1"
        return None
    if target.dtype != torch.int64:
        return f"has type {kind}", f"classes as int64, or probabilities as {whole}"
    if shape != list(examples):
        return f"has shape {shape}", str(list(examples))
    if not values:
        return None
    counted = _counted(loss, target)
    low, high = (int(part) for part in target.where(counted, 0).aminmax())
    if low < 0 or high >= outputs:
        hint = f", or one that loss_options.ignore_index names, such as {low}" if low < 0 and ignored is None else ""
        return f"has classes from {low} to {high}", f"0 to {outputs - 1}{hint}"
    if not counted.any(-1).all():
        return "has a task whose labels are all ignored", "one that counts in every task"
    return None


def check_loss(loss: Loss, prediction: Tensor, target: Tensor, second_order: bool) -> None:
    """Raise :class:`InputError` unless a person's own loss gives one task's number, differentiably and twice the same.

    ``prediction`` ``[S, out]`` and ``target`` as the first tasks have them. ``second_order``: differentiably twice.
    """
    if loss.function is None:
        return
    who, before = f"loss {one_line(loss.name)!r}", target.clone()

    def value() -> tuple[Tensor, Tensor]:
        at = prediction.detach().clone().requires_grad_()
        with torch.enable_grad(), blamed(who):
            found = task_loss(loss, at, target)
        if not isinstance(found, Tensor) or found.shape != () or not found.is_floating_point():
            what = f"a tensor of shape {list(found.shape)}, {found.dtype}" if isinstance(found, Tensor) else repr(found)
            raise InputError(f"{who} gives {one_line(what)[:200]}; allowed: one floating-point number, a tensor")
        if not found.isfinite():
            raise InputError(f"{who} gives {found.item()} on the first tasks; allowed: a finite number")
        if not found.requires_grad:
            raise InputError(f"{who} gives a number that the prediction does not enter; allowed: one that it does")
        with blamed(who):
            gradient = torch.autograd.grad(found, at, create_graph=second_order)[0]
            if gradient.requires_grad:
                torch.autograd.grad(gradient.sum(), at, retain_graph=True, allow_unused=True)
        if not gradient.isfinite().all():
            raise InputError(f"{who} has a gradient that is NaN or infinite on the first tasks; allowed: a finite one")
        return found.detach(), gradient.detach()

    first = value()
    if not torch.equal(before, target):
        raise InputError(f"{who} changes its target in place; allowed: a function that changes nothing")
    if not all(map(torch.equal, first, value())):
        raise InputError(f"{who} gives another number when it is called again; allowed: a function of its arguments")
