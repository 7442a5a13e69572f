"""Arguments of another kind than expected."""

from types import UnionType

__all__ = ["check_kind"]


def check_kind(name: str, value: object, kind: type | UnionType, expected: str) -> None:
    """Raises ValueError for a value of another kind, or a class in place of an object of it.

    Args:
        name: of the argument.
        expected: what it must be, in words, with an example.
    """
    if isinstance(value, type):
        raise ValueError(f"{name} must be {expected}, got the class {value.__name__}; call it")
    if not isinstance(value, kind):
        raise ValueError(f"{name} must be {expected}, got {type(value).__name__}")
