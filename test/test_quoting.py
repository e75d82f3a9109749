"""What others wrote stands in our messages cut short and without what moves a terminal."""

import math

import pytest

from fusion_perception.sensing.quoting import escaped, quoted, reason

NASTY = ['\x1b[2J', 'a\nb', 'a\rb', '\x00', '\x9b31m', '\u202egnp.exe', '\u2028']


@pytest.mark.parametrize('value', ['rgb8', '', 3, 0.1, None, [1, 'a'], {'a': (1.5, None)}])
def test_what_is_short_and_plain_stands_as_it_is(value):
    assert quoted(value) == repr(value)
    assert escaped('rgb8') == reason(ValueError('rgb8')) == 'rgb8'


@pytest.mark.parametrize('text', NASTY)
@pytest.mark.parametrize('say', [quoted, escaped, lambda text: reason(ValueError(text))])
def test_no_escape_and_no_end_of_a_line_passes(say, text):
    assert say(f'x{text}y').isprintable()


def nested(depth):
    values = 'x'
    for _ in range(depth):
        values = [values] * 9
    return values


@pytest.mark.parametrize(
    'value',
    ['x' * 10_000, ['x' * 10_000], [0.25] * 10_000, 10**400, 16**5000, nested(8), {'a' * 999: 1}],
    ids=['text', 'listed', 'list', 'digits', 'hexadecimal', 'aliases', 'key'],
)
def test_what_is_long_is_cut(value):
    assert len(quoted(value)) <= 100


def test_a_name_and_a_reason_are_cut_too():
    assert len(escaped('x' * 10_000)) <= 100
    assert len(reason(ValueError('x' * 10_000))) <= 300


def test_a_reason_is_one_line_and_never_empty():
    assert reason(ValueError('in line 1,\n  column 2')) == 'in line 1, column 2'
    assert reason(RecursionError()) == 'RecursionError'


def test_numbers_keep_the_digits_they_have():
    assert quoted(math.pi) == repr(math.pi)
