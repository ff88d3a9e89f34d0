"""Names of what goes into a rewritten graph and comes out of it."""

from __future__ import annotations

TASKS_INPUT = "tasks"
HEADS = ("pos", "ner", "dep", "srl", "cls")
LABELS = "labels"
TASKS = (*HEADS, LABELS)
"""What the input ``tasks`` (bool [6]) switches, in its order: the heads, and relation scores between all pairs."""

LONGEST = 512
"""Subwords of a row up to which rewritten graphs are held to answering what their sources do."""

SCORES, DEPENDENT, HEAD, WEIGHT = "relation_scores", "relation_dependent", "relation_head", "relation_weight"
RELATIONS = (SCORES, DEPENDENT, HEAD)
"""What the tree's relations are read from, with the weight: see :mod:`kniv.server.graphs.relations`."""
