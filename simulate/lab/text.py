"""Numbers as a reader sees them: three significant digits, a unit, an interval beside it."""

from collections.abc import Callable

from lab.results import Estimate


def digits(value: float | None) -> str:
    """Three significant digits, none of them made up: 0.42, 8.3, 152, 1,230."""
    return "-" if value is None else f"{float(f'{value:.3g}'):,.10g}"


def ms(value: float | None) -> str:
    return "-" if value is None else f"{digits(value)} ms"


def percent(value: float | None) -> str:
    return "-" if value is None else f"{digits(round(value, 2))} %"


def count(value: float | None) -> str:
    return "-" if value is None else f"{value:,.0f}"


def users(estimate: Estimate) -> str:
    """3,180 [3,050 to 3,310]; of a search that was cut short "at least 12,000"."""
    return _with_bounds(estimate, count)


def factor(estimate: Estimate | None) -> str:
    """x 1.42 [1.35 to 1.50]."""
    return "-" if estimate is None else _with_bounds(estimate, "{:,.2f}".format, "x ")


def _with_bounds(estimate: Estimate, form: Callable[[float], str], sign: str = "") -> str:
    mean = sign + form(estimate.mean)
    if estimate.at_least:
        return f"at least {mean}"
    if estimate.low is None or estimate.high is None:
        return mean
    return f"{mean} [{form(max(0, estimate.low))} to {form(estimate.high)}]"
