"""What a download on a server reports while it goes on."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["PullProgress"]


@dataclass(frozen=True, slots=True, kw_only=True)
class PullProgress:
    """How far a download is.

    Attributes:
        model: The model's name as asked for.
        status: The server's own words (`pulling manifest`, `verifying sha256 digest`, `success`).
        completed_bytes: What has come so far, over all parts; None where it does not say.
        total_bytes: What there is to come, as far as known by now; None where it does not say.
    """

    model: str
    status: str
    completed_bytes: int | None = None
    total_bytes: int | None = None

    @property
    def fraction(self) -> float | None:
        """From 0 to 1; None where the size is not known."""
        if not self.total_bytes or self.completed_bytes is None:
            return None
        return min(1.0, self.completed_bytes / self.total_bytes)
