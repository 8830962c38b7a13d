"""Experiments: plan, run, judge and report them; `python -m lab`."""
