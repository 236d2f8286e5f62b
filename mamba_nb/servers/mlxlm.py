"""mlx-lm's server: Apple silicon, models of the Hugging Face cache, loaded when they are asked for.

Source: mlx-lm's mlx_lm/server.py (APIHandler: do_GET, do_POST, handle_models_request, validate_model_parameters).
"""

from __future__ import annotations

from mamba_nb.servers.asking import Asking
from mamba_nb.servers.facts import ServedModel
from mamba_nb.servers.kinds import Kind, Sighting, kind_from_models
from mamba_nb.servers.members import listed

_SHAPE = {"id", "object", "created"}


async def recognise(asking: Asking) -> Sighting | None:
    """A guess: models of which nobody says whose they are, beside a `/health` that says no more than ok.

    An entry has `id`, `object` and `created` and nothing else. Python's own HTTP server, which mlx-lm stands on,
    names itself in a header; that is kept as evidence where it is seen.
    """
    answer = await asking.look("/v1/models")
    known = await listed(asking)
    if answer is None or not known or any(entry.keys() != _SHAPE for entry in known):
        return None
    if kind_from_models(None, answer.headers) is not None:
        return None
    if await asking.json("/health") != {"status": "ok"}:
        return None
    evidence = 'GET /v1/models has entries without owned_by, and GET /health is {"status": "ok"}'
    if answer.headers.get("server", "").startswith("BaseHTTP/"):
        evidence += ", from Python's own HTTP server"
    return Sighting(kind="mlxlm", certainty="guess", evidence=evidence)


async def models(asking: Asking) -> list[ServedModel]:
    """The models on its disk; which of them is loaded it does not say, nor anything else about them."""
    return [ServedModel(id=entry["id"]) for entry in await listed(asking)]


_LENGTH = "mlx-lm takes the context that the model was made for."

KIND = Kind(
    name="mlxlm",
    title="mlx-lm",
    default_url="http://localhost:8080/v1",
    start="Start it with `mlx_lm.server --model MODEL`",
    ports=(8080,),
    one_model_at_a_time=True,
    recognise=recognise,
    models=models,
    ignores={
        "response_format": "mlx-lm does not constrain answers: ask for JSON in the prompt.",
        "tool_choice": "mlx-lm lets the model decide: leave out the tools where none should be called.",
        "parallel_tool_calls": "mlx-lm lets the model decide.",
        "n": "mlx-lm always gives one answer: ask several times.",
        "presence_penalty": "Use `repetition_penalty` in `extra_body`.",
        "frequency_penalty": "Use `repetition_penalty` in `extra_body`.",
        "reasoning_effort": 'Use `chat_template_kwargs={"enable_thinking": False}` in `extra_body`.',
        "num_ctx": _LENGTH,
        "n_ctx": _LENGTH,
        "keep_alive": "mlx-lm keeps a model until another one is asked for.",
    },
    renames={"repeat_penalty": "repetition_penalty"},
)
