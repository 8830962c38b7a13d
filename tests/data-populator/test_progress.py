"""What the populator shows while it loads."""

import io
import re

from populator import progress


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_a_terminal_gets_a_bar_with_rate_and_eta():
    out = Terminal()
    shown = progress.Progress(1000, out)
    shown.start(200)
    shown.add(300)
    shown.refresh()
    bar = out.getvalue().split("\r")[-1]
    assert re.search(r"\[#{15} {15}\]  50% 500/1,000 rows  [\d,]+ rows/s  ETA \d+ s", bar)
    shown.finish()
    assert "\r\033[K1000/1000" not in out.getvalue()
    assert "500/1000 records inserted\n" in out.getvalue()


def test_a_log_gets_plain_lines():
    out = io.StringIO()
    shown = progress.Progress(1000, out)
    shown.start(0)
    shown.add(1000)
    shown.refresh()
    shown.finish()
    assert out.getvalue().startswith("1000/1000 records inserted\n1,000 rows copied in ")
    assert "\r" not in out.getvalue()


def test_nothing_is_drawn_over_an_error():
    out = Terminal()
    shown = progress.Progress(1000, out)
    shown.start(0)
    shown.clear()
    shown.refresh()
    assert out.getvalue() == "\r\033[K"
