"""Objects of a user's own modules, which a command names as MODULE:NAME.

The current folder is searched first. What is named is the object itself, or a class or function
that is called without arguments and gives it.
"""

import difflib
import importlib
import inspect
import sys
import traceback
from collections.abc import Callable
from importlib.machinery import PathFinder
from pathlib import Path
from typing import Any

import torch
from torch import nn

from jumpsteps.models.tokenizer import first_line

__all__ = [
    "is_own",
    "module_file",
    "module_hint",
    "own_instance",
    "own_object",
    "place_of",
    "raised",
]


def is_own(name: str) -> bool:
    """Whether a name is MODULE:NAME, and no file or folder."""
    return ":" in name and not Path(name).exists()


def module_hint(name: str) -> str:
    """The end of an error message: what to pass for an object of the module that a name is, or
    whose file it is; nothing for the name of anything else.
    """
    path = Path(name)
    is_file = path.suffix == ".py" and path.is_file()
    module = ".".join(path.with_suffix("").parts) if is_file else name
    if all(part.isidentifier() for part in module.split(".")):
        found = is_file or is_module(module)
        return f"; for one that the module {module} defines pass {module}:NAME" if found else ""
    if not is_file:
        return ""
    return f"; for one that {name} defines pass {path.stem}:NAME in the folder of this file"


def is_module(name: str) -> bool:
    """Whether the current folder has a module of this name, or one is installed; imports none."""
    places: list[str] | None = [str(Path.cwd()), *sys.path]
    whole = ""
    for part in name.split("."):
        whole = f"{whole}.{part}" if whole else part
        spec = None if places is None else PathFinder.find_spec(whole, places)
        if spec is None:
            return False
        places = spec.submodule_search_locations
    return spec is not None and spec.loader is not None  # A folder of anything else has none.


def own_object(flag: str, name: str, example: str) -> Any:
    """What a module of the user's calls NAME.

    Args:
        flag: where it was named, for error messages.
        example: such as "mine:score".

    Raises:
        ValueError: another form than MODULE:NAME, no such module or name, or a module that raises
            or exits when it is imported.
    """
    module, _, attribute = name.partition(":")
    well_formed = all(part.isidentifier() for part in [*module.split("."), attribute])
    if not well_formed or module.endswith(".py"):
        raise ValueError(f"{flag} takes MODULE:NAME such as {example}, without .py, got {name!r}")
    imported = imported_module(flag, name, module)
    if not hasattr(imported, attribute):
        close = difflib.get_close_matches(attribute, vars(imported), 1)
        advice = f"did you mean {close[0]}?" if close else "name one that it defines"
        raise ValueError(f"{flag} {name}: module {module} has no {attribute!r}; {advice}")
    return getattr(imported, attribute)


def module_file(name: str) -> Path | None:
    """The file of a module that was imported for MODULE:NAME, if it has one."""
    file = getattr(sys.modules.get(name.partition(":")[0]), "__file__", None)
    return None if file is None else Path(file)


def imported_module(flag: str, name: str, module: str) -> Any:
    """The module, from the current folder or installed; see ``own_object`` for errors."""
    here = str(Path.cwd())
    sys.path.insert(0, here)
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{module}.".startswith(f"{error.name}."):
            raise ValueError(raised(flag, name, error)) from None
        raise ValueError(
            f"{flag} {name}: there is no module {module!r}, neither {module.replace('.', '/')}.py "
            "in this folder nor one that is installed; name a module that is there"
        ) from None
    except SystemExit:
        raise ValueError(
            f"{flag} {name}: the module exits when it is imported; put what it runs under "
            "if __name__ == '__main__'"
        ) from None
    except Exception as error:
        raise ValueError(raised(flag, name, error)) from None
    finally:
        sys.path.remove(here)
        if here not in sys.path:
            sys.path.append(here)  # For what the module imports later.


def raised(flag: str, name: str, error: Exception) -> str:
    """What an object of the user's raised, and where, in one line."""
    if isinstance(error, SyntaxError):
        place, where = "", f" at {error.filename}:{error.lineno}"
        message = error.msg
    else:
        last = traceback.extract_tb(error.__traceback__)[-1]
        place, where = last.filename, f" at {last.filename}:{last.lineno}"
        message = first_line(error)
    if place.startswith(str(Path(__file__).parent)):
        where = ""
    return (
        f"{flag} {name} raised {type(error).__name__}: {message}{where}; correct it and run the "
        "same command again"
    )


def place_of(error: Exception) -> str:
    """The line of a user's own module that raised, in brackets; nothing for other code's."""
    last = traceback.extract_tb(error.__traceback__)[-1]
    others = [Path(__file__).parents[1], Path(sys.prefix), Path(sys.base_prefix)]
    file = Path(last.filename)
    own = file.is_file() and not any(file.is_relative_to(folder) for folder in others)
    return f" ({file}:{last.lineno})" if own else ""


def own_instance(
    flag: str,
    name: str,
    kind: type | tuple[type, ...],
    what: str,
    example: str,
    device: torch.device | None = None,
) -> Any:
    """The object of this kind that MODULE:NAME is, or gives when it is called.

    Args:
        what: the kind in words.
        device: passed to a function with a parameter of this name.

    Raises:
        ValueError: as ``own_object``; a function that takes other arguments or raises; an object of
            another kind.
    """
    found = own_object(flag, name, example)
    is_class = isinstance(found, type)  # Which may have all that a protocol asks of its objects.
    if is_class or (callable(found) and not isinstance(found, kind) and not is_network(found)):
        found = called(flag, name, found, what, device)
    if isinstance(found, kind):
        return found
    raise ValueError(
        f"{flag} {name} is of the type {type(found).__name__}; name {what}, or a class or function "
        "that makes one without arguments"
    )


def is_network(found: object) -> bool:
    return isinstance(found, nn.Module)


def called(
    flag: str, name: str, maker: Callable[..., Any], what: str, device: torch.device | None
) -> Any:
    """What a class or function gives without arguments, but for a device that it takes."""
    try:
        parameters = dict(inspect.signature(maker).parameters)
    except (TypeError, ValueError):  # Built-in functions have no signature.
        parameters = {}
    takes = {"device": device} if device is not None and "device" in parameters else {}
    free = [p for p in parameters.values() if p.default is p.empty and p.name not in takes]
    needed = [p.name for p in free if p.kind not in (p.VAR_POSITIONAL, p.VAR_KEYWORD)]
    if needed:
        raise ValueError(
            f"{flag} {name} needs the arguments {', '.join(needed)}; name {what}, or a class or "
            "function that makes one without arguments"
        )
    try:
        return maker(**takes)
    except Exception as error:
        raise ValueError(raised(flag, name, error)) from None
