"""Models of the kinds that people bring, each with what is adapted of it, for the speed table and for tests."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from harness.problem.benchmark import Benchmark, TaskShape
from harness.problem.nets import cnn, resnet12
from harness.problem.tasks import TaskBatch

Shape = tuple[int, ...]
IMAGE, SEQUENCE, TOKENS, VECTOR = (3, 32, 32), (28, 28), (16,), (28,)
_WORDS = 50


@dataclass(frozen=True)
class Entry:
    """A model on inputs of ``shape``; ``scale`` makes it as small as tests need it.

    ``head`` and ``deep`` are adapted by ANIL, convex and nonconvex; ``alone``: nothing else is, as with an adapter.
    ``kind``: what its body is made of, "convolution", "attention" or "" for anything else.
    """

    make: Callable[[Shape, int, int], nn.Module]
    shape: Shape
    head: str = "last:1"
    deep: str = "last:2"
    alone: bool = False
    kind: str = ""
    settings: Mapping[str, Any] = field(default_factory=dict)


class Random(Benchmark):
    """Tasks of random numbers, or of random words, in whose first entry the class can be seen."""

    name = "random"
    summary = "random tasks of a given shape"
    version = "1"
    input_shape: Shape = ()

    def __init__(self, shape: Shape) -> None:
        super().__init__()
        self.input_shape = shape

    def check(self, ways: int, shots: int, queries: int) -> None:
        """Any number of any."""

    def draw(
        self, split: str, first: int, tasks: int, shape: TaskShape, device: torch.device, dtype: torch.dtype
    ) -> TaskBatch:
        """See :meth:`Benchmark.draw`."""
        drawn = []
        for task in range(first, first + tasks):
            generator = torch.Generator().manual_seed(10**6 * shape.seed + 1000 * task + len(split))
            drawn.append([])
            for each in (shape.shots, shape.queries):
                label = torch.arange(shape.ways).repeat_interleave(each)
                size = (shape.ways * each, *self.input_shape)
                if self.input_shape == TOKENS:
                    x = torch.randint(0, _WORDS, size, generator=generator)
                    x[:, 0] = label
                else:
                    x = torch.rand(size, generator=generator, dtype=torch.float64).to(dtype)
                    x[(slice(None), *[0] * len(self.input_shape))] = label.to(dtype)
                drawn[-1] += [x, label]
        return TaskBatch(*(torch.stack(parts).to(device) for parts in zip(*drawn, strict=True)))


# Vectors ------------------------------------------------------------------------------------------------------------


def mlp(act: type[nn.Module], norm: type[nn.Module] = nn.Identity) -> Callable[[Shape, int, int], nn.Module]:
    """Two hidden layers of 40."""

    def make(shape: Shape, outputs: int, scale: int) -> nn.Module:
        width = 40 // scale
        hidden = [(nn.Linear(size, width), norm(width), act()) for size in (math.prod(shape), width)]
        return nn.Sequential(nn.Flatten(), *(layer for block in hidden for layer in block), nn.Linear(width, outputs))

    return make


class Tied(nn.Module):
    """A language model whose words are told by the vectors that they are read as."""

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.words, self.mix = nn.Embedding(_WORDS, width), nn.Linear(width, width)
        self.out = nn.Linear(width, _WORDS)
        self.out.weight = self.words.weight
        self.outputs = outputs

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, outputs]`` of words ``[n, length]``."""
        y: Tensor = self.out(torch.tanh(self.mix(self.words(x).mean(1))))
        return y[:, : self.outputs]


# Images -------------------------------------------------------------------------------------------------------------


def conv4(
    act: Callable[[], nn.Module] = nn.ReLU,
    pool: Callable[[], nn.Module] = lambda: nn.MaxPool2d(2),
    norm: Callable[[int], nn.Module] = nn.BatchNorm2d,
    stride: int = 1,
) -> Callable[[Shape, int, int], nn.Module]:
    """Four blocks of 32 filters."""

    def make(shape: Shape, outputs: int, scale: int) -> nn.Module:
        layers, channels, filters = [], shape[0], 32 // scale
        for _ in range(4):
            conv = nn.Conv2d(channels, filters, 3, stride, padding=1)
            layers.append(nn.Sequential(conv, norm(filters), act(), pool()))
            channels = filters
        return nn.Sequential(*layers, nn.Flatten(), nn.Linear(4 * filters, outputs))

    return make


class Chained(nn.Module):
    """ResNet-12 as it is published, no ``nn.Sequential``."""

    def __init__(self, blocks: nn.Sequential) -> None:
        super().__init__()
        self.layer1, self.layer2, self.layer3, self.layer4, *_, self.fc = blocks

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, outputs]`` of images."""
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))
        y: Tensor = self.fc(F.adaptive_avg_pool2d(x, 1).flatten(1))
        return y


def _resnet12(shape: Shape, outputs: int, scale: int) -> nn.Sequential:
    made = resnet12(shape, outputs, filters=max(16 // scale, 2))
    assert isinstance(made, nn.Sequential)
    return made


def _torchvision(name: str, **options: Any) -> Callable[[Shape, int, int], nn.Module]:
    def make(shape: Shape, outputs: int, scale: int) -> nn.Module:
        import torchvision

        made: nn.Module = getattr(torchvision.models, name)(num_classes=outputs, **options)
        return made

    return make


# Attention and recurrence -------------------------------------------------------------------------------------------


class Attends(nn.Module):
    """A block of a transformer, norms first."""

    def __init__(self, width: int, lora: bool = False) -> None:
        super().__init__()
        self.norm1, self.norm2 = nn.LayerNorm(width), nn.LayerNorm(width)
        self.attention = nn.MultiheadAttention(width, 2, batch_first=True)
        widen = nn.Linear(width, 2 * width)
        self.mlp = nn.Sequential(Lora(widen) if lora else widen, nn.GELU(), nn.Linear(2 * width, width))

    def forward(self, x: Tensor) -> Tensor:
        """Vectors ``[n, length, width]`` of such."""
        y = self.norm1(x)
        x = x + self.attention(y, y, y, need_weights=False)[0]
        x = x + self.mlp(self.norm2(x))
        return x


class Lora(nn.Module):
    """A frozen linear layer with a low-rank adapter, called as PEFT calls them."""

    def __init__(self, base: nn.Linear) -> None:
        super().__init__()
        self.base_layer = base.requires_grad_(False)
        self.lora_A = nn.ModuleDict({"default": nn.Linear(base.in_features, 4, bias=False)})
        self.lora_B = nn.ModuleDict({"default": nn.Linear(4, base.out_features, bias=False)})

    def forward(self, x: Tensor) -> Tensor:
        """As the layer, plus a product of rank 4."""
        y: Tensor = self.base_layer(x) + self.lora_B["default"](self.lora_A["default"](x))
        return y


class ViT(nn.Module):
    """Two blocks over patches of 8 pixels."""

    def __init__(self, shape: Shape, outputs: int, width: int, lora: bool = False) -> None:
        super().__init__()
        self.patches = nn.Conv2d(shape[0], width, 8, 8)
        self.position = nn.Parameter(torch.randn(1, (shape[1] // 8) * (shape[2] // 8), width) / 50)
        self.blocks, self.norm = nn.Sequential(*(Attends(width, lora) for _ in range(2))), nn.LayerNorm(width)
        self.head = nn.Linear(width, outputs)
        if lora:
            self.requires_grad_(False)
            for name, part in self.named_parameters():
                part.requires_grad_("lora_" in name or name.startswith("head"))

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, outputs]`` of images."""
        x = self.patches(x).flatten(2).transpose(1, 2) + self.position
        y: Tensor = self.head(self.norm(self.blocks(x)).mean(1))
        return y


class Text(nn.Module):
    """A transformer over words, by torch's own layers."""

    def __init__(self, outputs: int, width: int) -> None:
        super().__init__()
        self.words = nn.Embedding(_WORDS, width)
        layer = nn.TransformerEncoderLayer(width, 2, 2 * width, dropout=0.0, batch_first=True)
        self.encoder, self.head = nn.TransformerEncoder(layer, 2), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, outputs]`` of words ``[n, length]``."""
        y: Tensor = self.head(self.encoder(self.words(x)).mean(1))
        return y


class Recurrent(nn.Module):
    """What an LSTM or a GRU has seen at the end of a sequence."""

    def __init__(self, kind: type[nn.LSTM] | type[nn.GRU], inputs: int, width: int, outputs: int) -> None:
        super().__init__()
        self.rnn, self.head = kind(inputs, width, batch_first=True), nn.Linear(width, outputs)

    def forward(self, x: Tensor) -> Tensor:
        """Logits ``[n, outputs]`` of sequences ``[n, length, inputs]``."""
        y: Tensor = self.head(self.rnn(x)[0][:, -1])
        return y


def _pretrained(shape: Shape, outputs: int, scale: int) -> nn.Module:
    """A backbone that has seen images, frozen, with its running statistics."""
    model = conv4()(shape, outputs, scale)
    with torch.no_grad():
        for _ in range(3):
            model(torch.rand(20, *shape))
    for block in list(model.children())[:4]:
        block.requires_grad_(False)
    return model


ZOO: dict[str, Entry] = {
    "MLP, tanh": Entry(mlp(nn.Tanh), VECTOR),
    "MLP, LayerNorm": Entry(mlp(nn.SiLU, nn.LayerNorm), VECTOR),
    "MLP, Mish": Entry(mlp(nn.Mish), VECTOR),
    "tied words": Entry(lambda s, o, k: Tied(o, 16), TOKENS, head="mix", deep="mix|words"),
    "Conv4": Entry(lambda s, o, k: cnn(s, o, 32 // k), IMAGE, kind="convolution"),
    "Conv4, LeakyReLU": Entry(conv4(lambda: nn.LeakyReLU(0.1)), IMAGE, kind="convolution"),
    "Conv4, average pool": Entry(conv4(pool=lambda: nn.AvgPool2d(2)), IMAGE, kind="convolution"),
    "Conv4, stride 2": Entry(conv4(pool=nn.Identity, stride=2), IMAGE, kind="convolution"),
    "Conv4, GroupNorm": Entry(conv4(norm=lambda f: nn.GroupNorm(2, f)), IMAGE, kind="convolution"),
    "Conv4, pretrained, frozen": Entry(
        _pretrained, IMAGE, alone=True, kind="convolution", settings={"model_mode": "eval"}
    ),
    "ResNet-12": Entry(_resnet12, IMAGE, kind="convolution"),
    "ResNet-12, module": Entry(lambda s, o, k: Chained(_resnet12(s, o, k)), IMAGE, kind="convolution"),
    "ResNet-18, torchvision": Entry(_torchvision("resnet18"), IMAGE, kind="convolution"),
    "MobileNetV3, torchvision": Entry(
        _torchvision("mobilenet_v3_small", dropout=0.0), IMAGE, r"classifier\.3", "last:1", kind="convolution"
    ),
    "ViT": Entry(lambda s, o, k: ViT(s, o, 32 // k), IMAGE, kind="attention"),
    "ViT, LoRA": Entry(
        lambda s, o, k: ViT(s, o, 32 // k, lora=True), IMAGE, head="head", deep="lora", kind="attention"
    ),
    "text transformer": Entry(lambda s, o, k: Text(o, 16), TOKENS, kind="attention"),
    "LSTM": Entry(lambda s, o, k: Recurrent(nn.LSTM, s[-1], 32 // k, o), SEQUENCE),
    "GRU": Entry(lambda s, o, k: Recurrent(nn.GRU, s[-1], 32 // k, o), SEQUENCE),
}  # fmt: skip
