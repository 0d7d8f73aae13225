"""The four stages; each module has `run(context)`, the whole life of its worker."""
