"""The context really in force, and what happens past its end.

A prompt a little longer than the declared context shows what the server does: it refuses with numbers, it cuts in
silence, or it takes it all. A prompt that nearly fills the context shows that the rest is there: the server's count of
its tokens is that of the whole prompt, and a word from its beginning comes back. Where nothing is declared, prompts
are doubled until one fails.

The filler is one sentence again and again, so two short prompts tell how many tokens a long one will have;
servers that can count without answering are asked for that alone. Each prompt
begins differently: a server that answers from its cache may count only what was new.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from mamba_nb.errors import ContextOverflow
from mamba_nb.probes.asking import Asker
from mamba_nb.probes.capability import Capability, Shared
from mamba_nb.probes.findings import Finding
from mamba_nb.probes.judging import nothing_to_judge, quoted
from mamba_nb.probes.replies import Reply
from mamba_nb.servers.facts import Fact

__all__ = ["CAPABILITIES", "CONTEXT", "Measured", "Sized", "judge_context", "judge_overflow", "prompt_of"]

CONTEXT = Shared("context", 7, -1)
SENTENCE = "The road goes on over the hill and the sky is grey. "
WORDS = ("mango", "violin", "harbour", "copper", "lantern", "walnut", "saddle", "meadow", "anchor")
SHORT, LONGER = 4, 24  # sentences in the two prompts that are counted
FIRST_TOKENS = 2048  # of the prompts that are doubled where nothing is declared
NEARLY_FULL, PAST_END = 0.9, 1.15
LONGER_CUT = 1.5  # a second prompt that is cut, to see whether as much of it is read
WHOLE = 0.97  # of the tokens expected: the rest is rounding
ANSWER_TOKENS = 12
TOKENS_PER_CHARACTER = 0.25  # where the server counts nothing


@dataclass(frozen=True, slots=True)
class Sized:
    """One long prompt and what became of it.

    Attributes:
        expected: Tokens that it has.
        reply: What came back.
        word: The word at its beginning.
    """

    expected: int
    reply: Reply
    word: str

    @property
    def found(self) -> bool:
        """Whether the word from its beginning came back."""
        return self.word in self.reply.text.lower()

    @property
    def whole(self) -> bool | None:
        """Whether the server read all of it; None where neither count nor word tells."""
        if self.reply.error is not None:
            return False
        if self.reply.prompt_tokens:
            return self.reply.prompt_tokens >= WHOLE * self.expected
        return True if self.found else None

    @property
    def limit(self) -> int | None:
        """The context that the server named when it refused, or None."""
        error = self.reply.error
        limit = error.context if isinstance(error, ContextOverflow) else None
        return limit if isinstance(limit, int) and limit > 0 else None

    @property
    def refused(self) -> bool:
        """Whether the server refused it for its length."""
        return isinstance(self.reply.error, ContextOverflow)


@dataclass(slots=True)
class Measured:
    """What was seen of the context.

    Attributes:
        declared: The context in force by the server's own word, or None.
        most: Tokens of the longest prompt that was allowed.
        tried: The long prompts, in the order in which they were sent.
        failure: The reply that ended it before anything was seen, or None.
    """

    declared: int | None
    most: int
    tried: list[Sized] = field(default_factory=list)
    failure: Reply | None = None

    @property
    def limit(self) -> int | None:
        """The context that the server named."""
        return next((sized.limit for sized in self.tried if sized.limit), None)

    @property
    def refusal(self) -> Sized | None:
        """The shortest prompt that was refused for its length."""
        return min((sized for sized in self.tried if sized.refused), key=lambda sized: sized.expected, default=None)

    @property
    def longest(self) -> Sized | None:
        """The longest prompt that went in whole."""
        return max((sized for sized in self.tried if sized.whole), key=lambda sized: sized.expected, default=None)

    @property
    def cut(self) -> Sized | None:
        """The shortest prompt that was taken and not read whole."""
        taken = (sized for sized in self.tried if sized.reply.error is None and sized.whole is False)
        return min(taken, key=lambda sized: sized.expected, default=None)

    @property
    def clip(self) -> int | None:
        """The tokens that were read of every prompt that was cut, where prompts of two lengths agree on it."""
        taken = [sized for sized in self.tried if sized.reply.error is None and sized.whole is False]
        counts = {sized.reply.prompt_tokens for sized in taken}
        return counts.pop() if len(taken) > 1 and len(counts) == 1 else None

    @property
    def broken(self) -> Reply | None:
        """A failure that has nothing to do with length."""
        failed = (sized.reply for sized in self.tried if sized.reply.error is not None and not sized.refused)
        return self.failure or next(failed, None)


async def _measured(asker: Asker) -> Measured:
    if (kept := asker.kept.get(CONTEXT.name)) is not None:
        measured, evidence = kept
        asker.evidence += evidence
        return measured  # type: ignore[no-any-return]
    before = len(asker.evidence)
    fact = asker.said.get("context_window")
    measured = Measured(_declared_in(asker.said) if fact and fact.source == "declared" else None, asker.most_context)
    asker.kept[CONTEXT.name] = (measured, ())  # should it break off, it is not begun again
    await _measure(asker, measured)
    asker.kept[CONTEXT.name] = (measured, tuple(asker.evidence[before:]))
    return measured


async def _measure(asker: Asker, measured: Measured) -> None:
    counted = await _counted(asker, measured)
    if counted is None:
        return
    fixed, each = counted
    if measured.declared is None:  # some servers know it only now that the model is loaded
        measured.declared = _declared_in(await asker.backend.declare(again=True))

    async def send(tokens: int) -> Sized:
        sentences = max(1, round((tokens - fixed) / each))
        word = WORDS[len(measured.tried) % len(WORDS)]
        reply = await asker.generate(prompt_of(word, sentences), max_tokens=ANSWER_TOKENS)
        sized = Sized(round(fixed + sentences * each), reply, word)
        measured.tried.append(sized)
        return sized

    declared, most = measured.declared, measured.most
    if declared is not None and PAST_END * declared <= most:
        past = await send(round(PAST_END * declared) + ANSWER_TOKENS)
        if past.whole or measured.broken is not None:
            return
    elif declared is None:
        tokens = FIRST_TOKENS
        while tokens <= most and len(measured.tried) < CONTEXT.requests - 3:
            if not (await send(tokens)).whole:
                break
            tokens = 2 * tokens if 2 * tokens <= most or tokens == most else most
        if measured.broken is not None:
            return
        cut = measured.cut
        if cut is not None and round(LONGER_CUT * cut.expected) <= most:
            await send(round(LONGER_CUT * cut.expected))
    limit = measured.limit or declared
    nearly = min(round(NEARLY_FULL * limit) - ANSWER_TOKENS, most) if limit else 0
    longest = measured.longest
    if nearly > 0 and (longest is None or longest.expected < 0.9 * nearly):
        await send(nearly)


def _declared_in(facts: Mapping[str, Fact]) -> int | None:
    fact = facts.get("context_window")
    return fact.value if fact is not None and isinstance(fact.value, int) and fact.value > 0 else None


async def _counted(asker: Asker, measured: Measured) -> tuple[float, float] | None:
    """Tokens of a prompt without its sentences, and of each sentence; None where the server did not answer."""
    counts = []
    for word, sentences in ((WORDS[-1], SHORT), (WORDS[-2], LONGER)):
        prompt = prompt_of(word, sentences)
        count = await asker.count(prompt)
        if count is None:
            reply = await asker.generate(prompt, max_tokens=1)
            if reply.error is not None:
                measured.failure = reply
                return None
            count = reply.prompt_tokens
        counts.append(count)
    short, longer = counts
    if short and longer and longer > short:
        each = (longer - short) / (LONGER - SHORT)
        return short - SHORT * each, each
    return 30.0, TOKENS_PER_CHARACTER * len(SENTENCE)


def prompt_of(word: str, sentences: int) -> str:
    """A prompt of so many sentences with a word to be remembered at its beginning."""
    return f"The password is {word}. {SENTENCE * sentences}What is the password? Answer with one word."


async def _context(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_context(await _measured(asker))


async def _overflow(asker: Asker, _found: Mapping[str, Finding]) -> Finding:
    return judge_overflow(await _measured(asker))


def judge_context(seen: Measured) -> Finding:
    """How many tokens of context there really are."""
    limit, longest, cut, declared = seen.limit, seen.longest, seen.cut, seen.declared
    went_in = f"a prompt of {longest.expected:,} tokens went in whole{_needle(longest)}" if longest else ""
    if limit is not None:
        end = f"; {went_in}" if went_in else ""
        return Finding("yes", f"The server refuses more than {limit:,} tokens{end}.", value=limit, fact=limit)
    if cut is not None:
        kept = cut.reply.prompt_tokens
        read = (
            f", read {kept:,} of {cut.expected:,} tokens"
            if kept
            else f": of {cut.expected:,} tokens the first were lost"
        )
        if longest is not None and declared is not None and cut.expected > declared:
            why = f"{went_in.capitalize()}; past {declared:,} the server cut the prompt without a word{read}."
            return Finding("yes", why, value=declared, fact=declared)
        whole = f" {went_in.capitalize()}." if went_in else ""
        promised = f" It declares {declared:,}." if declared else ""
        why = f"The server cut the prompt without a word{read}.{whole}{promised}"
        if seen.clip is not None:
            return Finding("partly", why, value=seen.clip, fact=seen.clip)
        # What is read of one prompt that was cut need not be the whole context: some servers drop half of it.
        return Finding("partly", why, value=longest.expected if longest else None)
    if longest is not None and declared is not None and longest.expected > declared:
        return Finding("partly", f"It declares {declared:,} tokens, and {went_in}.", value=longest.expected)
    if longest is not None:
        more = f"declared are {declared:,}, and " if declared else ""
        why = f"{went_in.capitalize()}; {more}longer prompts were not tried (context_tokens={seen.most:,})."
        refusal = seen.refusal
        if refusal is not None:
            why = f"{went_in.capitalize()}; one of {refusal.expected:,} was refused."
        return Finding("partly", why, value=longest.expected)
    if seen.broken is not None and (nothing := nothing_to_judge(seen.broken)) is not None:
        return nothing
    return Finding("unknown", "The server counts no prompt tokens, and the word at the beginning did not come back.")


def judge_overflow(seen: Measured) -> Finding:
    """Whether the server says so when a prompt does not fit."""
    if (refusal := seen.refusal) is not None:
        numbers = ", with numbers" if refusal.limit else ""
        return Finding("yes", f"A prompt that is too long is refused{numbers}: {quoted(refusal.reply.says, 120)}.")
    if (cut := seen.cut) is not None:
        kept = cut.reply.prompt_tokens
        counted = f" {kept:,} of {cut.expected:,} tokens were read." if kept else ""
        empty = " The answer was empty." if not cut.reply.text else ""
        return Finding(
            "no",
            f"A prompt that is too long is cut in silence, its beginning lost.{counted}{empty}",
            value="silent cut",
        )
    if seen.broken is not None and (nothing := nothing_to_judge(seen.broken)) is not None:
        return nothing
    longest = seen.longest
    if longest is None:
        return Finding("unknown", "No prompt was seen to be too long.")
    return Finding(
        "unknown",
        f"No prompt was too long; the longest had {longest.expected:,} tokens (context_tokens={seen.most:,}).",
    )


def _needle(sized: Sized) -> str:
    return f", and the word {quoted(sized.word)} at its beginning came back" if sized.found else ""


CAPABILITIES = (
    Capability(
        name="context",
        title="context in force",
        group="context",
        ask=_context,
        requests=0,
        tokens=0,
        shared=CONTEXT,
        field="context_window",
    ),
    Capability(
        name="overflow",
        title="a prompt too long is refused",
        group="context",
        ask=_overflow,
        requests=0,
        tokens=0,
        shared=CONTEXT,
    ),
)
