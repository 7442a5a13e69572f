"""What dLLM does with an alpha scheduler, by its documentation; for machines without dLLM."""

import sys
from types import ModuleType

import torch


class BaseAlphaScheduler:
    """Times come in float32 and go to ``_alpha``."""

    def __call__(self, t):
        return self._alpha(torch.as_tensor(t, dtype=torch.float32))


def transfer_counts(masked, steps, scheduler):
    """Of the masked tokens, bool [B, L], each step reveals the expected number, rounded; steps that
    reveal none are left out.
    """
    (left,) = set(masked.sum(1).tolist())
    counts = []
    for k in range(steps, 0, -1):
        still = (1 - scheduler((k - 1) / steps)) / (1 - scheduler(k / steps))
        counts.append(round(left * float(1 - still)))
        left -= counts[-1]
    return torch.tensor([[n for n in counts if n]] * len(masked))


def install(monkeypatch):
    """Stand in for dLLM where it is not installed; returns its function of the counts."""
    try:
        from dllm.core.samplers.utils import get_num_transfer_tokens
    except ImportError:
        names = ("dllm", "dllm.core", "dllm.core.schedulers")
        for name in names:
            monkeypatch.setitem(sys.modules, name, ModuleType(name))
        sys.modules[names[-1]].BaseAlphaScheduler = BaseAlphaScheduler
        return transfer_counts
    return get_num_transfer_tokens
