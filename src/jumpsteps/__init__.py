"""Few-step sampling for discrete diffusion models.

>>> import torch, jumpsteps
>>> model = jumpsteps.load("countdown")
>>> generator = torch.Generator().manual_seed(0)
>>> data = model.task.sample_data(64, generator)
>>> schedules = jumpsteps.optimize_schedule(model.reverse, data, [4, 8, 16], generator=generator)
>>> run = jumpsteps.simulate(model.reverse, jumpsteps.Tweedie(), schedules[8], (16, model.length), generator=generator)
"""

from jumpsteps.costs import LeapCosts
from jumpsteps.exact import Enumerable, MarkovChain
from jumpsteps.forward import Absorbing, ForwardProcess, Uniform
from jumpsteps.gillespie import Gillespie
from jumpsteps.healing import Healing
from jumpsteps.hub import ScheduleSet
from jumpsteps.klub import Klub
from jumpsteps.masked_samplers import Ancestral, EntropyBounded, FirstHitting, KGillespie, MaskGIT, ReMDM
from jumpsteps.metrics import Interval, mean_interval
from jumpsteps.models import LoadedModel, load
from jumpsteps.noise import Constant, Cosine, Exponential, Geometric, LogLinear, NoiseSchedule
from jumpsteps.optimize import JYS, LearnedOrder, ShortestPath, optimize_schedule
from jumpsteps.order_costs import JumpCosts, jump_costs
from jumpsteps.orders import RevealOrder, Spread
from jumpsteps.paths import Paths
from jumpsteps.profile import InformationProfile, information_profile
from jumpsteps.rate_matrix import Gaussian, RateMatrix
from jumpsteps.reverse import LeaveOneOutReverse, LogScoreReverse, Model, PosteriorReverse, ReverseProcess
from jumpsteps.samplers import Euler, PredictorCorrector, Sampler, TauLeaping, ThetaRK2, ThetaTrapezoidal, Tweedie
from jumpsteps.schedule import JumpSchedule, Provenance, TimeSchedule, load_schedules, save_schedules
from jumpsteps.search import error_curve, shortest_path
from jumpsteps.simulate import Given, Simulation, simulate
from jumpsteps.version import __version__

__all__ = [
    "JYS",
    "Absorbing",
    "Ancestral",
    "Constant",
    "Cosine",
    "EntropyBounded",
    "Enumerable",
    "Euler",
    "Exponential",
    "FirstHitting",
    "ForwardProcess",
    "Gaussian",
    "Geometric",
    "Gillespie",
    "Given",
    "Healing",
    "InformationProfile",
    "Interval",
    "JumpCosts",
    "JumpSchedule",
    "KGillespie",
    "Klub",
    "LeapCosts",
    "LearnedOrder",
    "LeaveOneOutReverse",
    "LoadedModel",
    "LogLinear",
    "LogScoreReverse",
    "MarkovChain",
    "MaskGIT",
    "Model",
    "NoiseSchedule",
    "Paths",
    "PosteriorReverse",
    "PredictorCorrector",
    "Provenance",
    "RateMatrix",
    "ReMDM",
    "RevealOrder",
    "ReverseProcess",
    "Sampler",
    "ScheduleSet",
    "ShortestPath",
    "Simulation",
    "Spread",
    "TauLeaping",
    "ThetaRK2",
    "ThetaTrapezoidal",
    "TimeSchedule",
    "Tweedie",
    "Uniform",
    "__version__",
    "error_curve",
    "information_profile",
    "jump_costs",
    "load",
    "load_schedules",
    "mean_interval",
    "optimize_schedule",
    "save_schedules",
    "shortest_path",
    "simulate",
]
