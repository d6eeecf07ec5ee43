"""How much a function does, counted: the same on a machine that is busy or slow."""

import math
import sys


FEW = 5_000_000  # the largest network that is built before it is refused takes 1.6 million


def calls(function, most=math.inf):
    """What a function returns, and how many functions of Python were called on the way."""
    count = 0

    def profile(frame, event, argument):
        nonlocal count
        count += event == "call"
        if count > most:
            raise AssertionError(f"more than {most:,} calls")

    sys.setprofile(profile)
    try:
        return function(), count
    finally:
        sys.setprofile(None)
