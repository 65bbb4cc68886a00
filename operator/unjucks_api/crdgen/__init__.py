"""The CRD generator: pydantic models in, ``crds/*.yaml``, the chart's copies and ``docs/reference/api.md`` out.

    model ─► schema.structural_schema ─► crd.build_crd ─► lint.check_crd ─► crd.render_yaml / chart_template, reference.render

Everything but ``__main__`` is pure: the same models give the same bytes. Called by ``unjucks-crdgen`` and by the drift test.
"""
