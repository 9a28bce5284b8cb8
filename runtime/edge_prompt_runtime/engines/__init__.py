"""The engines, which run a graph on the device. One folder per engine, imported when the engine is used."""

from edge_prompt.base.telemetry import refuse_telemetry

refuse_telemetry()  # before any engine is imported, whichever of its modules comes first
