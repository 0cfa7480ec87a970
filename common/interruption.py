"""A command that was asked to stop."""

import signal


class Interrupted(Exception):
    """The command was asked to stop, and did so in order.

    Args:
        number: of the signal; the exit status is 128 more, as a shell has it.
        message: what stands, and how to go on.
    """

    def __init__(self, number: int, message: str) -> None:
        super().__init__(f"Stopped by {signal.Signals(number).name}: {message}")
        self.number = number
        self.message = message
