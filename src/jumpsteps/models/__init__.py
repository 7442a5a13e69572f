"""Networks, and one loader for each family of checkpoints."""

from jumpsteps.models.load import BUILT_IN, load
from jumpsteps.models.loaded import LoadedModel

__all__ = ["BUILT_IN", "LoadedModel", "load"]
