"""Alerting: the rules of Prometheus, made from one table. `otel-genapp rules` writes them down.

`table.py` lists the groups, each in a module of its name; `promql.py` has what their expressions share.
"""
