"""The page of an evaluation is whole, stands alone, and is the same every time."""

import base64
import io
import re
import shutil
import subprocess
from html.parser import HTMLParser
from xml.etree import ElementTree

import numpy as np
import pytest
from PIL import Image
from recordings import record
from small_bundles import small_bundle

from fusion_perception.learning.bags.judging import JudgedFrame
from fusion_perception.learning.bags.settings import BagSettings
from fusion_perception.learning.evaluation import EvaluateSettings, evaluate
from fusion_perception.learning.evidence.of_bags import from_bags
from fusion_perception.learning.reports.errors import Axis, Errors, share_within
from fusion_perception.learning.reports.figures import (
    error_against_range,
    error_distribution,
    error_over_time,
)
from fusion_perception.learning.reports.frames import frame_views
from fusion_perception.learning.reports.html import drawing
from fusion_perception.learning.reports.timeline import rates
from fusion_perception.learning.simulate import SimulateSettings, simulate
from fusion_perception.learning.to_bag import IMAGE, RANGES, TRUTH
from fusion_perception.models.bundle import load_bundle
from fusion_perception.runtime import Runtime
from fusion_perception.sensing.lidars import UniformGrid
from fusion_perception.sensing.observation import Camera

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures('one_thread')]
SECTIONS = ['errors', 'range', 'covariance', 'modes', 'messages', 'latency', 'worst', 'unread']
SECTIONS += ['configuration']
VOID = {'meta', 'img', 'br'}


class Page(HTMLParser):
    """A page taken apart; an element that is closed out of turn fails."""

    def __init__(self, source):
        super().__init__()
        self.open, self.ids, self.elements, self.words = [], [], [], []
        self.feed(source)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        given = dict(attrs)
        self.elements.append((tag, given))
        self.ids += [given['id']] if 'id' in given else []
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        self.words.append(data)

    def every(self, tag):
        return [given for name, given in self.elements if name == tag]

    def text(self):
        return ' '.join(self.words)


@pytest.fixture(scope='module')
def made(tmp_path_factory):
    path = tmp_path_factory.mktemp('report')
    bundle = small_bundle(path)
    lost = {(IMAGE, index) for index in range(8, 20)} | {
        (RANGES, index) for index in range(22, 32)
    }
    record(
        path / 'bags' / 'yard',
        34,
        edit=lambda events: [e for e in events if (e.topic, e.index) not in lost],
    )
    record(path / 'bags' / 'hall', 5, rate=5)
    (path / 'bags' / 'torn.mcap').write_bytes(bytes(1000))
    simulate(SimulateSettings(out=path / 'data', count=12))

    def run(out='out', **source):
        values = {'bundle': str(bundle), 'out': path / out, 'device': 'cpu', **source}
        if 'bag' in source:
            values['jobs'] = 1
        evaluate(EvaluateSettings.read(values))
        return (path / out / 'report.html').read_text(encoding='utf-8')

    return path, run


@pytest.fixture(scope='module')
def pages(made):
    path, run = made
    return {
        'data': run(data=path / 'data'),
        'bag': run(bag=(str(path / 'bags' / 'yard'),)),
        'bags': run(bag=(str(path / 'bags'),)),
    }


@pytest.fixture(params=['data', 'bag', 'bags'])
def page(request, pages):
    return pages[request.param]


def test_every_section_is_there_and_holds_something(page):
    found = Page(page)
    named = [given['id'] for given in found.every('section')]
    assert [name for name in named if name != 'recordings'] == SECTIONS
    for part in page.split('<section')[1:]:
        assert re.search('<(table|img|svg|p|ul|dl)[ >]', part.split('</h2>')[1])
    assert len(re.findall('class="frame"', page)) == 10


def test_it_is_well_formed_and_says_what_it_is(page):
    found = Page(page)
    assert len(found.ids) == len(set(found.ids))
    assert found.every('html') == [{'lang': 'en'}]
    assert len(found.every('title')) == len(found.every('h1')) == 1
    links = [given['href'] for given in found.every('a')]
    assert links and all(link[0] == '#' and link[1:] in found.ids for link in links)


def test_nothing_is_loaded_from_elsewhere(page):
    found = Page(page)
    assert not re.search('https?:|url\\(|@import', page)
    assert not found.every('script') + found.every('link') + found.every('iframe')
    for _, given in found.elements:
        for key in ('src', 'href', 'xlink:href', 'srcset', 'data'):
            assert given.get(key, '#')[:5] in ('#', 'data:') or given[key].startswith('#')


def test_every_picture_decodes_and_is_told_in_words(page):
    found = Page(page)
    charts = found.every('img')
    assert len(charts) >= 5
    for given in charts:
        assert len(given['alt']) > 20
        kind, data = given['src'].split(';base64,')
        assert kind == 'data:image/svg+xml'
        root = ElementTree.fromstring(base64.b64decode(data))
        assert root.tag.endswith('svg') and len(list(root.iter())) > 30
    views = [given for given in found.every('svg') if given.get('role') == 'img']
    assert len(views) == 30 and all(len(given['aria-label']) > 10 for given in views)
    images = found.every('image')
    assert len(images) >= 10
    for given in images:
        png = base64.b64decode(given['href'].removeprefix('data:image/png;base64,'))
        assert Image.open(io.BytesIO(png)).convert('RGB').size == (64, 64)


@pytest.mark.skipif(shutil.which('chromium') is None, reason='needs a browser: chromium')
def test_a_narrow_window_shows_figures_as_they_are_and_breaks_no_words(page, tmp_path):
    measure = """<script>
        const heights = [...document.querySelectorAll('tr')].map(row => row.offsetHeight);
        const widths = [...document.images].map(image => image.offsetWidth);
        document.title = [Math.max(...heights), Math.min(...widths),
          document.documentElement.scrollWidth];
    </script></body>"""
    narrow = tmp_path / 'narrow.html'
    # Rows that name files are as high as the temporary folder's name is long.
    anywhere = page.replace(str(tmp_path.parent), '')
    narrow.write_text(anywhere.replace('</body>', measure), encoding='utf-8')
    browser = ['chromium', '--headless', '--no-sandbox', '--disable-gpu', '--window-size=500,900']
    dumped = subprocess.run(
        [*browser, f'--user-data-dir={tmp_path}', '--dump-dom', narrow.as_uri()],
        capture_output=True,
        text=True,
        check=True,
    ).stdout
    highest, least_wide, scrolled = map(int, re.search('<title>([^<]*)', dumped)[1].split(','))
    assert highest < 120
    assert least_wide > 1000
    assert scrolled <= 500


def test_several_recordings_have_rows_a_total_and_what_failed(pages):
    words = Page(pages['bags']).text()
    for said in ('1. hall', '2. yard', 'Total', 'Not evaluated:', '1 of 3 recordings'):
        assert said in words
    assert 'does not begin as an .mcap file' in words.split('What could not be read')[-1]
    assert 'silent' in words and 'camera alone' in words and 'LiDAR alone' in words


def test_two_runs_write_the_same_page_but_for_the_latency(made, pages):
    path, run = made

    def without_latency(page):
        page = re.sub('<section id="latency".*?</section>', '', page, flags=re.DOTALL)
        return re.sub('median latency</dt><dd>.*?</dd>', '', page)

    again = run('again', bag=(str(path / 'bags'),))
    assert without_latency(again) == without_latency(pages['bags'])
    again = run('again', data=path / 'data')
    assert without_latency(again) == without_latency(pages['data'])


def test_without_truth_the_page_holds_what_there_is(made):
    path, run = made
    bag = record(path / 'mute', 4, edit=lambda events: [e for e in events if e.topic != TRUTH])
    page = run('mute_out', bag=(str(bag),))
    sections = [given['id'] for given in Page(page).every('section')]
    assert sections == ['errors', 'modes', 'messages', 'latency', 'unread', 'configuration']
    assert 'There is no ground truth' in page


def test_of_a_single_sensor_no_pairs_are_said_to_be_made(made):
    path, run = made
    bag = record(path / 'blind', 20, edit=lambda events: [e for e in events if e.topic == RANGES])
    words = Page(run('blind_out', bag=(str(bag),))).text()
    assert 'predictions were made of them' in words
    assert 'pairs' not in words.rpartition('Configuration and versions')[0]


def test_a_model_without_covariance_is_said_to_have_none(made):
    path, run = made
    bundle = small_bundle(path, 'early_fusion')
    page = run('plain', bundle=str(bundle), data=path / 'data')
    assert 'This model estimates no covariance.' in page
    assert '<ellipse' not in page


def test_truth_and_prediction_are_marked_where_they_are_seen():
    lidar, camera = UniformGrid().lidar(), Camera()
    ahead, aside = [0.0, 20.0, 0.0], [2.0, 20.0, 0.0]
    frame = JudgedFrame(
        place='Scene 0',
        mode='fusion',
        error_m=2.0,
        image=np.zeros((128, 128, 3), np.uint8),
        ranges=np.full((64, 64), 30, np.float32),
        predicted=np.array([aside], np.float32),
        truth=np.array([ahead], np.float32),
        covariance=None,
    )
    found = Page(frame_views(1, frame, ('ball',), lidar, camera))
    at = [(float(given['cx']), float(given['cy'])) for given in found.every('circle')]
    # In each view the truth, with its rim, and the prediction.
    image, ranges, above = ((at[first], at[first + 2]) for first in (0, 3, 6))
    # In an image of twice the size the optical axis lies between the two middle pixels.
    assert image[0] == (64.0, 64.0)
    assert image[1] == pytest.approx((64 + 2 * 73.3 * 2 / 20, 64), abs=0.01)
    assert ranges[0] == pytest.approx((32, 32), abs=0.5)
    columns = np.degrees(np.arctan2(2, 20)) / 0.5
    assert ranges[1][0] - ranges[0][0] == pytest.approx(columns, abs=1)
    assert above[1][0] > above[0][0] and above[1][1] == above[0][1]


def test_a_center_behind_the_camera_is_not_marked_in_the_image():
    lidar = UniformGrid().lidar()
    behind = np.array([[0.0, -20.0, 0.0]], np.float32)
    image = np.zeros((64, 64, 3), np.uint8)
    ranges = np.full((64, 64), 30, np.float32)
    frame = JudgedFrame('Scene 0', 'fusion', 0.0, image, ranges, behind, behind, None)
    views = frame_views(1, frame, ('ball',), lidar, Camera()).split('<svg')[1:4]
    assert ['<circle' in view for view in views] == [False, False, True]


@pytest.mark.parametrize('away', [1.0, 1e4, 1e12])
def test_the_view_from_above_has_few_lines_however_far_a_centre_is(away):
    lidar = UniformGrid().lidar()
    truth = np.array([[0.0, away, 0.0]], np.float32)
    frame = JudgedFrame('Scene 0', 'camera_only', away, None, None, truth / 2, truth, None)
    above = frame_views(1, frame, ('ball',), lidar, Camera()).split('<svg')[3]
    assert 4 <= above.count('<text') <= 18


@pytest.mark.parametrize(('squared', 'share'), [(0.0, 0.0), (2.365974, 0.5), (7.814728, 0.95)])
def test_the_share_within_an_ellipsoid_is_that_of_chi_square(squared, share):
    assert share_within(np.array([[squared]]))[0, 0] == pytest.approx(share, abs=1e-6)


def test_rates_over_time_lose_no_message(made):
    path, _ = made
    runtime = Runtime(load_bundle(path / 'dense_fusion.safetensors'), 'cpu')
    bags = [str(path / 'bags' / name) for name in ('yard', 'hall')]
    evidence = from_bags(runtime, bags, BagSettings(), 8, jobs=1)
    edges, found = rates(evidence.runs, Axis.of(evidence))
    for stream, counts in evidence.streams.items():
        came = float((found[f'{stream}.received'] * np.diff(edges)).sum())
        assert came == pytest.approx(counts['received'])


@pytest.mark.parametrize('count', [1, 3, 5000])
def test_the_share_of_centres_nearer_than_a_distance_is_drawn_from_none_to_all(count):
    away = np.linspace(0.2, 0.8, 2 * count)[:, None] if count > 1 else np.array([[0.2]])
    errors = Errors(('a',), away, away, np.arange(len(away)), ('fusion',) * len(away), None)
    _, nearer = error_distribution(errors).axes
    at, shares = nearer.lines[0].get_data()
    assert (at[0], at[-1]) == pytest.approx(nearer.get_xlim())
    assert (shares[0], shares[-1]) == (0, 100)
    # A share holds until the next centre.
    assert nearer.lines[0].get_drawstyle() == 'steps-post'
    assert shares[np.searchsorted(at, 0.5, side='right') - 1] == pytest.approx(
        100 * (away < 0.5).mean(), abs=0.5
    )


@pytest.mark.parametrize(
    ('away', 'named'),
    [((2.0, 3.0), []), ((0.2, 0.3), ['0.25 m']), ((0.01, 1.0), ['0.1 m', '0.25 m', '0.5 m'])],
)
def test_only_radii_on_the_axis_are_drawn_and_named(away, named):
    errors = Errors(
        ('a',), np.array([away]).T, np.ones((2, 1)), np.arange(2), 2 * ('fusion',), None
    )
    _, nearer = error_distribution(errors).axes
    assert [text.get_text() for text in nearer.texts] == named
    low, high = nearer.get_xlim()
    assert len(nearer.lines) == 1 + len(named)
    assert all(low <= line.get_xdata()[0] <= high for line in nearer.lines[1:])


def test_figures_do_not_grow_with_the_recording():
    rng = np.random.default_rng(0)

    def size(count):
        away = rng.uniform(0.01, 1, (count, 2))
        at = np.sort(rng.uniform(0, 100, count))
        errors = Errors(('a', 'b'), away, 20 + away, at, ('fusion',) * count, None)
        figures = (
            error_over_time(errors, Axis('time [s]', (0.0,), 100.0)),
            error_against_range(errors),
        )
        return sum(len(drawing(figure, 'errors')) for figure in figures)

    assert size(20_000) < 1.2 * size(2_000)
