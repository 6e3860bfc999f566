"""The project's own models: the four-block CNN, ResNet-12, the regression MLP and the linear model of ``quadratic``."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field
from torch import Tensor, nn

from harness.errors import InputError

_MOST = 65_536
#: what makes a module, or a module itself, of which each user gets a copy
ModelFactory = Callable[..., nn.Module] | nn.Module


class CNNOptions(BaseModel):
    """Options of the four-block CNN."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    filters: int = Field(64, ge=1, le=_MOST, description="channels of every convolution (32 and 64 are usual)")
    head_hidden: int = Field(0, ge=0, le=_MOST, description="hidden units of an MLP head; 0 is a linear classifier")


class ResNet12Options(BaseModel):
    """Options of the ResNet-12."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    filters: int = Field(64, ge=2, le=_MOST // 10, description="channels of the first block, of 64 160 320 640")


class MLPOptions(BaseModel):
    """Options of the MLP."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    hidden: tuple[Annotated[int, Field(ge=1, le=_MOST)], ...] = Field(
        (40, 40), description="sizes of the hidden layers"
    )


class CoupledOptions(BaseModel):
    """Options of the linear model of ``quadratic``."""

    model_config = ConfigDict(extra="forbid", frozen=True)
    dim_phi: int = Field(
        8, ge=1, le=_MOST, description="number of inputs that the shared parameters see; the rest is w's"
    )


def cnn(input_shape: tuple[int, ...], outputs: int, filters: int = 64, head_hidden: int = 0) -> nn.Module:
    """Four blocks of 3x3 convolution, batch norm, ReLU and 2x2 max-pool, then a linear classifier.

    The feature map is 1x1 after 28 px, 2x2 after 32 px and 5x5 after 84 px (Vinyals et al. 2016).
    Batch norm always uses the statistics of the batch it sees. Top-level children are the layers
    that ``--adapt last:k`` counts.

    Initialised as learn2learn's CNN4, which the paper's experiments used: Xavier-uniform weights, zero
    biases, and scales of batch norm uniform in [0, 1]. That halves the features, and with them the
    curvature of the inner loss: with torch's own initialisation (scales of 1) the paper's inner step
    of 0.1 overshoots on FC100, and the training loss rises with N instead of falling.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 16:
        raise InputError(f"model cnn: inputs of shape {input_shape}; allowed: images of at least 16 x 16")
    channels, *size = input_shape
    layers: OrderedDict[str, nn.Module] = OrderedDict()
    for block in range(4):
        layers[f"block{block + 1}"] = nn.Sequential(
            OrderedDict(
                conv=nn.Conv2d(channels if block == 0 else filters, filters, 3, padding=1),
                norm=nn.BatchNorm2d(filters, track_running_stats=False),
                relu=nn.ReLU(),
                pool=nn.MaxPool2d(2),
            )
        )
        size = [edge // 2 for edge in size]
    layers["flatten"] = nn.Flatten()
    features = filters * size[0] * size[1]
    if head_hidden:
        layers["hidden"] = nn.Linear(features, head_hidden)
        layers["relu"] = nn.ReLU()
        features = head_hidden
    layers["classifier"] = nn.Linear(features, outputs)
    model = nn.Sequential(layers)
    for layer in model.modules():
        if isinstance(layer, nn.Conv2d | nn.Linear):
            nn.init.xavier_uniform_(layer.weight)
            if layer.bias is not None:
                nn.init.zeros_(layer.bias)
        elif isinstance(layer, nn.BatchNorm2d):
            nn.init.uniform_(layer.weight)
    return model


class ResidualBlock(nn.Module):
    """Three 3x3 convolutions with batch norm, a 1x1 convolution with batch norm past them, and 2x2 max-pool."""

    def __init__(self, channels: int, filters: int) -> None:
        super().__init__()
        self.one, self.two, self.three = (_convolution(before, filters, 3) for before in (channels, filters, filters))
        self.past = _convolution(channels, filters, 1)
        self.act, self.pool = nn.LeakyReLU(0.1), nn.MaxPool2d(2)

    def forward(self, x: Tensor) -> Tensor:
        """Images of half the size."""
        inside = self.three(self.act(self.two(self.act(self.one(x)))))
        y: Tensor = self.pool(self.act(inside + self.past(x)))
        return y


def _convolution(channels: int, filters: int, size: int) -> nn.Sequential:
    conv = nn.Conv2d(channels, filters, size, padding=size // 2, bias=False)
    nn.init.kaiming_normal_(conv.weight, 0.1, mode="fan_out", nonlinearity="leaky_relu")
    return nn.Sequential(OrderedDict(conv=conv, norm=nn.BatchNorm2d(filters, track_running_stats=False)))


def resnet12(input_shape: tuple[int, ...], outputs: int, filters: int = 64) -> nn.Module:
    """ResNet-12 (Lee et al. 2019, MetaOptNet): four residual blocks of 64, 160, 320 and 640 filters, and a classifier.

    LeakyReLU of slope 0.1, the mean over positions before the classifier, no DropBlock; initialised as there. Top-level
    children are the layers that ``--adapt last:k`` counts.
    """
    if len(input_shape) != 3 or min(input_shape[1:]) < 16:
        raise InputError(f"model resnet12: inputs of shape {input_shape}; allowed: images of at least 16 x 16")
    channels, layers = input_shape[0], OrderedDict[str, nn.Module]()
    for block, times in enumerate((2, 5, 10, 20), start=1):
        layers[f"block{block}"] = ResidualBlock(channels, channels := filters * times // 2)
    layers |= {"mean": nn.AdaptiveAvgPool2d(1), "flatten": nn.Flatten(), "classifier": nn.Linear(channels, outputs)}
    return nn.Sequential(layers)


def mlp(input_shape: tuple[int, ...], outputs: int, hidden: tuple[int, ...] = (40, 40)) -> nn.Module:
    """Fully connected network with ReLU, two hidden layers of 40 as in Finn et al. 2017."""
    layers: OrderedDict[str, nn.Module] = OrderedDict(flatten=nn.Flatten())
    width = 1
    for edge in input_shape:
        width *= edge
    for number, units in enumerate(hidden, start=1):
        layers[f"linear{number}"] = nn.Linear(width, units)
        layers[f"relu{number}"] = nn.ReLU()
        width = units
    layers["head"] = nn.Linear(width, outputs)
    return nn.Sequential(layers)


class Coupled(nn.Module):
    """prediction = x_phi . phi + x_w . w, for inputs ``[S, dim_phi + dim_w]``; output ``[S, 1]``."""

    def __init__(self, dim_phi: int, dim_w: int) -> None:
        super().__init__()
        self.shared = nn.Linear(dim_phi, 1, bias=False)
        self.head = nn.Linear(dim_w, 1, bias=False)

    def forward(self, x: Tensor) -> Tensor:
        """Predictions ``[S, 1]``."""
        split = self.shared.in_features
        prediction: Tensor = self.shared(x[..., :split]) + self.head(x[..., split:])
        return prediction


def coupled(input_shape: tuple[int, ...], outputs: int, dim_phi: int = 8) -> nn.Module:
    """The model under which a ``quadratic`` task is a quadratic in w, coupled to phi."""
    if len(input_shape) != 1 or input_shape[0] <= dim_phi:
        raise InputError(f"model coupled: inputs of shape {input_shape}; allowed: vectors longer than {dim_phi}")
    return Coupled(dim_phi, input_shape[0] - dim_phi)


MODELS: dict[str, tuple[ModelFactory, type[BaseModel]]] = {
    "cnn": (cnn, CNNOptions),
    "resnet12": (resnet12, ResNet12Options),
    "mlp": (mlp, MLPOptions),
    "coupled": (coupled, CoupledOptions),
}
