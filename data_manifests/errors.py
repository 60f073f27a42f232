"""The base class of all errors that vadpipe raises on purpose."""

from __future__ import annotations

from .plain_text import shortened


class VadpipeError(Exception):
    """Something that the user can act on: the message says what is wrong and what to do next.

    Every error class of the four rooms derives from it, so a caller can catch them all. It lives
    in this room because the other three may import this file and nothing else outside their own.

    Messages quote values of files, which may be of any length: long ones are cut, see `shortened`.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(*(shortened(arg) if isinstance(arg, str) else arg for arg in args))
