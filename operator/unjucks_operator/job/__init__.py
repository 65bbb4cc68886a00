"""GenerationJob: observe → plan → run (renderer, ledger, publication) → status."""
