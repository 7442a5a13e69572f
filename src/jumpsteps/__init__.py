"""Few-step sampling for discrete diffusion models.

>>> import torch, jumpsteps
>>> model = jumpsteps.load("countdown")
>>> generator = torch.Generator().manual_seed(0)
>>> data = model.task.sample_data(64, generator)
>>> schedules = jumpsteps.optimize_schedule(model.reverse, data, [4, 8, 16], generator=generator)
>>> shape = (16, model.length)
>>> run = jumpsteps.simulate(
...     model.reverse, jumpsteps.Tweedie(), schedules[8], shape, generator=generator
... )
"""

# ruff: noqa: E402
from jumpsteps.core.interrupts import await_command

await_command()  # Before the imports that take seconds.
# isort: split

from jumpsteps.core.distributed import Workers, workers_of_launcher
from jumpsteps.core.sample_generators import SampleGenerators
from jumpsteps.denoiser.conditioning import Given
from jumpsteps.denoiser.model import Model
from jumpsteps.denoiser.parameterisations import (
    LeaveOneOutReverse,
    LogScoreReverse,
    PosteriorReverse,
)
from jumpsteps.denoiser.reverse import ReverseProcess
from jumpsteps.denoiser.temperature import tempered
from jumpsteps.evaluation.calibration import measure_calibration
from jumpsteps.evaluation.metrics import Interval, mean_interval
from jumpsteps.evaluation.race import race
from jumpsteps.evaluation.race_result import Choice, Race
from jumpsteps.evaluation.two_sample import (
    Discrepancy,
    OrdinalSimilarity,
    histogram_similarity,
    token_similarity,
)
from jumpsteps.exact.enumerable import Enumerable
from jumpsteps.exact.markov_chain import MarkovChain
from jumpsteps.integrations.citation import Citation, cite
from jumpsteps.integrations.hub import ScheduleSet
from jumpsteps.models import LoadedModel, load
from jumpsteps.process.absorbing import Absorbing
from jumpsteps.process.gaussian import Gaussian
from jumpsteps.process.kernel import ForwardProcess
from jumpsteps.process.noise import (
    Constant,
    Cosine,
    Exponential,
    Geometric,
    LogLinear,
    NoiseSchedule,
)
from jumpsteps.process.rate_matrix import MatrixKernel, RateMatrix
from jumpsteps.process.uniform import Uniform
from jumpsteps.sampling.base import Sampler
from jumpsteps.sampling.loop import Simulation, simulate
from jumpsteps.sampling.registry import *  # noqa: F403 (every sampler's class)
from jumpsteps.sampling.registry import SAMPLER_CLASSES, SAMPLERS, default_sampler
from jumpsteps.schedules.files import load_schedules, save_schedules
from jumpsteps.schedules.fixed import (
    cosine,
    cosine_counts,
    get_schedule,
    power,
    uniform,
    uniform_counts,
)
from jumpsteps.schedules.orders import (
    Blocks,
    Dilated,
    Fixed,
    Golden,
    Mixture,
    Random,
    RevealOrder,
    Sequential,
    Spread,
)
from jumpsteps.schedules.provenance import Provenance
from jumpsteps.schedules.redraws import Redraw
from jumpsteps.schedules.schedule import CountSchedule, TimeSchedule
from jumpsteps.search.auto_order import AutoOrder
from jumpsteps.search.candidates import race_candidates
from jumpsteps.search.closed_form import ClosedForm, equal_entropy, equal_error
from jumpsteps.search.corrector_candidates import corrector_candidates
from jumpsteps.search.costs.by_count import count_costs
from jumpsteps.search.costs.by_path import PathCosts, path_costs
from jumpsteps.search.costs.correction import NO_CORRECTION, NOISE_WEIGHTED, ErrorCorrection
from jumpsteps.search.costs.count_table import CountCosts
from jumpsteps.search.costs.few_step_nll import FewStepNLL, few_step_nll
from jumpsteps.search.costs.information_profile import (
    InformationProfile,
    ProfileCosts,
    information_profile,
    time_grid,
)
from jumpsteps.search.costs.redraw_cost import redraw_cost
from jumpsteps.search.costs.table import Measure, StepCosts
from jumpsteps.search.doubts import DoubtfulInput
from jumpsteps.search.dynamic_programming import (
    ErrorCurve,
    error_curve,
    fewest_steps,
    shortest_path,
    shortest_paths,
)
from jumpsteps.search.explain import Explanation, StepErrors, explain
from jumpsteps.search.explain_counts import CountExplanation, CountStep, explain_counts
from jumpsteps.search.jys import JYS
from jumpsteps.search.klub import CountKlub, Klub
from jumpsteps.search.learned_order import LearnedOrder, learn_order
from jumpsteps.search.matched_spectrum import MatchedSpectrum
from jumpsteps.search.method import FoundSchedule, Method
from jumpsteps.search.optimize import optimize_schedule
from jumpsteps.search.paths import Paths
from jumpsteps.search.shortest_path import ShortestPath
from jumpsteps.version import __version__

__all__ = [
    "JYS",
    "NOISE_WEIGHTED",
    "NO_CORRECTION",
    "SAMPLERS",
    "Absorbing",
    "AutoOrder",
    "Blocks",
    "Choice",
    "Citation",
    "ClosedForm",
    "Constant",
    "Cosine",
    "CountCosts",
    "CountExplanation",
    "CountKlub",
    "CountSchedule",
    "CountStep",
    "Dilated",
    "Discrepancy",
    "DoubtfulInput",
    "Enumerable",
    "ErrorCorrection",
    "ErrorCurve",
    "Explanation",
    "Exponential",
    "FewStepNLL",
    "Fixed",
    "ForwardProcess",
    "FoundSchedule",
    "Gaussian",
    "Geometric",
    "Given",
    "Golden",
    "InformationProfile",
    "Interval",
    "Klub",
    "LearnedOrder",
    "LeaveOneOutReverse",
    "LoadedModel",
    "LogLinear",
    "LogScoreReverse",
    "MarkovChain",
    "MatchedSpectrum",
    "MatrixKernel",
    "Measure",
    "Method",
    "Mixture",
    "Model",
    "NoiseSchedule",
    "OrdinalSimilarity",
    "PathCosts",
    "Paths",
    "PosteriorReverse",
    "ProfileCosts",
    "Provenance",
    "Race",
    "Random",
    "RateMatrix",
    "Redraw",
    "RevealOrder",
    "ReverseProcess",
    "SampleGenerators",
    "Sampler",
    "ScheduleSet",
    "Sequential",
    "ShortestPath",
    "Simulation",
    "Spread",
    "StepCosts",
    "StepErrors",
    "TimeSchedule",
    "Uniform",
    "Workers",
    "__version__",
    "cite",
    "corrector_candidates",
    "cosine",
    "cosine_counts",
    "count_costs",
    "default_sampler",
    "equal_entropy",
    "equal_error",
    "error_curve",
    "explain",
    "explain_counts",
    "few_step_nll",
    "fewest_steps",
    "get_schedule",
    "histogram_similarity",
    "information_profile",
    "learn_order",
    "load",
    "load_schedules",
    "mean_interval",
    "measure_calibration",
    "optimize_schedule",
    "path_costs",
    "power",
    "race",
    "race_candidates",
    "redraw_cost",
    "save_schedules",
    "shortest_path",
    "shortest_paths",
    "simulate",
    "tempered",
    "time_grid",
    "token_similarity",
    "uniform",
    "uniform_counts",
    "workers_of_launcher",
]
__all__ += [kind.__name__ for kind in SAMPLER_CLASSES]
