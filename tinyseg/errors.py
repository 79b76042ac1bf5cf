"""The one error that is the user's to mend: a demo prints its line and ends with status 2."""


class InputError(ValueError):
    """What came from outside cannot be used; the message names it, what was expected and what came."""
