"""`vpipe tune`: finds the settings with which a pipeline is fastest on this machine, without changing its results.

`knobs` says what may be turned, `trial` runs a pipeline once and judges it, `search` decides what to try next.
"""
