"""The base class of all errors that vadpipe raises on purpose."""

from __future__ import annotations

from .plain_text import one_line, shortened


class VadpipeError(Exception):
    """Something that the user can act on: the message says what is wrong and what to do next.

    Every error class of the four rooms derives from it, so a caller can catch them all. It lives
    in this room because the other three may import this file and nothing else outside their own.

    Messages quote names and values of files, which may be of any length and hold any character:
    long ones are cut (`shortened`), and what a terminal would obey, ends of lines included, is
    written out here, once (`one_line`). A message of several lines is given line by line.
    """

    def __init__(self, *args: object) -> None:
        super().__init__(
            *(one_line(shortened(arg)) if isinstance(arg, str) else arg for arg in args)
        )

    def __str__(self) -> str:
        lines = [arg for arg in self.args if isinstance(arg, str)]
        several = len(lines) > 1 and len(lines) == len(self.args)
        return "\n".join(lines) if several else super().__str__()
