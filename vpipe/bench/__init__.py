"""How fast vpipe is on this machine, against the machine's own limit and against the plain way.

Machines are shared and noisy: whatever is compared is measured in one run, in turns, and medians are shown.
"""
