"""Prompts in the forms people write them."""

from __future__ import annotations

import base64
import io
from pathlib import Path

import pandas as pd
import pytest

from mamba_nb.backends._prompt import messages_from
from mamba_nb.errors import BadInput

PNG = base64.b64decode(
    "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg=="
)
PNG_URI = f"data:image/png;base64,{base64.b64encode(PNG).decode()}"
ADDRESS = "https://example.org/a.png"


def image_part(url: str, **more: str) -> dict:
    return {"type": "image_url", "image_url": {"url": url, **more}}


def user(*content: object) -> list[dict]:
    return [{"role": "user", "content": list(content)}]


def parts(*content: object) -> list:
    (message,) = messages_from(user(*content))
    return message["content"]


class TestText:
    def test_a_string_is_a_message_of_the_user(self):
        assert messages_from("Why?") == ({"role": "user", "content": "Why?"},)

    def test_a_system_message_comes_first(self):
        assert messages_from("Why?", "Be brief.") == (
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?"},
        )

    def test_an_empty_system_message_is_one(self):
        assert messages_from("Why?", "")[0] == {"role": "system", "content": ""}

    def test_a_conversation_stays_as_it_is(self):
        call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        conversation = [
            {"role": "system", "content": "Be brief."},
            {"role": "user", "content": "Why?", "name": "ann"},
            {"role": "assistant", "content": None, "tool_calls": [call]},
            {"role": "tool", "content": "42", "tool_call_id": "x"},
            {"role": "assistant", "content": "42."},
            {"role": "developer", "content": "Go on."},
        ]
        assert list(messages_from(conversation)) == conversation
        assert list(messages_from(tuple(conversation))) == conversation

    def test_one_message_alone_is_a_conversation(self):
        assert messages_from({"role": "user", "content": "Why?"}) == ({"role": "user", "content": "Why?"},)

    def test_messages_are_copies(self):
        call = {"id": "x", "type": "function", "function": {"name": "f", "arguments": "{}"}}
        given = [{"role": "assistant", "content": None, "tool_calls": [call]}]
        (taken,) = messages_from(given)
        call["id"] = "y"
        assert taken["tool_calls"][0]["id"] == "x"


class TestImages:
    def test_a_path_becomes_a_data_uri(self, tmp_path):
        path = tmp_path / "dot.png"
        path.write_bytes(PNG)
        assert parts("What?", path) == [{"type": "text", "text": "What?"}, image_part(PNG_URI)]

    @pytest.mark.parametrize("data", [PNG, bytearray(PNG)])
    def test_bytes_become_a_data_uri(self, data):
        assert parts(data) == [image_part(PNG_URI)]

    @pytest.mark.parametrize(
        ("begin", "kind"),
        [
            (b"\x89PNG\r\n\x1a\n", "image/png"),
            (b"\xff\xd8\xff\xe0", "image/jpeg"),
            (b"GIF89a", "image/gif"),
            (b"RIFF\n\x00\x00\x00WEBPVP8 ", "image/webp"),  # its length holds a line end
            (b"BM", "image/bmp"),
        ],
    )
    def test_the_kind_is_told_by_the_first_bytes(self, begin, kind):
        (part,) = parts(begin + bytes(20))
        assert part["image_url"]["url"].startswith(f"data:{kind};base64,")

    @pytest.mark.parametrize("url", [PNG_URI, ADDRESS, "http://example.org/a.png"])
    def test_addresses_and_data_uris_stay_as_they_are(self, url):
        assert parts(image_part(url)) == [image_part(url)]
        assert parts({"type": "image_url", "image_url": url}) == [image_part(url)]
        assert parts({"image_url": url}) == [image_part(url)]
        assert parts({"type": "image", "image": url}) == [image_part(url)]
        assert parts({"image": url}) == [image_part(url)]

    def test_the_detail_is_kept(self):
        assert parts(image_part(ADDRESS, detail="low")) == [image_part(ADDRESS, detail="low")]

    def test_a_part_may_hold_a_path_or_bytes(self, tmp_path):
        path = tmp_path / "dot.png"
        path.write_bytes(PNG)
        for image in (path, str(path), PNG):
            assert parts({"type": "image_url", "image_url": {"url": image, "detail": "high"}}) == [
                image_part(PNG_URI, detail="high")
            ]
            assert parts({"image": image}) == [image_part(PNG_URI)]

    def test_an_image_alone_may_be_the_content(self):
        assert messages_from([{"role": "user", "content": PNG}]) == (
            {"role": "user", "content": [image_part(PNG_URI)]},
        )

    def test_other_parts_of_openai_pass_through(self):
        audio = {"type": "input_audio", "input_audio": {"data": "AAAA", "format": "wav"}}
        assert parts({"type": "text", "text": "Hi"}, audio) == [{"type": "text", "text": "Hi"}, audio]


class TestRefused:
    @pytest.mark.parametrize("prompt", ["", "  \n", [], ()])
    def test_an_empty_prompt(self, prompt):
        with pytest.raises(BadInput, match="empty"):
            messages_from(prompt)

    @pytest.mark.parametrize(
        "prompt", [None, 7, 1.5, b"Why?", object(), {"Why?"}, pd.Series(["Why?"]), io.StringIO("a")]
    )
    def test_a_prompt_that_is_neither_text_nor_messages(self, prompt):
        with pytest.raises(BadInput, match=f"this is {type(prompt).__name__}"):
            messages_from(prompt)

    def test_several_prompts_are_told_where_they_belong(self):
        with pytest.raises(BadInput, match=r"compare\(models, prompts\)"):
            messages_from(["Why?", "How?"])

    @pytest.mark.parametrize("role", [None, "me", "System", 7])
    def test_an_unknown_role(self, role):
        with pytest.raises(BadInput, match="Message 1 has role"):
            messages_from([{"role": "user", "content": "Why?"}, {"role": role, "content": "Why?"}])

    @pytest.mark.parametrize("message", [{"role": "user"}, {"role": "user", "content": None}, {"role": "tool"}])
    def test_a_message_without_content(self, message):
        with pytest.raises(BadInput, match=r"Message 0, of role .*, has no content"):
            messages_from([message])

    @pytest.mark.parametrize("part", [7, None, object(), ["a"], {"text": "Hi"}, {}])
    def test_a_part_that_is_neither_text_nor_image(self, part):
        with pytest.raises(BadInput, match="neither text nor an image"):
            parts("What?", part)

    def test_a_file_that_is_not_there(self, tmp_path):
        with pytest.raises(BadInput, match=r"dot\.png cannot be read: No such file"):
            parts(tmp_path / "dot.png")

    @pytest.mark.parametrize("image", [b"", b"%PDF-1.7", b"<svg/>"])
    def test_bytes_that_are_no_image(self, image):
        with pytest.raises(BadInput, match="is no PNG"):
            parts(image)

    def test_a_file_that_is_no_image_is_named(self, tmp_path):
        path = tmp_path / "notes.txt"
        path.write_text("hello")
        with pytest.raises(BadInput, match=r"notes\.txt is no PNG"):
            parts(path)

    def test_an_image_of_another_type(self):
        with pytest.raises(BadInput, match="An image is a path, bytes or an address; this is int"):
            parts({"image": 7})

    @pytest.mark.parametrize("system", [7, ["Be brief."], b"Be brief."])
    def test_a_system_message_that_is_no_text(self, system):
        with pytest.raises(BadInput, match="system must be text"):
            messages_from("Why?", system)

    def test_a_member_that_is_not_json(self):
        with pytest.raises(BadInput, match="not JSON"):
            messages_from([{"role": "assistant", "content": "a", "tool_calls": [Path("x")]}])
