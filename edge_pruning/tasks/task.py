"""A task: pairs of prompts that differ in one fact, and how well a model's answers tell the two apart."""
