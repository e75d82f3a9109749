"""What tests of the benchmark share: a machine, and results of one stage measured there."""

from fusion_perception.learning.benchmarks.result import Machine, Result
from fusion_perception.learning.benchmarks.timing import Measured


def machine(**changes) -> Machine:
    values = {
        'cpu': 'Fast CPU @ 3 GHz', 'cores': 2, 'memory_gib': 8, 'gpu': None, 'cuda': None,
        'device': 'cpu', 'threads': 2, 'load_before': 0.0, 'system': 'Linux', 'versions': {},
        'git_commit': None,
    }  # fmt: skip
    return Machine.read({**values, **changes})


def result(
    *figures: float, unit: str = 's', stage: str = 'training', notebook=(), goal=1
) -> Result:
    measured = Measured(stage, unit, figures, notebook, 'an epoch').judged(goal)
    return Result(
        machine=machine(), when='today', rounds=3, quick=False, settings={}, stages=(measured,)
    )
