"""Hot spots with a tail: the location of rank r is asked for 1/r as often as the first."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from users.weather_user import PatternUser


class ZipfLocations(PatternUser):
    pattern = "zipf"
