"""The public API of Unjucks Operator: the models of its custom resources, and every name, reason and rule they share.

Imports nothing else of the project; every other package may import it. Pure: no I/O, no clock.
"""
