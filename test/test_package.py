"""What colcon, pip and a newcomer rely on agrees with what is there."""

import ast
import re
import sys
from pathlib import Path
from xml.etree import ElementTree

import pytest
import yaml
from catkin_pkg.package import parse_package
from catkin_pkg.package_version import get_forthcoming_label

import fusion_perception
from fusion_perception.models import MODELS, build
from fusion_perception.sensing.observation import Camera
from fusion_perception.simulation import topics
from fusion_perception.simulation.motion import LiveSettings

ROOT = Path(__file__).parents[1]
ROS_DEPENDENCIES = {
    'rclpy', 'sensor_msgs', 'cv_bridge', 'geometry_msgs', 'visualization_msgs',
    'diagnostic_msgs', 'vision_msgs', 'std_srvs', 'lifecycle_msgs', 'launch', 'launch_ros',
}  # fmt: skip
# By what is imported, the name of what is installed for it.
SOLD_AS = {
    'PIL': 'pillow', 'mpl_toolkits': 'matplotlib', 'tf2_ros': 'tf2_ros_py', 'yaml': 'pyyaml',
}  # fmt: skip


@pytest.fixture(scope='module')
def manifest():
    return parse_package(ROOT)


@pytest.fixture
def distribution(monkeypatch):
    """Return what setup.py declares, without building anything."""
    import setuptools  # noqa: F401, I001  (it provides distutils from Python 3.12 on)
    from distutils.core import run_setup

    monkeypatch.chdir(ROOT)
    return run_setup('setup.py', stop_after='init')


def test_package_xml_is_valid_and_of_format_3(manifest):
    warnings = []
    manifest.validate(warnings)
    assert (manifest.package_format, warnings) == (3, [])


def test_colcon_takes_the_package_for_ament_python(manifest):
    assert manifest.get_build_type() == 'ament_python'
    assert (ROOT / 'resource' / manifest.name).is_file()


def test_package_xml_and_setup_py_agree(manifest, distribution):
    metadata = distribution.metadata
    assert metadata.name == manifest.name
    assert metadata.version == manifest.version == fusion_perception.__version__
    assert [metadata.license] == manifest.licenses
    assert metadata.description == manifest.description
    [maintainer] = manifest.maintainers
    assert metadata.maintainer == maintainer.name
    assert metadata.maintainer_email == maintainer.email


def test_package_xml_names_the_ros_packages_that_the_node_uses(manifest):
    assert {depend.name for depend in manifest.exec_depends} >= ROS_DEPENDENCIES


def imported_packages(*folders):
    """List the top-level packages that the files of these folders import, ours left out."""
    found = set()
    for file in (file for folder in folders for file in (ROOT / folder).rglob('*.py')):
        for node in ast.walk(ast.parse(file.read_text(encoding='utf-8'))):
            if isinstance(node, ast.ImportFrom) and node.module and not node.level:
                found.add(node.module.split('.')[0])
            elif isinstance(node, ast.Import):
                found.update(alias.name.split('.')[0] for alias in node.names)
    return found - {'fusion_perception'}


def is_ros(name):
    return name in ROS_DEPENDENCIES or name.endswith(
        ('_msgs', '_srvs', '_interfaces', '_python', '_ros')
    )


def test_each_ros_package_that_is_imported_is_a_dependency(manifest):
    used = {name for name in imported_packages('fusion_perception', 'launch') if is_ros(name)}
    assert {SOLD_AS.get(name, name) for name in used} <= {
        depend.name for depend in manifest.exec_depends
    }


def required(distribution):
    """List the Python packages that come with ours, by their names as modules."""
    declared = [*distribution.install_requires]
    for extra, entries in distribution.extras_require.items():
        if extra.startswith(':'):  # Where older setuptools move what depends on the version.
            declared += entries
    return module_names(declared)


def module_names(entries):
    return {re.match(r'[\w-]+', entry).group().replace('-', '_') for entry in entries}


def test_each_python_package_that_is_imported_is_a_dependency(distribution):
    used = {name for name in imported_packages('fusion_perception') if not is_ros(name)}
    standard = sys.stdlib_module_names | {'compression'}  # From Python 3.14 on.
    # Triton comes with PyTorch where that is built for CUDA; engines do without it elsewhere.
    used = {SOLD_AS.get(name, name) for name in used - standard - {'triton'}}
    assert used <= required(distribution)


def test_each_dependency_is_imported(manifest, distribution):
    wheels = module_names(
        entry.removeprefix('ros-') for entry in distribution.extras_require['ros']
    )
    keys = {depend.name.removeprefix('python3-') for depend in manifest.exec_depends}
    imported = imported_packages('fusion_perception', 'launch')
    imported |= {SOLD_AS[name] for name in imported & set(SOLD_AS)}
    # torch.utils.tensorboard imports the one, rclpy loads the other.
    by_others = {'tensorboard', 'rmw_fastrtps_cpp'}
    assert (required(distribution) | wheels | keys) - imported == by_others


def test_each_launch_config_and_rviz_file_is_installed(distribution):
    installed = {file for _, files in distribution.data_files for file in files}
    here = {
        file.relative_to(ROOT).as_posix()
        for folder in ('launch', 'config', 'rviz')
        for file in (ROOT / folder).rglob('*')
        if file.is_file() and '__pycache__' not in file.parts
    }
    assert here <= installed


def test_an_installed_file_keeps_its_folder(distribution):
    for target, files in distribution.data_files:
        for file in files:
            folder = Path(file).parent.as_posix()
            if folder not in ('.', 'resource'):
                assert target == f'share/fusion_perception/{folder}'


def test_each_folder_of_the_package_is_installed(distribution):
    folders = {file.parent for file in (ROOT / 'fusion_perception').rglob('*.py')}
    here = {'.'.join(folder.relative_to(ROOT).parts) for folder in folders}
    assert here == set(distribution.packages)


def test_each_executable_starts_a_function_that_exists(distribution):
    for script in distribution.entry_points['console_scripts']:
        module, function = re.fullmatch(r'\w+ = ([\w.]+):(\w+)', script).groups()
        source = (ROOT / (module.replace('.', '/') + '.py')).read_text(encoding='utf-8')
        functions = [n.name for n in ast.parse(source).body if isinstance(n, ast.FunctionDef)]
        assert function in functions


@pytest.mark.parametrize(
    'file',
    sorted(p.relative_to(ROOT) for s in ('config', 'rviz') for p in (ROOT / s).rglob('*.*')),
    ids=str,
)
def test_each_settings_file_can_be_read(file):
    text = (ROOT / file).read_text(encoding='utf-8')
    if file.suffix == '.xml':
        ElementTree.fromstring(text)
    else:
        assert isinstance(yaml.safe_load(text), dict)


def constant(file, name):
    """Return the expression that a file gives this name to, unevaluated."""
    for node in ast.parse((ROOT / file).read_text(encoding='utf-8')).body:
        targets = getattr(node, 'targets', [getattr(node, 'target', None)])
        if any(isinstance(target, ast.Name) and target.id == name for target in targets):
            return node.value
    raise AssertionError(f'{file} has no {name}')


def test_the_demo_is_launched_with_the_defaults_of_the_simulated_sensor():
    tree = ast.parse((ROOT / 'launch/demo.launch.py').read_text(encoding='utf-8'))
    calls = [node for node in ast.walk(tree) if isinstance(node, ast.Call) and node.args]
    declared = {
        call.args[0].value: next(k.value for k in call.keywords if k.arg == 'default_value')
        for call in calls
        if ast.unparse(call.func) == 'DeclareLaunchArgument'
    }
    camera, live = Camera(), LiveSettings().model_dump()
    own = {**live, 'image_width': camera.width, 'image_height': camera.height}
    assert {name: declared[name].value for name in own} == {n: str(v) for n, v in own.items()}


def published():
    """Return what the simulated sensor and the node publish: the message's type by topic.

    Read from the source, so that it needs no ROS.
    """
    outputs = constant('fusion_perception/ros/outputs.py', 'TOPICS')
    pairs = zip(outputs.keys, outputs.values, strict=True)
    found = {f'fusion_node/{name.value}': kind.id for name, kind in pairs}
    source = (ROOT / 'fusion_perception/ros/sensor_sim.py').read_text(encoding='utf-8')
    return found | {
        getattr(topics, name).lstrip('/'): kind
        for kind, name in re.findall(r"create_publisher\((\w+), (\w+)\.lstrip\('/'\)", source)
    }


def test_the_launch_files_name_the_topics_of_the_simulated_sensor():
    demo = ast.literal_eval(constant('launch/demo.launch.py', 'TOPICS'))
    assert demo == {name: topic.lstrip('/') for name, topic in topics.INPUTS.items()}
    replay = ast.literal_eval(constant('launch/replay.launch.py', 'TOPICS'))
    assert replay.items() >= topics.INPUTS.items()


@pytest.mark.parametrize('file', sorted((ROOT / 'rviz').glob('*.rviz')), ids=lambda p: p.name)
def test_rviz_shows_topics_that_somebody_publishes_by_displays_that_can(file):
    # rviz_default_plugins and the message that each of these displays takes; None: no topic.
    displays = {
        'Grid': None, 'Axes': None, 'PoseArray': 'PoseArray',
        'MarkerArray': 'MarkerArray', 'PointCloud2': 'PointCloud2', 'Image': 'Image',
    }  # fmt: skip
    names = ast.literal_eval(constant('launch/fusion.launch.py', 'TOPICS'))
    sensors = ast.literal_eval(constant('launch/demo.launch.py', 'TOPICS'))
    remapped = {name: sensors[name] for name in names if name in sensors}
    kinds = published()
    shown = yaml.safe_load(file.read_text(encoding='utf-8'))['Visualization Manager']['Displays']
    assert shown
    for display in shown:
        package, _, name = display['Class'].partition('/')
        assert (package, name in displays) == ('rviz_default_plugins', True), display['Class']
        topic = display.get('Topic', {}).get('Value')
        kind = kinds.get(remapped.get(topic, topic))
        assert kind == displays[name], f'{display["Name"]}: {topic}'


def test_rviz_takes_its_frame_from_the_launch_argument():
    # Only the fixed frame can be given to RViz at its start, so nothing else may name a frame.
    for file in (ROOT / 'rviz').glob('*.rviz'):
        text = file.read_text(encoding='utf-8')
        frames = re.findall(r'(?:Reference|Target) Frame: (.+)', text)
        assert set(frames) == {'<Fixed Frame>'}, file.name


def test_release_tools_find_the_changes_to_come():
    changelog = (ROOT / 'CHANGELOG.rst').read_text(encoding='utf-8')
    assert get_forthcoming_label(changelog) == 'Forthcoming'


def test_each_bundle_that_ships_is_at_most_four_megabytes():
    for bundle in (ROOT / 'fusion_perception' / 'bundles').glob('*'):
        assert bundle.stat().st_size <= 4_000_000, bundle.name


def test_the_documents_count_the_parameters_of_each_model_as_they_are():
    rows = re.findall(
        r'^\| `?(\w+)`? \|.*?(\d+,\d{3}(?:,\d{3})*) \|',
        (ROOT / 'docs' / 'results.md').read_text(encoding='utf-8'),
        re.MULTILINE,
    )
    counted = {name: sum(p.numel() for p in build(name).parameters()) for name in MODELS}
    told = {(name, int(count.replace(',', ''))) for name, count in rows if name in MODELS}
    assert told == set(counted.items())


def test_each_relative_link_of_the_documents_leads_somewhere():
    documents = [*ROOT.glob('*.md'), *(ROOT / 'docs').glob('*.md')]
    for document in documents:
        for target in re.findall(r'\]\(([^)#]+)[^)]*\)', document.read_text(encoding='utf-8')):
            if '://' not in target:
                assert (document.parent / target).exists(), f'{document.name}: {target}'
