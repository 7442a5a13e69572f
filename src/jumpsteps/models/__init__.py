"""Networks, checkpoint formats, and ``load``, which returns a model ready to use."""

from jumpsteps.models.built_in import BUILT_IN, schedules_file
from jumpsteps.models.load import load
from jumpsteps.models.loaded import LoadedModel

__all__ = ["BUILT_IN", "LoadedModel", "load", "schedules_file"]
