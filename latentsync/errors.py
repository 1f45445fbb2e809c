"""What a person did wrong, as opposed to a bug."""


class InputError(ValueError):
    """Bad input, in one sentence: what was wrong, with the value, and the way out.

    The command line, the page and the nodes show the sentence alone; every other exception keeps its traceback.
    """
