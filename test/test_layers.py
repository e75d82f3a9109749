"""The import rule of docs/architecture.md, executed: who may import whom, and what nobody may."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
PACKAGE = ROOT / 'fusion_perception'

BELOW = {
    'sensing', 'models', 'engines', 'runtime', 'simulation', 'stopping', 'cores', 'own_modules',
    'whole_files',
}  # fmt: skip
# What each folder (or module beside the folders) may import of ours, beside itself.
ALLOWED = {
    'sensing': set(),
    'user_cache': set(),
    'standard_streams': set(),
    'own_modules': set(),
    'whole_files': set(),
    'flags': {'sensing'},
    'models': {'sensing'},
    'engines': {'sensing', 'models', 'user_cache'},
    'runtime': {'sensing', 'models', 'engines'},
    'simulation': {'sensing'},
    'stopping': set(),
    'cores': set(),
    'learning': {*BELOW, 'user_cache', 'flags'},
    'ros': {*BELOW, 'standard_streams'},
    'launch': {'sensing', 'models', 'engines', 'runtime', 'simulation', 'ros'},
}
# What a folder within one may import of that, and who within that may import it.
IMPORTS_WITHIN = {'data': {'data'}, 'bags': {'data', 'bags'}}
IMPORTED_WITHIN = {
    'run': {'run', 'evidence', 'training', 'compare', 'evaluation', 'benchmarks'},
    'evidence': {'evidence', 'gates', 'report', 'reports', 'compare', 'evaluation'},
    'reports': {'reports', 'report', 'evaluation'},
    'benchmarks': {'benchmarks', 'benchmark'},
    'findings': {'findings'},
    'recordings': {'recordings'},
}
MEETING_POINTS = {'cli', 'demo', 'doctor'}  # may import anything, ROS only inside functions
FOLDERS = {'sensing', 'models', 'engines', 'simulation', 'learning', 'ros', 'bundles'}
ROS_FOLDERS = {'ros', 'launch'}
ROS_PACKAGES = {
    'ament_index_python', 'cv_bridge', 'launch', 'launch_ros', 'message_filters', 'rcl_interfaces',
    'rclpy', 'rosbag2_py', 'sensor_msgs_py', 'tf2_ros', 'diagnostic_updater',
}  # fmt: skip
# What prints and exits: only cli.py does, but for the exceptions below. `sys.exit` may also stand
# below `if __name__ == '__main__'`.
OUTLETS = {
    'print', 'exit', 'quit', 'sys.exit', 'os._exit', 'os.abort', 'SystemExit', 'sys.stdout',
    'sys.stderr',
}  # fmt: skip
EXCEPTED = {
    ('ros/process.py', 'os._exit'): 'a busy robot does not wait for torch to be taken apart',
    ('ros/process.py', 'sys.stdout'): 'an executable answers --help',
    ('ros/node_settings.py', 'sys.stdout'): 'run by itself, `make parameters` redirects it',
    ('ros/parameter_page.py', 'sys.stdout'): 'run by itself, `make parameters` redirects it',
    ('learning/data/plain_packing.py', 'sys.stdout'): 'a pipe to the process that asks',
    ('standard_streams.py', 'sys.stdout'): 'opens it where it is closed',
    ('standard_streams.py', 'sys.stderr'): 'opens it where it is closed',
    ('sensing/settings.py', 'typing.Any'): 'what pydantic says of a fault is of any type',
}
HOMELESS = {'utils.py', 'util.py', 'common.py', 'helpers.py', 'misc.py'}
MOST_LINES = 350


def is_ros(module: str) -> bool:
    top = module.split('.')[0]
    return top in ROS_PACKAGES or top.endswith(('_msgs', '_srvs', '_interfaces'))


def imports(tree: ast.Module, parts: tuple[str, ...]) -> list[tuple[str, int, bool]]:
    """List (absolute module name, line, whether at import time) of a file's imports.

    `parts` is the file's dotted package, for relative imports. What stands below
    `if TYPE_CHECKING` counts as imported later: it never runs.
    """
    later: set[ast.AST] = set()
    for node in ast.walk(tree):
        guard = isinstance(node, ast.If) and 'TYPE_CHECKING' in ast.unparse(node.test)
        if guard or isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef)):
            later.update(inner for statement in node.body for inner in ast.walk(statement))
    found = []
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno, node not in later) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = parts[: len(parts) - node.level + 1] if node.level else ()
            module = '.'.join([*base, *([node.module] if node.module else [])])
            names = [alias.name for alias in node.names]
            found += [(f'{module}.{name}', node.lineno, node not in later) for name in names]
    return found


def calls(tree: ast.Module) -> list[tuple[str, ast.Call]]:
    """List the calls of a file."""
    found = [node for node in ast.walk(tree) if isinstance(node, ast.Call)]
    return [(ast.unparse(node.func), node) for node in found]


def outlets(tree: ast.Module) -> list[tuple[str, int]]:
    """List (name, line) of what a file prints or exits with."""
    harmless: set[ast.AST] = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.If) and '__main__' in ast.unparse(node.test):
            harmless.update(part for part in ast.walk(node) if ast.unparse(part) == 'sys.exit')
        if isinstance(node, ast.Attribute) and node.attr in {'flush', 'isatty'}:
            harmless.add(node.value)
    found = []
    for node in ast.walk(tree):
        names = []
        if isinstance(node, ast.Attribute) and node not in harmless:
            names = [ast.unparse(node)]
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
            names = [node.func.id]
        elif isinstance(node, ast.Raise) and isinstance(node.exc, ast.Name):
            names = [node.exc.id]
        elif isinstance(node, ast.ImportFrom):
            names = [f'{node.module}.{alias.name}' for alias in node.names]
        found += [(name, node.lineno) for name in names if name in OUTLETS]
    return found


def may_meet(part: str, target: str) -> bool:
    """Say whether a file or folder within a folder may import another one."""
    return target in IMPORTS_WITHIN.get(part, {target}) and part in IMPORTED_WITHIN.get(
        target, {part}
    )


def faults(file: Path, source: str) -> list[str]:
    """List what a file (its path relative to the root, its text) does against the rules."""
    tree = ast.parse(source)
    parts = file.with_suffix('').parts
    inside = '/'.join(file.parts[1:])
    layer = 'launch' if parts[0] == 'launch' else parts[1] if len(parts) > 1 else ''
    found = []
    if file.name in HOMELESS:
        found.append(f'{file}: give it the name of its idea')
    if source.count('\n') > MOST_LINES:
        found.append(f'{file}: longer than {MOST_LINES} lines, split it')
    for module, line, at_import in imports(tree, parts[:-1]):
        where = f'{file}:{line} imports {module}'
        if is_ros(module):
            if layer not in ROS_FOLDERS | MEETING_POINTS:
                found.append(f'{where}, but only ros/ and launch/ know ROS packages')
            elif layer in MEETING_POINTS and at_import:
                found.append(f'{where} at import time, but must run where no ROS is')
        if module.startswith('fusion_perception.'):
            target = module.split('.')[1]
            anything = layer in MEETING_POINTS or target in (layer, '__version__')
            if not anything and target not in ALLOWED.get(layer, set()):
                found.append(f'{where}, which {layer} may not')
            within = [*module.split('.'), ''][2]
            if layer == target and not may_meet([*parts, ''][2], within):
                found.append(f'{where}, which {layer}/{parts[2]} may not')
            if layer in MEETING_POINTS and target == 'ros' and at_import:
                found.append(f'{where} at import time, but must run where no ROS is')
        excepted = layer in ROS_FOLDERS or (inside, module) in EXCEPTED
        if module == 'typing.Any' and not excepted:
            found.append(f'{where}, but only ROS has no types')
        if module.split('.')[0] in {'pickle', 'dill', 'joblib', 'cloudpickle'}:
            found.append(f'{where}, but nothing is ever unpickled')
    for name, call in calls(tree):
        where = f'{file}:{call.lineno} calls {name}'
        arguments = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        if arguments.get('weights_only') == 'False' or arguments.get('allow_pickle') == 'True':
            found.append(f'{where} so that it unpickles')
        if name == 'torch.load' and arguments.get('weights_only') != 'True':
            found.append(f'{where} without weights_only=True')
    for name, line in outlets(tree):
        if layer != 'cli' and (inside, name) not in EXCEPTED:
            found.append(f'{file}:{line} has {name}, but only cli.py prints and exits')
    return found


def ours() -> list[Path]:
    files = [*PACKAGE.rglob('*.py'), *(ROOT / 'launch').glob('*.py')]
    return sorted(file.relative_to(ROOT) for file in files)


@pytest.mark.parametrize('file', ours(), ids=str)
def test_a_file_imports_and_calls_only_what_its_folder_may(file):
    assert faults(file, (ROOT / file).read_text(encoding='utf-8')) == []


def test_tests_are_no_longer_than_other_files_and_have_names_too():
    for file in sorted(Path(__file__).parent.rglob('*.py')):
        assert file.name not in HOMELESS
        assert len(file.read_text(encoding='utf-8').splitlines()) <= MOST_LINES, file


def test_there_are_no_other_folders():
    found = {
        path.name for path in PACKAGE.iterdir() if path.is_dir() and path.name != '__pycache__'
    }
    assert found <= FOLDERS


def test_each_module_beside_the_folders_is_known_to_the_rule():
    modules = {path.stem for path in PACKAGE.glob('*.py')} - {'__init__'}
    assert modules <= set(ALLOWED) | MEETING_POINTS


@pytest.mark.parametrize(
    ('file', 'source', 'complaint'),
    [
        ('sensing/a.py', 'from fusion_perception.models import build', 'may not'),
        ('sensing/a.py', 'from ..models import build', 'may not'),
        ('sensing/a.py', 'def f():\n    import fusion_perception.learning.dataset', 'may not'),
        ('models/a.py', 'from fusion_perception import runtime', 'may not'),
        ('learning/a.py', 'from fusion_perception.ros import messages', 'may not'),
        ('ros/a.py', 'from fusion_perception.learning.metrics import error', 'may not'),
        ('runtime.py', 'import rclpy', 'know ROS packages'),
        ('learning/a.py', 'def f():\n    from sensor_msgs.msg import Image', 'know ROS packages'),
        ('demo.py', 'import rclpy', 'where no ROS is'),
        ('demo.py', 'from fusion_perception.ros import messages', 'where no ROS is'),
        ('learning/data/a.py', 'from fusion_perception.learning import dataset', 'may not'),
        ('learning/bags/a.py', 'from fusion_perception.learning.run import folder', 'may not'),
        ('learning/bag.py', 'from fusion_perception.learning.evidence import of_bags', 'may not'),
        ('learning/dataset.py', 'from fusion_perception.learning.run import batches', 'may not'),
        ('learning/data/a.py', 'from fusion_perception.learning.bags import pairs', 'may not'),
        ('learning/train.py', 'from fusion_perception.learning.reports import html', 'may not'),
        ('learning/bag.py', 'import fusion_perception.learning.benchmarks.bar', 'may not'),
        ('sensing/a.py', 'from fusion_perception.sensing.recordings import files', 'may not'),
        ('sensing/recordings/a.py', 'from fusion_perception.sensing.findings import x', 'may not'),
        ('models/a.py', 'import pickle', 'unpickled'),
        ('models/a.py', 'torch.load(path, weights_only=False)', 'unpickles'),
        ('models/a.py', 'torch.load(path)', 'weights_only=True'),
        ('learning/a.py', 'np.load(path, allow_pickle=True)', 'unpickles'),
        ('sensing/a.py', 'print(1)', 'prints'),
        ('sensing/a.py', 'import sys\nsys.exit(1)', 'exits'),
        ('sensing/a.py', 'from sys import exit as leave\nleave(1)', 'exits'),
        ('ros/a.py', 'import os\nos._exit(1)', 'exits'),
        ('ros/process.py', 'import os\nos.abort()', 'exits'),
        ('learning/a.py', 'raise SystemExit', 'exits'),
        ('learning/a.py', 'raise SystemExit(2) from None', 'exits'),
        ('ros/a.py', 'import sys\nsys.stdout.write("a")', 'prints'),
        ('ros/a.py', 'import sys\nsay(file=sys.stderr)', 'prints'),
        ('ros/a.py', "if __name__ == '__main__':\n    print(main())", 'prints'),
        ('learning/a.py', 'from typing import Any, cast', 'types'),
        ('sensing/utils.py', '', 'idea'),
        ('sensing/a.py', '\n' * 351, 'split'),
    ],
)
def test_the_rule_catches_a_planted_fault(file, source, complaint):
    found = faults(Path('fusion_perception') / file, source)
    assert any(complaint in fault for fault in found), found


@pytest.mark.parametrize(
    ('file', 'source'),
    [
        ('demo.py', 'def f():\n    import rclpy\n    from fusion_perception.ros import messages'),
        ('demo.py', 'if TYPE_CHECKING:\n    from rclpy.node import Node'),
        ('learning/a.py', 'from fusion_perception import __version__\nimport numpy as np'),
        ('learning/bags/a.py', 'from fusion_perception.learning.data.labels import check_labels'),
        ('learning/reports/a.py', 'from fusion_perception.learning.reports import figures'),
        ('learning/benchmark.py', 'from fusion_perception.learning.benchmarks import bar'),
        ('ros/a.py', 'import rclpy\nfrom fusion_perception.runtime import Runtime'),
        ('cli.py', 'print(1)'),
        ('ros/a.py', "if __name__ == '__main__':\n    sys.exit(main())"),
        ('ros/process.py', 'import os\nos._exit(1)'),
        ('ros/a.py', 'from typing import Any'),
        ('learning/a.py', 'import sys\nquiet = not sys.stderr.isatty()'),
    ],
)
def test_the_rule_lets_pass_what_it_should(file, source):
    assert faults(Path('fusion_perception') / file, source) == []
