"""Models for the scripted server that can all that a probe asks for, and ones that lack something.

`able` answers a logged request as a good model on a good server would; the others change one thing of it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from typing import Any

from mamba_nb.probes.picture import picture
from mamba_nb.probes.vision import PICTURES
from mamba_nb.testing import Script

COUNT = ", ".join(str(number) for number in range(1, 21))
SEEN = {picture(colour, shape): name for name, colour, shape in PICTURES}


def user_text(body: dict[str, Any]) -> str:
    content = body["messages"][-1]["content"]
    return content if isinstance(content, str) else " ".join(part.get("text", "") for part in content)


def able(request: Any) -> Script:
    """What a good model on a good server answers."""
    body = request.body
    for answer in (_image, _tools, _json, _system, _password):
        if (script := answer(body)) is not None:
            return script
    text = user_text(body)
    if "story" in text or "animals" in text:
        return Script(text=" ".join(f"word{i}" for i in range(200)))
    if "sea" in text:
        return Script(text=f"The sea is wide, says number {body.get('seed')}.")
    if text.startswith("Count"):
        stops = body.get("stop") or []
        return Script(text=min((COUNT.partition(stop)[0] for stop in stops), key=len, default=COUNT))
    return Script(text="51." if "17" in text else "OK.")


def _image(body: dict[str, Any]) -> Script | None:
    content = body["messages"][-1]["content"]
    parts = content if isinstance(content, list) else []
    for part in parts:
        if part["type"] == "image_url":
            return Script(text=SEEN[part["image_url"]["url"]].capitalize(), prompt_tokens=300)
    return None


def _tools(body: dict[str, Any]) -> Script | None:
    if not body.get("tools"):
        return None
    choice = body.get("tool_choice", "auto")
    if isinstance(choice, dict):
        return call(choice["function"]["name"], city="Paris")
    if "weather" in user_text(body):
        cities = [city for city in ("Paris", "Tokyo") if city in user_text(body)]
        return calls(*({"name": "get_weather", "arguments": {"city": city}} for city in cities))
    return call("get_local_time", city="Oslo") if choice == "required" else None


def _json(body: dict[str, Any]) -> Script | None:
    kind = (body.get("response_format") or {}).get("type")
    value = {"json_schema": {"colour": "red", "amount": 3}, "json_object": {"name": "Tom", "age": 7}}.get(kind)
    return Script(text=json.dumps(value)) if value is not None else None


def _system(body: dict[str, Any]) -> Script | None:
    first = body["messages"][0]
    return Script(text="BANANA") if first["role"] == "system" and "BANANA" in first["content"] else None


def _password(body: dict[str, Any]) -> Script | None:
    found = re.match(r"The password is (\w+)\.", user_text(body))
    return Script(text=found[1]) if found else None


def call(name: str, **arguments: Any) -> Script:
    return calls({"name": name, "arguments": arguments})


def calls(*made: dict[str, Any]) -> Script:
    return Script(text="", tool_calls=made)


def but(**instead: Callable[[dict[str, Any]], Script | None] | Script) -> Callable[[Any], Script]:
    """`able`, but requests with this member in their body are answered otherwise; `prompt` means every request.

    A function gets the body and may give None, which leaves the request to `able`.
    """

    def answer(request: Any) -> Script:
        for member, script in instead.items():
            if member == "prompt" or request.body.get(member):
                found = script(request.body) if callable(script) else script
                if found is not None:
                    return found
        return able(request)

    return answer


def refusal(status: int, message: str, **more: Any) -> Script:
    return Script(status=status, error_body={"error": {"message": message, "code": status, **more}})
