"""The admission process: checks objects of our kinds before they are stored, and asks for a second factor before data may go.

    API server ──► /validate   says everything that is wrong with an object at once              (down: the change goes through)
               ──► /approve    takes the code out of the object, uses it up, seals a record       (down: refused)
               ──► /verify     lets a destructive change through only with such a record          (down: refused)

No state of its own: approvers, used codes and failed tries are in one Secret, written with optimistic concurrency, so replicas need
not know each other. Isolation does not need this process: the operator repeats every check, and looks for the sealed records
before it destroys anything. Knows the API (``unjucks_api``) and the runtime's checks of templates, never the operator.
"""
