"""Experiments: plan, run, judge and report them."""
