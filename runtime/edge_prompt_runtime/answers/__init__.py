"""What the network's outputs mean to a caller: classes, vectors, tags, spans, boxes, masks."""
