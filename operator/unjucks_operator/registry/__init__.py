"""TemplateRegistry: observe → plan → ingest (renderer, artifact store) → status."""
