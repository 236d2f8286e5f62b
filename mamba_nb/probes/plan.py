"""What a probe is going to do, and what it will cost: capabilities and what is known in, a `ProbePlan` out."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from mamba_nb.probes.capability import Capability
from mamba_nb.probes.context import ANSWER_TOKENS, FIRST_TOKENS, NEARLY_FULL, PAST_END
from mamba_nb.probes.findings import ProbeResult

__all__ = ["ProbePlan", "plan_of"]

SPARE_REQUESTS = 4  # for a parameter that a server wants under another name, and for models that reason first
SHORT_PROMPTS = 600  # tokens of the two short prompts by which long ones are measured


@dataclass(frozen=True, slots=True, kw_only=True)
class ProbePlan:
    """What will be asked.

    Attributes:
        model: The model.
        server: The kind of server, or `unknown`.
        base_url: Its address.
        capabilities: Names of what will be asked, in that order.
        cached: What is known already and will not be asked again, with its results.
        requests: The most requests that will be sent; attempts repeated after a 429 or 503 are not counted.
        tokens: Tokens that those take, prompts and answers together, about; 0 where nothing is asked.
        longest_prompt: Tokens of the longest prompt, about.
    """

    model: str
    server: str
    base_url: str
    capabilities: tuple[str, ...]
    cached: Mapping[str, ProbeResult]
    requests: int
    tokens: int
    longest_prompt: int

    def __repr__(self) -> str:
        if not self.capabilities:
            return f"<ProbePlan {self.model} · {self.server} · nothing to ask · {len(self.cached)} known>"
        parts = [
            self.model,
            self.server,
            _counted(len(self.capabilities)),
            f"at most {self.requests} requests",
            f"about {self.tokens:,} tokens",
            f"longest prompt {self.longest_prompt:,}",
        ]
        if self.cached:
            parts.append(f"{len(self.cached)} known")
        return f"<ProbePlan {' · '.join(parts)}>"

    def __str__(self) -> str:
        if not self.capabilities:
            return (
                f"Nothing to ask of {self.model}: all {len(self.cached)} capabilities are known. again=True asks anew."
            )
        known = f" {len(self.cached)} more are known already." if self.cached else ""
        return (
            f"Probing {self.model} ({self.server}): {_counted(len(self.capabilities))}, at most {self.requests} "
            f"requests, about {self.tokens:,} tokens, the longest prompt {self.longest_prompt:,}.{known}"
        )


def plan_of(
    capabilities: Sequence[Capability],
    *,
    model: str,
    server: str,
    base_url: str,
    cached: Mapping[str, ProbeResult],
    context: int | None,
    most_context: int,
) -> ProbePlan:
    """The plan for what was chosen.

    Args:
        capabilities: What is meant, cached or not.
        model: The model.
        server: The kind of server.
        base_url: Its address.
        cached: Results that stand.
        context: The context in force that the server declares, or None.
        most_context: Tokens of the longest prompt allowed.
    """
    asked = [each for each in capabilities if each.name not in cached]
    shared = {each.shared for each in asked if each.shared is not None}
    long = _long_prompts(context, most_context) if any(each.tokens < 0 for each in shared) else []
    requests = sum(each.requests for each in asked) + sum(each.requests for each in shared)
    tokens = sum(each.tokens for each in asked) + sum(max(each.tokens, 0) for each in shared) + sum(long)
    return ProbePlan(
        model=model,
        server=server,
        base_url=base_url,
        capabilities=tuple(each.name for each in asked),
        cached={each.name: cached[each.name] for each in capabilities if each.name in cached},
        requests=requests + SPARE_REQUESTS if asked else 0,
        tokens=_rounded(tokens + (SHORT_PROMPTS if long else 0)),
        longest_prompt=_rounded(max([*long, max((each.tokens // 2 for each in asked), default=0)])),
    )


def _long_prompts(context: int | None, most: int) -> list[int]:
    """Tokens of the long prompts, by what `context` does."""
    if context is None:
        doubled = [FIRST_TOKENS]
        while doubled[-1] * 2 <= most:
            doubled.append(doubled[-1] * 2)
        return [min(tokens, most) for tokens in doubled]
    past = round(PAST_END * context)
    nearly = min(round(NEARLY_FULL * context) + ANSWER_TOKENS, most)
    return [past, nearly] if past <= most else [nearly]


def _counted(capabilities: int) -> str:
    return f"{capabilities} capabilit{'y' if capabilities == 1 else 'ies'}"


def _rounded(tokens: int) -> int:
    """To two digits: these are estimates."""
    digits = max(0, len(str(tokens)) - 2)
    return round(tokens, -digits)
