"""What a person did wrong, as opposed to a bug."""


class InputError(ValueError):
    """Bad input, in one sentence: what was wrong, with the value, and the way out.

    The command line, the page and the nodes show the sentence alone; every other exception keeps its traceback.
    """


class FileError(InputError, OSError):
    """A file that is missing or that the system refuses to read or write; `errno` is the system's number."""

    def __init__(self, sentence: str, number: int | None = None):
        super().__init__(sentence)
        self.errno = number
