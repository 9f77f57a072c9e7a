"""Train the model that ships with the library: one command, no network, about ten minutes on two quiet CPU cores.

    python scripts/train_bundled_model.py

Writes the text of a small world (`corpus.py`), a word-level tokenizer for it, and trains a GPT-2 of 0.9 million
parameters on it; then measures it on the test splits of the tasks and writes the folder that the library ships, model
card included. The same seed gives the same data and, on one machine with the same number of threads, the same weights.
"""

from __future__ import annotations

import argparse
import json
import logging
import math
import shutil
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass
from pathlib import Path

import corpus
import torch
from exchanged_folder import exchanged
from tokenizers import Regex, Tokenizer, decoders, pre_tokenizers
from tokenizers.models import WordLevel
from torch import Tensor
from torch.nn.functional import cross_entropy
from transformers import AutoModelForCausalLM, AutoTokenizer, GPT2Config, GPT2LMHeadModel, PreTrainedTokenizerFast

from edge_pruning.batch import Batch
from edge_pruning.models.bundled import BUNDLED
from edge_pruning.tasks import PairSet, get_task

END, UNKNOWN = "<|endoftext|>", "<|unknown|>"
# A word with the space before it, so that " Mary" is one token; two digits, so that " 1732" is " 17" and "32".
WORD = r" ?[A-Za-z]+| ?[0-9]{2}|[^A-Za-z0-9]"
TASKS = ("ioi", "ioi-t1", "greater-than", "gendered-pronoun")


@dataclass(frozen=True)
class Settings:
    seed: int = 0
    steps: int = 3000
    rows_per_step: int = 64
    parts: int = 2  # a step's rows, sorted by length, run in parts: less filling to compute, and a thread for each
    learning_rate: float = 2e-3
    warm_up: int = 200
    weight_decay: float = 0.1
    layers: int = 4
    heads: int = 8
    width: int = 128
    context: int = 64


# --- tokenizer -----------------------------------------------------------------------------------------------------


def build_tokenizer() -> PreTrainedTokenizerFast:
    """Every word of the world is one token; what is not in it becomes the unknown token."""
    splitter = pre_tokenizers.Split(Regex(WORD), behavior="isolated")
    words = sorted({word for text in corpus.vocabulary() for word, _ in splitter.pre_tokenize_str(text)})
    inner = Tokenizer(WordLevel({word: i for i, word in enumerate([END, UNKNOWN, *words])}, unk_token=UNKNOWN))
    inner.pre_tokenizer = splitter
    inner.decoder = decoders.Fuse()  # words carry their own spaces
    return PreTrainedTokenizerFast(
        tokenizer_object=inner, unk_token=UNKNOWN, eos_token=END, bos_token=END, clean_up_tokenization_spaces=False
    )


# --- data ----------------------------------------------------------------------------------------------------------


def batches(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> Iterator[list[Tensor]]:
    """Per step a list of token matrices [row, position], filled with -1 on the right.

    No end of text follows a row. Sentences with held-out names mostly end their row, so the model would learn to stop
    after such a name instead of going on with She or He.
    """
    stream = corpus.rows(settings.seed)
    while True:
        texts = [next(stream) for _ in range(settings.rows_per_step)]
        rows: list[list[int]] = tokenizer(texts).input_ids
        if any(tokenizer.unk_token_id in ids for ids in rows):
            raise ValueError(f"the vocabulary lacks a word of: {[t for t in texts if not _known(t, tokenizer)][:3]}")
        rows.sort(key=len)
        size = math.ceil(len(rows) / settings.parts)
        yield [_filled(rows[i : i + size]) for i in range(0, len(rows), size)]


def _known(text: str, tokenizer: PreTrainedTokenizerFast) -> bool:
    return tokenizer.unk_token_id not in tokenizer(text).input_ids


def _filled(rows: list[list[int]]) -> Tensor:
    width = max(map(len, rows))
    return torch.tensor([ids + [-1] * (width - len(ids)) for ids in rows])


# --- training ------------------------------------------------------------------------------------------------------


def build_model(tokenizer: PreTrainedTokenizerFast, settings: Settings) -> GPT2LMHeadModel:
    config = GPT2Config(
        vocab_size=len(tokenizer),
        n_positions=settings.context,
        n_embd=settings.width,
        n_layer=settings.layers,
        n_head=settings.heads,
        resid_pdrop=0.0,
        embd_pdrop=0.0,
        attn_pdrop=0.0,
        bos_token_id=tokenizer.bos_token_id,
        eos_token_id=tokenizer.eos_token_id,
    )
    return GPT2LMHeadModel(config)


def schedule(step: int, settings: Settings) -> float:
    """Linear warm-up, then half a cosine down to zero; a factor on the learning rate."""
    if step < settings.warm_up:
        return (step + 1) / settings.warm_up
    return 0.5 * (1 + math.cos(math.pi * (step - settings.warm_up) / (settings.steps - settings.warm_up)))


def loss_of(model: GPT2LMHeadModel, ids: Tensor) -> Tensor:
    """Summed cross-entropy of every next token, in nats. Causal attention never looks at the filling on the right."""
    logits = model(ids.clamp(min=0)[:, :-1]).logits  # [row, position, vocabulary]
    return cross_entropy(logits.flatten(0, 1), ids[:, 1:].flatten(), ignore_index=-1, reduction="sum")


def train(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, settings: Settings) -> None:
    parameters = list(model.parameters())
    matrices, vectors = [p for p in parameters if p.dim() > 1], [p for p in parameters if p.dim() == 1]
    groups = [{"params": matrices, "weight_decay": settings.weight_decay}, {"params": vectors, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=settings.learning_rate, betas=(0.9, 0.98), fused=True)
    scheduler = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule(step, settings))
    stream, start = batches(tokenizer, settings), time.monotonic()
    watched = {name: get_task(name, validation=100).pairs(tokenizer, "validation") for name in TASKS}
    with ThreadPoolExecutor(settings.parts) as threads:
        for step in range(1, settings.steps + 1):
            parts = next(stream)
            results = list(threads.map(lambda ids: gradients(model, parameters, ids), parts))
            tokens = sum(int((ids[:, 1:] >= 0).sum()) for ids in parts)
            for parameter, *grads in zip(parameters, *(grads for _, grads in results), strict=True):
                parameter.grad = sum(grads[1:], grads[0]) / tokens
            torch.nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            scheduler.step()
            if step % 100 == 0 or step == settings.steps:
                loss = sum(loss for loss, _ in results) / tokens
                logging.info("step %5d  loss %.3f  %s  %4.0f s", step, loss, progress(model, watched), _since(start))


def gradients(model: GPT2LMHeadModel, parameters: list[torch.nn.Parameter], ids: Tensor) -> tuple[float, list[Tensor]]:
    loss = loss_of(model, ids)
    return loss.item(), list(torch.autograd.grad(loss, parameters))


def progress(model: GPT2LMHeadModel, watched: dict[str, PairSet]) -> str:
    results = {name: measure(model, pairs) for name, pairs in watched.items()}
    return "  ".join(f"{name} {r.accuracy:.2f} {r.top1:.2f} ({r.difference:+.2f})" for name, r in results.items())


def _since(start: float) -> float:
    return time.monotonic() - start


# --- evaluation ----------------------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Measured:
    """`accuracy`: right beats wrong; `top1`: the most likely token is right; `difference`: the task's metric, mean;
    `kl`: of the corrupted run from the clean run at the answer, in nats, mean."""

    pairs: int
    accuracy: float
    top1: float
    difference: float
    kl: float


@torch.no_grad()
def measure(model: GPT2LMHeadModel, data: PairSet) -> Measured:
    """How well a model does on pairs that are each compared at one position, as those of the built-in tasks are."""
    parts = [Batch.of(data.pairs[i : i + 50]) for i in range(0, len(data.pairs), 50)]
    logp = torch.cat([_answer_logits(model, part.clean, part.positions) for part in parts]).log_softmax(-1)
    other = torch.cat([_answer_logits(model, part.corrupted, part.positions) for part in parts]).log_softmax(-1)
    right, wrong = [list(pair.answers[0]) for pair in data.pairs], [list(pair.wrong[0]) for pair in data.pairs]
    # For single answers this orders pairs as the logit difference does; the mass decides where answers are sets.
    mass = [(row[r].logsumexp(0), row[w].logsumexp(0)) for row, r, w in zip(logp, right, wrong, strict=True)]
    log_right, log_wrong = (torch.stack(side) for side in zip(*mass, strict=True))
    by_probability = data.metric == "probability_difference"
    difference = log_right.exp() - log_wrong.exp() if by_probability else log_right - log_wrong
    return Measured(
        pairs=len(data.pairs),
        accuracy=(log_right > log_wrong).float().mean().item(),
        top1=sum(int(row.argmax()) in r for row, r in zip(logp, right, strict=True)) / len(right),
        difference=difference.mean().item(),
        kl=(logp.exp() * (logp - other)).sum(-1).mean().item(),
    )


def _answer_logits(model: GPT2LMHeadModel, ids: Tensor, rows: Tensor) -> Tensor:
    logits: Tensor = model(ids).logits
    return logits.flatten(0, 1)[rows]  # [row, vocabulary]


# --- the folder ----------------------------------------------------------------------------------------------------


def save(model: GPT2LMHeadModel, tokenizer: PreTrainedTokenizerFast, settings: Settings, target: Path) -> None:
    with exchanged(target) as staging:
        model.half().save_pretrained(staging)
        tokenizer.save_pretrained(staging)
        (staging / "generation_config.json").unlink(missing_ok=True)
        shutil.copy(BUNDLED / "__init__.py", staging)
        saved = AutoModelForCausalLM.from_pretrained(staging, dtype=torch.float32).eval()
        loaded = AutoTokenizer.from_pretrained(staging)
        results = {name: measure(saved, get_task(name).pairs(loaded, "test")) for name in TASKS}
        (staging / "README.md").write_text(card(saved, settings, results), encoding="utf-8")
        for name, result in results.items():
            logging.info("%s: %s", name, json.dumps(asdict(result)))


CARD = """---
license: apache-2.0
---

# The bundled model

A GPT-2 of {parameters:,} parameters: {layers} layers of {heads} heads, width {width}, context {context}, {words:,}
words; {megabytes:.1f} MB. It speaks a small world of made-up sentences, and solves the library's built-in tasks on
names, nouns and years that it has not met in such sentences. So examples and tests have a real circuit to find,
without a download. It knows nothing else: use it for nothing but trying circuit discovery.

## Measured on the test splits (float32, after saving in float16)

| task | pairs | accuracy | top-1 | metric | KL |
|---|---|---|---|---|---|
{table}

- accuracy: the right answer (or all right answers together) is more probable than the wrong one
- top-1: the most probable token is a right one
- metric: mean logit difference; for greater-than mean probability difference
- KL: of the corrupted run from the clean run at the answer, mean, in nats

## Data

Written by the grammar in `scripts/corpus.py` from the project's own word lists and templates: {rows:,} rows of one or a
few sentences, each drawn anew: {shares}.

What the tasks hold out:

- `ioi`, `ioi-t1`: names of the validation and test splits occur in none of their sentences. They do occur in the
  exchanges, which practise the same skill in other words ("We know Mary and Ken. Ken wrote to Mary."; none of the verbs
  of `ioi`), in plain sentences and in lists. So what is held out is the name in the task's wordings, not the name, and
  not the skill. The wordings themselves are not held out: the task has the same ones in every split;
- `gendered-pronoun`: names of the validation and test splits never come before a sentence that begins with She or He;
  their gender shows elsewhere ("Ken saw himself in the blue water."). The validation and test templates do not occur;
- `greater-than`: nouns and start years (the combination of century and year) of the validation and test splits occur in
  none of its sentences.

The held-out names are drawn more often where they may occur, so that every name is heard about equally often.
`tests/tasks/test_corpus.py` checks all this on the text itself. Where the top-1 answer to `gendered-pronoun` is wrong,
it is nearly always the beginning of a sentence about something else (The ..., Everyone ...), not the other pronoun:
after a sentence about a held-out name, the model has read other beginnings but never She or He.

## Training

    python scripts/train_bundled_model.py

Seed {seed}; {steps:,} steps of {rows_per_step} rows; AdamW, learning rate {learning_rate} with warm-up and cosine
decay, weight decay {weight_decay}; {parts} threads. Loss on every token but the first of a row; rows are never joined,
and no end is learned: the model writes on until it is stopped.

Licence: Apache-2.0, like the library.
"""


def card(model: GPT2LMHeadModel, settings: Settings, results: dict[str, Measured]) -> str:
    rows = (
        f"| `{name}` | {r.pairs} | {r.accuracy:.1%} | {r.top1:.1%} | {r.difference:.2f} | {r.kl:.2f} |"
        for name, r in results.items()
    )
    return CARD.format(
        **asdict(settings),
        parameters=model.num_parameters(),
        megabytes=2 * model.num_parameters() / 1e6,
        words=model.config.vocab_size,
        table="\n".join(rows),
        rows=settings.steps * settings.rows_per_step,
        shares=", ".join(f"{share:.0%} {kind.replace('_', '-')}" for kind, share in corpus.KINDS.items()),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=BUNDLED, help="folder to write (replaced as a whole)")
    for name in ("seed", "steps", "layers"):
        parser.add_argument(f"--{name}", type=int, default=getattr(Settings, name))
    arguments = vars(parser.parse_args())
    target = arguments.pop("out")
    settings = Settings(**arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    torch.set_num_threads(1)  # the parts of a step run side by side instead: results do not depend on the cores
    torch.manual_seed(settings.seed)  # the model's initial weights; nothing else draws from the global generator
    tokenizer = build_tokenizer()
    model = build_model(tokenizer, settings)
    logging.info("%d words, %d parameters", len(tokenizer), model.num_parameters())
    train(model, tokenizer, settings)
    save(model, tokenizer, settings, target)


if __name__ == "__main__":
    main()
