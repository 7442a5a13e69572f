"""Devices by name."""

import torch

__all__ = ["usable_device"]


def usable_device(name: torch.device | str, instead: str = "pass cpu") -> torch.device:
    """The device, which this machine has; "meta" is on every machine.

    Args:
        instead: what to do where it has not, in words.

    Raises:
        ValueError: no such device.
    """
    try:
        device = torch.device(name)
        torch.empty(0, device=device)
        if device.type != "meta":
            torch.Generator(device)
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise ValueError(f"no device {str(name)!r} here ({reason}); {instead}") from None
    return device
