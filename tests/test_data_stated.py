"""What a benchmark states of its own images: what is not so is refused in one line."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest
import torch
from images_made import draw, refused

from harness.datasets.class_images import ClassImages
from harness.datasets.images import ImageBenchmark


@pytest.mark.parametrize("number", range(2))
def test_the_examples_of_the_document_run(number, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    text = (Path(__file__).parents[1] / "docs" / "data.md").read_text()
    examples = re.findall(r"```python\n(.*?)```", text, re.DOTALL)
    assert len(examples) == 2
    exec(examples[number], {"__name__": "example"})
    accuracy = eval(capsys.readouterr().out)
    assert accuracy["mean"] > 0.5


def stating(images, counts=(2, 2), names=("a", "b"), **stated):
    def load_split(self, split):
        return ClassImages(images, counts, tuple(f"{split} {n}" if isinstance(n, str) else n for n in names))

    values = {"name": "stated", "summary": "s", "shape": (3, 4, 5), **stated, "load_split": load_split}
    return type("Stated", (ImageBenchmark,), values)()


def pixels(*shape, dtype=np.uint8):
    found = np.random.default_rng(0).integers(0, 256, shape)
    return (found / 255).astype(np.float32) if dtype == np.float32 else found.astype(dtype)


def test_float_images_and_other_layouts_are_drawn_as_stated(caplog):
    base = pixels(4, 3, 4, 5)
    expected = draw(stating(base)).support_x
    assert expected.shape == (20, 2, 3, 4, 5)
    assert torch.equal(draw(stating(base.transpose(0, 2, 3, 1), layout="HWC")).support_x, expected)
    for array in (base.astype(np.float32) / 255, np.asfortranarray(base.astype(np.float32) / 255)):
        found = draw(stating(array, dtype="float32")).support_x
        assert found.dtype == torch.float64
        assert torch.allclose(found, expected, atol=1e-7)
    frozen = base.copy()
    frozen.flags.writeable = False
    assert torch.equal(draw(stating(frozen)).support_x, expected)


WRONG = {
    "float where bytes are stated": (pixels(4, 3, 4, 5, dtype=np.float32), {}, "images are float32; allowed: .* uint8"),
    "bytes where floats are stated": (
        pixels(4, 3, 4, 5),
        {"dtype": "float32"},
        "images are uint8; allowed: .* float32",
    ),
    "float64": (pixels(4, 3, 4, 5) / 255, {"dtype": "float32"}, "images are float64"),
    "floats to 255": (
        pixels(4, 3, 4, 5).astype(np.float32),
        {"dtype": "float32"},
        "allowed: float32 from 0.0",
    ),
    "floats below 0": (pixels(4, 3, 4, 5, dtype=np.float32) - 1, {"dtype": "float32"}, "between -1.0 and"),
    "NaN": (np.full((4, 3, 4, 5), np.nan, np.float32), {"dtype": "float32"}, "between nan and nan"),
    "a mask of 0 and 1": (pixels(4, 3, 4, 5) // 200, {}, "between 0 and 1; allowed: uint8 from 0 to 255"),
    "objects": (np.full((4, 3, 4, 5), None), {}, "images are object"),
    "a list": ([[1]], {}, "images are list"),
    "a tensor": (torch.zeros(4, 3, 4, 5, dtype=torch.uint8), {}, "images are torch.uint8"),
    "channels last": (pixels(4, 4, 5, 3), {}, r"shape \[4, 4, 5, 3\]; allowed: \[n, 3, 4, 5\] CHW"),
    "channels first where last is stated": (pixels(4, 3, 4, 5), {"layout": "HWC"}, r"allowed: \[n, 4, 5, 3\] HWC"),
    "no channels": (pixels(4, 4, 5), {"shape": (1, 4, 5)}, r"shape \[4, 4, 5\]; allowed: \[n, 1, 4, 5\]"),
    "another size": (pixels(4, 3, 5, 4), {}, "shape"),
    "an unknown dtype": (pixels(4, 3, 4, 5, dtype=np.int16), {"dtype": "int16"}, "images are int16"),
    "counts that do not add up": (pixels(4, 3, 4, 5), {"counts": (2, 1)}, "2 counts add up to 3"),
    "fewer counts": (pixels(4, 3, 4, 5), {"counts": (4,)}, "1 counts add up to 4"),
    "negative counts": (pixels(4, 3, 4, 5), {"counts": (-1, 5)}, "counts -1, 5"),
    "counts with a fraction": (pixels(4, 3, 4, 5), {"counts": (1.5, 2.5)}, "counts 1.5, 2.5"),
    "one name twice": (pixels(4, 3, 4, 5), {"names": ("a", "a")}, "called 'train a'"),
    "numbers for names": (pixels(4, 3, 4, 5), {"names": (0, 1)}, "called 0"),
}


@pytest.mark.parametrize("what", WRONG)
def test_own_images_that_are_not_as_stated_are_refused(what):
    images, options, message = WRONG[what]
    benchmark = stating(images, **options)
    for call in (lambda: benchmark.check(2, 1, 1), lambda: draw(benchmark)):
        line = refused(call)
        assert line.startswith("benchmark stated: its train split")
        assert re.search(message, line)


def test_a_reader_that_fails_is_one_line():
    class Nothing(ImageBenchmark):
        name, summary, shape = "broken", "s", (1, 2, 2)

        def load_split(self, split):
            return None

    line = refused(Nothing().check, 2, 1, 1)
    assert line == "benchmark broken: its train split is a NoneType; allowed: ClassImages"

    class Raises(Nothing):
        def load_split(self, split):
            raise KeyError("two\nlines")

    line = refused(Raises().check, 2, 1, 1)
    assert line == "benchmark broken: its train split cannot be read: KeyError: 'two\\nlines'"
