"""A small language model that ships with the library, in Hugging Face format: see README.md in this folder.

`AutoModelForCausalLM.from_pretrained(BUNDLED)` and `AutoTokenizer.from_pretrained(BUNDLED)` load it without a network.
"""

from pathlib import Path

BUNDLED = Path(__file__).parent
