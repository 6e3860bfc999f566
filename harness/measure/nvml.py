"""Clocks, temperature and throttling of a GPU, read (never set) through NVML where it is present."""

from __future__ import annotations

from typing import Any

#: NVML's reasons for running below the requested clocks that make a timing suspect
_THROTTLING = {
    "power_cap": 0x4,
    "hw_slowdown": 0x8,
    "sw_thermal": 0x20,
    "hw_thermal": 0x40,
    "hw_power_brake": 0x80,
}


def read_gpu(uuid: str) -> dict[str, Any] | None:
    """State of the GPU called ``uuid`` (as torch gives it): MHz, degrees Celsius, names of throttling reasons.

    None where the package ``nvidia-ml-py`` or the driver's library is not there.
    """
    try:
        import pynvml

        pynvml.nvmlInit()
    except Exception:  # no package, no library or no driver
        return None
    try:
        handle = pynvml.nvmlDeviceGetHandleByUUID(uuid if uuid.startswith("GPU-") else f"GPU-{uuid}")
        reasons = pynvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle)
        return {
            "name": pynvml.nvmlDeviceGetName(handle),
            "driver": pynvml.nvmlSystemGetDriverVersion(),
            "sm_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_SM),
            "memory_mhz": pynvml.nvmlDeviceGetClockInfo(handle, pynvml.NVML_CLOCK_MEM),
            "celsius": pynvml.nvmlDeviceGetTemperature(handle, pynvml.NVML_TEMPERATURE_GPU),
            "throttled_by": [name for name, bit in _THROTTLING.items() if reasons & bit],
        }
    except pynvml.NVMLError:
        return None
    finally:
        pynvml.nvmlShutdown()
