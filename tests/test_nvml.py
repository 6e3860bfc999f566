"""The GPU's state is read through NVML, and nothing is set; without NVML there is none."""

from __future__ import annotations

import sys
from types import SimpleNamespace

from harness.measure.nvml import read_gpu


class FakeNvml(SimpleNamespace):
    NVMLError = RuntimeError
    NVML_CLOCK_SM, NVML_CLOCK_MEM, NVML_TEMPERATURE_GPU = 1, 2, 0

    def __getattr__(self, name):
        assert "Set" not in name
        answers = {
            "nvmlDeviceGetHandleByUUID": lambda uuid: uuid,
            "nvmlDeviceGetCurrentClocksThrottleReasons": lambda handle: 0x4 | 0x40,
            "nvmlDeviceGetName": lambda handle: "A GPU",
            "nvmlSystemGetDriverVersion": lambda: "1.2",
            "nvmlDeviceGetClockInfo": lambda handle, kind: 1000 * kind,
            "nvmlDeviceGetTemperature": lambda handle, kind: 61,
        }
        return answers.get(name, lambda: None)


def test_state_is_read(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", FakeNvml())
    state = read_gpu("GPU-1234")
    assert state == {
        "name": "A GPU",
        "driver": "1.2",
        "sm_mhz": 1000,
        "memory_mhz": 2000,
        "celsius": 61,
        "throttled_by": ["power_cap", "hw_thermal"],
    }


def test_without_nvml_there_is_no_state(monkeypatch):
    monkeypatch.setitem(sys.modules, "pynvml", None)
    assert read_gpu("GPU-1234") is None
