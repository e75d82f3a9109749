"""Run modules of this package in other processes."""

from __future__ import annotations

from pathlib import Path

# `-m` would look into the working folder first: for this package, which may lie there in another
# version, and for all that it imports. `-P` is too new.
_CODE = """
import sys
sys.path[:] = filter(None, sys.path)
import importlib.util, runpy
found = importlib.util.spec_from_file_location({name!r}, {file!r})
sys.modules[{name!r}] = package = importlib.util.module_from_spec(found)
found.loader.exec_module(package)
runpy.run_module({module!r}, run_name='__main__', alter_sys=True)
"""


def as_main(module: str) -> tuple[str, str]:
    """Return the arguments with which a Python runs a module of this very package as its main.

    What lies in the working folder is neither imported nor run.
    """
    file = Path(__file__).with_name('__init__.py')
    name = __name__.partition('.')[0]
    return '-c', _CODE.format(name=name, file=str(file), module=f'{name}.{module}')
