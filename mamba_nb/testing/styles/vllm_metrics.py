"""`GET /metrics` as vLLM writes it: Prometheus text with what this server has counted.

In: the server. Out: text. Names, labels and types as recorded from vLLM 0.32.0 and, for the histograms that the
recording cuts off, as in vLLM's v1/metrics/loggers.py; the lines about Python and the process are left out.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING

from mamba_nb.testing.log import LoggedRequest
from mamba_nb.testing.styles.base import Reply

if TYPE_CHECKING:
    from mamba_nb.testing.server import ScriptedServer

# vLLM v1/metrics/loggers.py, the buckets of `vllm:time_to_first_token_seconds`, in seconds.
TTFT_BUCKETS = (
    *(0.001, 0.005, 0.01, 0.02, 0.04, 0.06, 0.08, 0.1, 0.25, 0.5, 0.75),
    *(1.0, 2.5, 5.0, 7.5, 10.0, 20.0, 40.0, 80.0, 160.0, 640.0, 2560.0),
)

_COUNTERS = {
    "vllm:estimated_flops_per_gpu": "Estimated number of floating point operations per GPU.",
    "vllm:estimated_read_bytes_per_gpu": "Estimated number of bytes read from memory per GPU.",
    "vllm:estimated_write_bytes_per_gpu": "Estimated number of bytes written to memory per GPU.",
    "vllm:prefix_cache_queries": "Prefix cache queries, in terms of number of queried tokens.",
    "vllm:prefix_cache_hits": "Prefix cache hits, in terms of number of cached tokens.",
    "vllm:external_prefix_cache_queries": "External prefix cache queries, in terms of number of queried tokens.",
    "vllm:external_prefix_cache_hits": "External prefix cache hits, in terms of number of cached tokens.",
    "vllm:mm_cache_queries": "Multi-modal cache queries, in terms of number of queried items.",
    "vllm:mm_cache_hits": "Multi-modal cache hits, in terms of number of cached items.",
    "vllm:num_preemptions": "Cumulative number of preemption from the engine.",
    "vllm:prompt_tokens": "Number of prefill tokens processed.",
    "vllm:generation_tokens": "Number of generation tokens processed.",
}


def metrics(server: ScriptedServer, request: LoggedRequest) -> Reply:
    """The text; with the option `metrics="old"` the names of vLLM before 0.10."""
    old = server.options.get("metrics") == "old"
    model = server.models[0] if server.models else "unknown"
    labels = f'engine="0",model_name="{model}"'
    waiting = max(0, sum(1 for chat in server.chats if chat.status is None) - server.room.busy)
    counted = {
        "vllm:prompt_tokens": server.state["prompt_tokens"],
        "vllm:generation_tokens": server.state["generation_tokens"],
        "vllm:prefix_cache_queries": server.state["prompt_tokens"],
    }
    cache = "vllm:gpu_cache_usage_perc" if old else "vllm:kv_cache_usage_perc"
    awake = {"awake": 1, "weights_offloaded": 0, "discard_all": 0}
    lines = [
        *_gauge(
            "vllm:num_requests_running", "Number of requests in model execution batches.", labels, server.room.busy
        ),
        *_gauge("vllm:num_requests_waiting", "Number of requests waiting to be processed.", labels, waiting),
        "# HELP vllm:num_requests_waiting_by_reason Number of waiting requests by reason.",
        "# TYPE vllm:num_requests_waiting_by_reason gauge",
        f'vllm:num_requests_waiting_by_reason{{{labels},reason="capacity"}} {float(waiting)}',
        f'vllm:num_requests_waiting_by_reason{{{labels},reason="deferred"}} 0.0',
        "# HELP vllm:engine_sleep_state Engine sleep state.",
        "# TYPE vllm:engine_sleep_state gauge",
        *(f'vllm:engine_sleep_state{{{labels},sleep_state="{n}"}} {float(on)}' for n, on in awake.items()),
        *_gauge(cache, "KV-cache usage. 1 means 100 percent usage.", labels, server.options.get("cache_usage", 0.0)),
    ]
    for name, words in _COUNTERS.items():
        lines += _counter(name, words, labels, counted.get(name, 0), server.created)
    waits = [chat.token_sent_at[0] - chat.received_at for chat in server.chats if chat.token_sent_at]
    lines += _histogram("vllm:time_to_first_token_seconds", "Histogram of time to first token.", labels, waits)
    text = "\n".join(lines) + "\n"
    return Reply(200, text.encode(), {"Content-Type": "text/plain; version=1.0.0; charset=utf-8"})


def _gauge(name: str, words: str, labels: str, value: float) -> Iterator[str]:
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} gauge"
    yield f"{name}{{{labels}}} {float(value)}"


def _counter(name: str, words: str, labels: str, value: float, created: float) -> Iterator[str]:
    yield f"# HELP {name}_total {words}"
    yield f"# TYPE {name}_total counter"
    yield f"{name}_total{{{labels}}} {float(value)}"
    yield from _gauge(f"{name}_created", words, labels, created)


def _histogram(name: str, words: str, labels: str, values: Iterable[float]) -> Iterator[str]:
    known = list(values)
    yield f"# HELP {name} {words}"
    yield f"# TYPE {name} histogram"
    for most in TTFT_BUCKETS:
        yield f'{name}_bucket{{{labels},le="{most}"}} {float(sum(1 for value in known if value <= most))}'
    yield f'{name}_bucket{{{labels},le="+Inf"}} {float(len(known))}'
    yield f"{name}_count{{{labels}}} {float(len(known))}"
    yield f"{name}_sum{{{labels}}} {sum(known)}"
