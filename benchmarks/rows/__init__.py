"""The rows of ``benchmarks/goals.py``: what is measured together is an experiment."""
