"""Stop strings, found across pieces of text."""

from __future__ import annotations

from collections.abc import Sequence


class StopStrings:
    """Cuts a text at the first complete stop string, wherever the boundaries between pieces are.

    If several stop strings end at the same position, the longest counts. Text that may begin a stop string is held
    back.

    Args:
        stops: The stop strings, none of them empty.

    Attributes:
        found: The stop string that was found; None so far.
    """

    def __init__(self, stops: Sequence[str]) -> None:
        self._stops = tuple(stops)
        self._longest = max(map(len, self._stops), default=0)
        self._held = ""
        self.found: str | None = None

    def push(self, piece: str) -> str:
        """Add `piece` and return the text that can be released; empty once a stop string was found."""
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
        """Return the text that was held back, because no more text follows."""
        text, self._held = self._held, ""
        return text

    def _undecided(self, text: str) -> int:
        """How many characters at the end of `text` may begin a stop string."""
        for count in range(min(self._longest - 1, len(text)), 0, -1):
            end = text[-count:]
            if any(stop.startswith(end) for stop in self._stops):
                return count
        return 0
