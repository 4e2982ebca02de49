"""Metrics: the numbers that a process keeps of what it does, and the ways out for them.

    names        every metric that we export, pinned: name, unit, kind, attributes, meaning
    meters       the numbers of one process
    metering     the running part: samples what is read now and then, and serves or sends it all
    prometheus   the numbers as a Prometheus endpoint
    otlp         the numbers as OTLP, to a collector

With `MESH_METRICS=off` nothing of this is made, and nobody counts anything.
"""
