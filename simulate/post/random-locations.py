"""Every request asks for any of all locations: the hardest case for the caches."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from users.weather_user import PatternUser


class RandomLocations(PatternUser):
    pattern = "random"
