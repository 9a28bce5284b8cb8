"""Stop strings, found across pieces of text."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a text at the first stop string that is complete, wherever pieces of the text begin and end.

    Of several that end at the same place the longest counts. Text that may be the beginning of a stop string waits.

    Args:
        stops: The stop strings, none of them empty.

    Attributes:
        found: The stop string that was found; None while none was.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """The text that is certain with `piece`; nothing more once a stop string was found."""
        if self.found is not None:
            return ""
        text = self._held + piece
        places = [(place + len(stop), place, stop) for stop in self._stops if (place := text.find(stop)) >= 0]
        if places:
            _end, place, self.found = min(places)
            self._held = ""
            return text[:place]
        certain = len(text) - self._undecided(text)
        self._held = text[certain:]
        return text[:certain]

    def flush(self) -> str:
        """What waited, now that nothing follows."""
        text, self._held = self._held, ""
        return text

    def _undecided(self, text: str) -> int:
        """How many characters at the end of `text` may begin a stop string."""
        for count in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-count:]
            if any(stop.startswith(end) for stop in self._stops):
                return count
        return 0
