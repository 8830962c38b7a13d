"""Numbers as a reader sees them: three significant digits, a unit, an interval beside it."""

from lab.results import Estimate


def digits(value: float | None) -> str:
    """Three significant digits, none of them made up: 0.42, 8.3, 152, 1,230."""
    return "-" if value is None else f"{float(f'{value:.3g}'):,.10g}"


def ms(value: float | None) -> str:
    return "-" if value is None else f"{digits(value)} ms"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{digits(value)} %"


def count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def users(estimate: Estimate) -> str:
    """3,180 [3,050 to 3,310]."""
    least = "at least " if estimate.at_least else ""
    return f"{least}{count(estimate.mean)}{_bounds(estimate, count)}"


def factor(estimate: Estimate | None) -> str:
    """x 1.42 [1.35 to 1.5]."""
    if estimate is None:
        return "-"
    least = "at least " if estimate.at_least else ""
    return f"{least}x {digits(estimate.mean)}{_bounds(estimate, digits)}"


def _bounds(estimate: Estimate, form) -> str:
    if estimate.low is None or estimate.high is None:
        return ""
    return f" [{form(max(0, estimate.low))} to {form(estimate.high)}]"
