"""Repeat in a message what others wrote: cut short, and escaped so that it moves no terminal."""

from __future__ import annotations

import reprlib

_MOST = 100
_MOST_OF_A_REASON = 300
# A few short names of YAML can stand for billions of values: never write them all out to cut.
_CUT = reprlib.Repr()
_CUT.maxlevel = 4
_CUT.maxstring = _CUT.maxother = _CUT.maxlong = _MOST
_CUT.maxtuple = _CUT.maxlist = _CUT.maxdict = _CUT.maxset = _CUT.maxfrozenset = 20


def quoted(value: object) -> str:
    """Return a value as `repr` does, in at most 100 characters."""
    try:
        return _shortened(_CUT.repr(value), _MOST)
    except ValueError:
        return 'a number of too many digits'


def escaped(name: object) -> str:
    """Return a name without quotes around it, escaped and cut as a `quoted` one."""
    text = str(name)
    return text if text.isprintable() and len(text) <= _MOST else quoted(text)[1:-1]


def reason(fault: BaseException) -> str:
    """Return what an exception says in one line of at most 300 characters."""
    said = ' '.join(str(fault).split()) or type(fault).__name__
    printable = ''.join(one if one.isprintable() else repr(one)[1:-1] for one in said)
    return _shortened(printable, _MOST_OF_A_REASON)


def _shortened(text: str, most: int) -> str:
    return text if len(text) <= most else f'{text[: most - 3]}...'
