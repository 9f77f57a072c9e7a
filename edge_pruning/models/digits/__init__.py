"""A small vision transformer that ships with the library, in Hugging Face format: see README.md in this folder.

`AutoModelForImageClassification.from_pretrained(DIGITS)` and `AutoImageProcessor.from_pretrained(DIGITS)` load it
without a network.
"""

from pathlib import Path

DIGITS = Path(__file__).parent
