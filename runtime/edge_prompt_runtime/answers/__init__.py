"""Answers made from the network's outputs: classes, vectors, tags, spans, boxes, masks."""
