"""An interpreter in which packages are not installed."""

import sys
from collections.abc import Iterator
from importlib.machinery import ModuleSpec
from importlib.metadata import Distribution


class Without:
    """All finders of `sys.meta_path` as one, which do not find the packages `names`."""

    def __init__(self, names: tuple[str, ...]):
        self.names, self.finders = names, list(sys.meta_path)

    def find_spec(self, name: str, path=None, target=None) -> ModuleSpec | None:
        if name.partition(".")[0] in self.names:
            return None
        return next(filter(None, (finder.find_spec(name, path, target) for finder in self.finders)), None)

    def find_distributions(self, context) -> Iterator[Distribution]:
        for finder in self.finders:
            yield from getattr(finder, "find_distributions", lambda _: ())(context)
