"""What the reference says that the code does not say of itself; `tests/test_docs_reference.py` holds it complete."""

from __future__ import annotations

TITLE = """\
# Reference

To look things up. This page is written by `python .ci/reference.py` from the code itself; the other notebooks are for
reading."""

SOURCES = """\
`AgentSettings(model_backend={...}, embedded={...})`. Each option is looked up on its own, and the first place that has
it wins: the constructor, the environment, `.env` in the working folder, the TOML file that `MAMBA_CONFIG` names (tables
`[model_backend]` and `[embedded]`), the default. `AgentSettings().explain()` shows every value and its source.
Below each option stands its name in the environment and in `.env`."""

# Variables that the package reads besides those of the settings, and the keys of the servers' makers.
VARIABLES = {
    "MAMBA_CONFIG": "The TOML file with settings.",
    "MAMBA_PROBE_CACHE": "The folder for what probes found; else `probes` in the user's cache folder.",
    "OLLAMA_HOST": "Where `find_servers()` and `doctor()` look besides, in Ollama's own form.",
    "OPENAI_API_KEY": "Sent to OpenAI's own hosts, and to no other.",
    "OPENAI_BASE_URL": "Where `find_servers()` and `doctor()` look besides.",
}

# What to do about an error, where its message is not yet at hand; empty where its first line says so.
REMEDIES = {
    "AgentError": "`.partial` has the steps so far; try a larger model, or `retries=3`.",
    "AuthenticationFailed": "Pass `api_key=`, or set `MAMBA_MODEL_BACKEND__API_KEY`.",
    "BackendClosed": "Make another backend.",
    "BadInput": "The message names the argument and what it takes.",
    "ContextOverflow": "Shorten the prompt, or start the server with a larger context.",
    "EndpointNotFound": "The address of most servers ends in `/v1`.",
    "EngineError": "The message has the engine's last words.",
    "MambaError": "Catch it to catch all of them.",
    "MissingExtra": "",
    "ModelNotFound": "`.served` lists what there is.",
    "NotHere": "The message names the servers that can.",
    "ProxyInTheWay": "Set `NO_PROXY` for that host.",
    "RateLimited": "Wait `.retry_after_s` seconds.",
    "RequestRejected": "Often it is a parameter that this server does not take.",
    "RunStopped": "What was finished is in `.partial`.",
    "ServerError": "`.status` is the HTTP status, `.partial` what had come by then.",
    "ServerFailed": "Look at the server's log.",
    "ServerTimeout": "Give a larger `timeout=`; a long prompt on a CPU takes minutes.",
    "ServerUnreachable": "Start the server, or see what runs: `doctor()`.",
    "SettingsError": "",
    "StreamInterrupted": "Ask again; the server may have been stopped.",
    "ToolsNotSupported": 'Choose one of the models that the message names, or `tools_mode="prompted"`.',
    "WeightsMissing": "Call `create_embedded_backend()` once, which fetches them.",
    "WrongLoop": "The message says what to write instead, usually with `await`.",
}
