"""A server used for long, and used up: whether what it holds comes back to where it was.

`python -m tests.soak` is ten minutes of mixed load; `python -m tests.soak --churn` ten thousand changes of
settings and fifty thousand connections, one after another.
"""
