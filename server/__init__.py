"""The real Triton on this host: find it, assemble its backends, start, watch and stop it.

`server.supervisor.Server` is the way in; `server.foreground.serve` is the same in the foreground. Nothing is imported
here: the stubs, one process a model, import `server.backends` and must start fast.
"""
