"""The engines, which run a graph on the device. One folder per engine, imported when the engine is used."""
