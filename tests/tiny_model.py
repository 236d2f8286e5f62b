"""A random LLaMA of two layers as a GGUF file of half a megabyte: the real engine loads it in well under a second.

In goes a path, out comes the file. What the model says is noise, so tests assert shapes, counts and schemas,
never words. The vocabulary has the 256 byte tokens, so that it can read anything, and the printable ASCII
characters as ordinary tokens, which grammars and `json_schema` need. The chat template is ChatML.

Run as a program it writes the file named on the command line: `python tests/tiny_model.py OUT.gguf`.
"""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np

CONTEXT = 1024
WIDTH, HEADS, LAYERS, FEED_FORWARD = 64, 4, 2, 96

SPECIAL = [b"<unk>", b"<s>", b"</s>"]
BYTES = [f"<0x{number:02X}>".encode() for number in range(256)]
CHARACTERS = [chr(code).encode() for code in range(33, 127)] + [
    "\u2581".encode()
]  # the last one is SentencePiece's space
TOKENS = SPECIAL + BYTES + CHARACTERS

CHATML = (
    "{%- for message in messages %}"
    "{{- '<|im_start|>' + message.role + '\\n' + (message.content or '') + '<|im_end|>\\n' }}"
    "{%- endfor %}"
    "{%- if add_generation_prompt %}{{- '<|im_start|>assistant\\n' }}{%- endif %}"
)
TOOLS = (
    "{%- if tools %}{{- '<|im_start|>system\\n# Tools\\n<tools>' }}"
    "{%- for tool in tools %}{{- tool | tojson }}{%- endfor %}"
    '{{- \'</tools> Answer with <tool_call>\\n{"name": NAME, "arguments": OBJECT}\\n</tool_call><|im_end|>\\n\' }}'
    "{%- endif %}"
)


def write_tiny_model(path: Path, *, context: int = CONTEXT, tools: bool = False, seed: int = 0) -> Path:
    """Write the model to `path` and give the path back.

    `context` is the trained context it claims, in tokens; `tools` makes the template render tools.
    """
    writer = gguf.GGUFWriter(path, "llama")
    _add_shape(writer, context)
    _add_vocabulary(writer)
    writer.add_chat_template(TOOLS + CHATML if tools else CHATML)
    _add_tensors(writer, np.random.default_rng(seed))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _add_shape(writer: gguf.GGUFWriter, context: int) -> None:
    writer.add_name("tiny random")
    writer.add_context_length(context)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(LAYERS)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_rope_dimension_count(WIDTH // HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_vocab_size(len(TOKENS))
    writer.add_file_type(gguf.LlamaFileType.ALL_F32)


def _add_vocabulary(writer: gguf.GGUFWriter) -> None:
    kinds = (
        [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL]
        + [gguf.TokenType.BYTE] * len(BYTES)
        + [gguf.TokenType.NORMAL] * len(CHARACTERS)
    )
    writer.add_tokenizer_model("llama")
    writer.add_token_list(TOKENS)
    writer.add_token_scores([0.0] * len(TOKENS))
    writer.add_token_types(kinds)
    writer.add_unk_token_id(0)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    writer.add_add_bos_token(True)


def _add_tensors(writer: gguf.GGUFWriter, random: np.random.Generator) -> None:
    def weights(name: str, *shape: int) -> None:
        writer.add_tensor(f"{name}.weight", (random.standard_normal(shape) * 0.1).astype(np.float32))

    def ones(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(WIDTH, np.float32))

    weights("token_embd", len(TOKENS), WIDTH)
    weights("output", len(TOKENS), WIDTH)
    ones("output_norm")
    for layer in range(LAYERS):
        for part in ("attn_q", "attn_k", "attn_v", "attn_output"):
            weights(f"blk.{layer}.{part}", WIDTH, WIDTH)
        weights(f"blk.{layer}.ffn_gate", FEED_FORWARD, WIDTH)
        weights(f"blk.{layer}.ffn_up", FEED_FORWARD, WIDTH)
        weights(f"blk.{layer}.ffn_down", WIDTH, FEED_FORWARD)
        ones(f"blk.{layer}.attn_norm")
        ones(f"blk.{layer}.ffn_norm")


if __name__ == "__main__":
    print(write_tiny_model(Path(sys.argv[1])))
