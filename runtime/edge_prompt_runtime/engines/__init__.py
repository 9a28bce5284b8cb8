"""The engines: what runs a graph on the device. One folder per engine, imported when it is asked for."""
