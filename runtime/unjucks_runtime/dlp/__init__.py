"""Finding data in files that does not belong there: credentials, payment cards, personal numbers. Pure; no I/O."""
