"""Each user picks one location and keeps asking for it."""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).parents[1]))

from users.weather_user import PatternUser


class FixedLocation(PatternUser):
    pattern = "fixed"
