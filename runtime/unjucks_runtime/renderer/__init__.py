"""The renderer: the process in a tenant's namespace that runs template code, one fresh confined child for each task.

    server (TLS, HTTP)  ─ control socket ─►  zygote (imports everything, forks)  ─ fork ─►  child (confined, one task, exits)

The server owns the key and the clock; the child owns nothing. Started by ``python -m unjucks_runtime.renderer``.
"""
