"""Exact rewrites of a component's graph, one module each, and the lists of them per target."""
