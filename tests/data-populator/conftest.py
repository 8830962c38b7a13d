"""Puts the room's modules, and the tests' own, on the path."""

import sys
from pathlib import Path

sys.path += [str(Path(__file__).parent), str(Path(__file__).parents[2] / "data-populator")]
