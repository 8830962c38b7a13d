"""Five hot spots get 50, 30, 10, 5 and 5 % of the requests: the easiest case for the caches."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from users.weather_user import PatternUser


class WeightedLocations(PatternUser):
    pattern = "weighted"
