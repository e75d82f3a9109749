"""Start the verbs of `fusion` from the command line: the only place that prints and exits."""

from __future__ import annotations

import errno
import importlib
import io
import logging
import os
import sys
from collections.abc import Callable, Sequence
from typing import NamedTuple, cast

from fusion_perception import __version__
from fusion_perception.flags import read_settings
from fusion_perception.sensing.settings import Settings, closest
from fusion_perception.standard_streams import open_closed_streams
from fusion_perception.stopping import terminable

Outcome = int | str | tuple[str, int] | None
INTERRUPTED = 130
OPTIONS = ['--debug', '--help', '--version']
# By what the system says of a path; it does not say whether we were to read or to write there.
REMEDIES = {
    **dict.fromkeys((errno.ENOSPC, errno.EDQUOT), 'Make room, or write elsewhere.'),
    **dict.fromkeys(
        (errno.EACCES, errno.EPERM), 'Give yourself access to it, or choose another path.'
    ),
    errno.EROFS: 'Write elsewhere.',
    errno.EEXIST: 'A folder is needed there: choose another path, or remove what is in the way.',
    errno.ENOTDIR: 'A part of this path is a file: correct it, or choose another.',
    errno.EISDIR: 'A file is needed there: name one.',
    errno.ENOENT: 'Check the path.',
    errno.ENAMETOOLONG: 'Choose a shorter one.',
}
ROS_PACKAGES = ('rclpy', 'launch', 'launch_ros', 'ament_index_python')


class Verb(NamedTuple):
    """Where a verb lives: `function(settings)` in `module`, and one line on what it does.

    The function returns nothing, an exit code, a text for stdout, or a text and an exit code.
    """

    module: str
    settings: str
    function: str
    help: str


# A verb's module is imported when the verb is called: `fusion --help` must not wait for torch.
VERBS: dict[str, Verb] = {
    'simulate': Verb(
        'fusion_perception.learning.simulate',
        'SimulateSettings',
        'simulate',
        'Write a data folder of simulated scenes',
    ),
    'view': Verb(
        'fusion_perception.learning.view',
        'ViewSettings',
        'view',
        'Draw one scene of a data folder: images, ranges, points',
    ),
    'train': Verb(
        'fusion_perception.learning.training',
        'TrainSettings',
        'train',
        'Train a model on a data folder and write its bundle',
    ),
    'compare': Verb(
        'fusion_perception.learning.compare',
        'CompareSettings',
        'compare',
        'Train several models and draw their losses on one chart',
    ),
    'evaluate': Verb(
        'fusion_perception.learning.evaluation',
        'EvaluateSettings',
        'evaluate',
        'Measure a bundle on a data folder or on recordings (rosbag2)',
    ),
    'benchmark': Verb(
        'fusion_perception.learning.benchmark',
        'BenchmarkSettings',
        'benchmark',
        "Measure the speed of each stage beside the original notebook's way",
    ),
    'to-bag': Verb(
        'fusion_perception.learning.to_bag',
        'ToBagSettings',
        'to_bag',
        'Write a data folder as a recording (rosbag2)',
    ),
    'from-bag': Verb(
        'fusion_perception.learning.from_bag',
        'FromBagSettings',
        'from_bag',
        'Write a recording with ground truth as a data folder',
    ),
    'replay': Verb(
        'fusion_perception.ros.replay',
        'ReplaySettings',
        'replay',
        'Publish a recording over ROS 2, with its clock',
    ),
    'profile': Verb(
        'fusion_perception.ros.profile',
        'ProfileSettings',
        'profile',
        "Say where the node's time goes, with each of rclpy's executors",
    ),
    'doctor': Verb(
        'fusion_perception.doctor',
        'DoctorSettings',
        'doctor',
        'Say why there is no output: of a running node, a recording, a bundle, a data folder',
    ),
    'demo': Verb(
        'fusion_perception.demo',
        'DemoSettings',
        'demo',
        'Run simulated sensor and fusion node over ROS 2, with the live error',
    ),
}


def main(args: Sequence[str] | None = None) -> int:
    """Run one verb and return the exit code: 0, 2 for a fault, 130 for Ctrl-C, or the verb's."""
    open_closed_streams()
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A path may hold letters that the terminal lacks; stderr escapes them by itself.
        sys.stdout.reconfigure(errors='backslashreplace')
    given = list(sys.argv[1:] if args is None else args)
    try:
        code = run(given)
        sys.stdout.flush()
    except BrokenPipeError:
        _keep_the_exit_quiet()  # The reader of our output left (`fusion view | head`).
        return 1
    except OSError as error:
        if given[:1] == ['--debug']:
            raise
        # The work is done, and what it says found no room.
        print(f'The output cannot be written: {error.strerror}.', file=sys.stderr)
        _keep_the_exit_quiet()
        return 2
    return code


def _keep_the_exit_quiet() -> None:
    """Let what is still to be flushed lead nowhere."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


def run(args: list[str]) -> int:
    """Run one verb, print what it says, and return the exit code."""
    debug = args[:1] == ['--debug']
    if debug:
        args = args[1:]
    if not args or args[0] in ('-h', '--help', 'help'):
        print(overview())
        return 0
    if args[0] == '--version':
        print(f'fusion_perception {__version__}')
        return 0
    logging.basicConfig(format='%(message)s', level=logging.WARNING, stream=sys.stderr)
    logging.getLogger('fusion_perception').setLevel(logging.DEBUG if debug else logging.INFO)
    if not debug:
        # Lightning advises a precision of matrices, which a learner sets for its own steps.
        logging.getLogger('lightning_fabric.utilities.rank_zero').setLevel(logging.WARNING)
    try:
        with terminable():
            outcome = call(args[0], args[1:])
    except KeyboardInterrupt as stop:
        print(f'\n{stop}' if str(stop) else '\nStopped.', file=sys.stderr)
        return INTERRUPTED
    except BrokenPipeError:
        raise
    except (ValueError, OSError, ModuleNotFoundError) as error:
        if debug:
            raise
        print(sentence(error, args[0]), file=sys.stderr)
        return 2
    except (MemoryError, RuntimeError) as error:
        if debug or not is_out_of_memory(error):
            raise
        print(
            f'fusion {args[0]} needs more memory than there is. Give fewer or smaller images, '
            'scans, batches or layers.',
            file=sys.stderr,
        )
        return 2
    text, code = as_text_and_code(outcome)
    if text:
        print(text)
    return code


def call(name: str, args: Sequence[str]) -> Outcome:
    """Import the verb's module, read its settings from the flags, and call its function."""
    if name not in VERBS:
        if name.startswith('-'):
            fault = (
                f"fusion has no option '{name}'. {closest(name, OPTIONS)} Others follow a verb."
            )
        else:
            fault = f"fusion has no verb '{name}'. {closest(name, list(VERBS))}"
        raise ValueError(f'{fault} See all with `fusion --help`.')
    verb = VERBS[name]
    module = importlib.import_module(verb.module)
    settings = read_settings(getattr(module, verb.settings), args, f'fusion {name}', verb.help)
    return cast('Callable[[Settings], Outcome]', getattr(module, verb.function))(settings)


def overview() -> str:
    """List the verbs, one line each."""
    width = max(map(len, VERBS))
    lines = [f'  {name:<{width}}  {verb.help}' for name, verb in VERBS.items()]
    return '\n'.join(
        (
            'usage: fusion [--version] [--debug] VERB ...',
            '',
            'Object centres from a camera and a LiDAR: simulate, train, evaluate, run.',
            '',
            *lines,
            '',
            'Flags of a verb: `fusion VERB --help`. Tracebacks: `fusion --debug VERB ...`.',
        )
    )


def sentence(error: Exception, verb: str) -> str:
    """Put an error in the user's words."""
    if isinstance(error, ModuleNotFoundError):
        missing = (error.name or str(error)).split('.')[0]
        if missing in ROS_PACKAGES or missing.endswith('_msgs') or missing.endswith('_srvs'):
            return (
                f'fusion {verb} needs ROS 2 ({missing} is missing): '
                "source your ROS installation, or run `pip install '.[ros]'` in the checkout."
            )
        return f"fusion {verb} needs the Python module '{error.name}'. Install it with pip."
    if isinstance(error, OSError) and error.strerror:
        # A file that is written bit by bit is not named in the error of a full disk.
        said = f'{error.filename or f"fusion {verb}"}: {error.strerror}.'
        remedy = REMEDIES.get(error.errno or 0)
        return f'{said} {remedy}' if remedy else said
    return str(error)


def is_out_of_memory(error: Exception) -> bool:
    """Say whether an error means that there is no memory; on a CPU torch raises RuntimeError."""
    known = isinstance(error, MemoryError) or type(error).__name__ == 'OutOfMemoryError'
    return known or "can't allocate memory" in str(error)


def as_text_and_code(outcome: Outcome) -> tuple[str, int]:
    """Return what a verb's outcome prints and exits with."""
    if isinstance(outcome, tuple):
        return outcome
    if isinstance(outcome, str):
        return outcome, 0
    return '', outcome or 0


if __name__ == '__main__':
    sys.exit(main())
