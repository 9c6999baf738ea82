"""The experiment file: its models, the TOML edge, and what each backend makes of it."""
