"""Three replicas, one PostgreSQL, one Redis, clients on all of them, and everything that can go wrong.

`oracle` knows what must be true, `town` runs the servers, `people` write and watch, `faults` break things,
`chaos` puts them together. `make test` runs a short form; `make chaos` a long one.
"""
