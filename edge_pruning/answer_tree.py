"""The tree of a pair's answers, where right answers of several tokens differ before their last token.

A *node* is a beginning of an answer that is not the whole answer: no token (the root), the first token, and so on. At
every node the next token is predicted, so a tree with n nodes has n compared positions. Nodes that begin no other node
are the *branches*: the model is run on the prompt followed by each of them, which covers every node.

With p(t | v) the probability of token t at node v, and t_1 ... t_k the tokens from the root to v,

    P(reach v)  =  p(t_1 | root) p(t_2 | t_1) ... p(t_k | t_1 ... t_k-1)          (chain rule, exact)
    P(answers)  =  sum over nodes v, and tokens t that complete an answer there, of P(reach v) p(t | v)

No answer begins with another one, so the events are disjoint, and the sum is the probability that a continuation of the
prompt begins with any of the answers. An answer counts in the tokens in which the tokenizer writes it.

A continuation leaves the tree with its first token that leads to no other node. Two models have two distributions over
where it leaves. By the chain rule of relative entropy, their KL divergence is

    KL  =  sum over nodes v of P_model(reach v) KL(p_model(. | v) || p_circuit(. | v))

with weight 1 at the root. If the root is the only node, both formulas are those for answers of one token.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

Ids = tuple[int, ...]


@dataclass(frozen=True)
class AnswerTree:
    """The nodes of a tree, the root first.

    prefixes: the tokens of each node after the prompt.
    answers, wrong: at each node, the tokens that complete a right or a wrong answer.
    """

    prefixes: tuple[Ids, ...]
    answers: tuple[Ids, ...]
    wrong: tuple[Ids, ...]

    @classmethod
    def of(cls, right: Mapping[Ids, str], wrong: Mapping[Ids, str]) -> AnswerTree:
        """Make the tree of answers, from their tokens to their texts.

        Raises ValueError if a right answer begins with a wrong one or the other way round, because such a continuation
        would be both.
        """
        kept, others = without_longer(right), without_longer(wrong)
        for answer in kept:
            for other in others:
                if other[: len(answer)] == answer or answer[: len(other)] == other:
                    raise ValueError(
                        f"the wrong answer {wrong[other]!r} and the answer {right[answer]!r} begin with the same "
                        "tokens and never differ"
                    )
        prefixes = tuple(dict.fromkeys(ids[:end] for ids in (*kept, *others) for end in range(len(ids))))
        return cls(prefixes, *(_completing(prefixes, answers) for answers in (kept, others)))


def without_longer(answers: Mapping[Ids, str]) -> tuple[Ids, ...]:
    """Return the answers that begin with no other one; whoever writes a longer one has written the shorter one, too."""
    return tuple(ids for ids in answers if not any(ids[:end] in answers for end in range(1, len(ids))))


def _completing(prefixes: Sequence[Ids], answers: Sequence[Ids]) -> tuple[Ids, ...]:
    tokens: dict[Ids, list[int]] = {prefix: [] for prefix in prefixes}
    for ids in answers:
        tokens[ids[:-1]].append(ids[-1])
    return tuple(tuple(tokens[prefix]) for prefix in prefixes)


def branches_of(prefixes: Sequence[Ids]) -> tuple[Ids, ...]:
    """Return the nodes that begin no other node: a run on each of them passes every node."""
    inner = {prefix[:end] for prefix in prefixes for end in range(len(prefix))}
    return tuple(prefix for prefix in prefixes if prefix not in inner)


def branch_of_each(prefixes: Sequence[Ids], branches: Sequence[Ids]) -> tuple[int, ...]:
    """Return for each node the number of the first branch that passes it."""
    first: dict[Ids, int] = {}
    for number, branch in enumerate(branches):
        for end in range(len(branch) + 1):
            first.setdefault(branch[:end], number)
    return tuple(first[prefix] for prefix in prefixes)


@dataclass(frozen=True)
class TreeIndex:
    """The trees of a batch's pairs, as indices of its compared positions n.

    parents: the position of each node's parent, [n]; a root is its own parent.
    tokens: the token from the parent to the node, [n]; 0 at a root.
    roots: bool [n].
    branch_lengths: the number of tokens that follow the prompt in each sequence, [s].
    pairs, depth: the number of pairs, and the most tokens from a root to a node.
    """

    parents: Tensor
    tokens: Tensor
    roots: Tensor
    branch_lengths: Tensor
    pairs: int
    depth: int

    @classmethod
    def of(cls, trees: Sequence[Sequence[Ids]], device: torch.device | str) -> TreeIndex:
        """Build the index of several trees, each given by its nodes."""
        parents: list[int] = []
        for prefixes in trees:
            at = {prefix: len(parents) + n for n, prefix in enumerate(prefixes)}
            parents += [at[prefix[:-1]] for prefix in prefixes]
        nodes = [prefix for prefixes in trees for prefix in prefixes]
        columns = (
            torch.tensor(parents),
            torch.tensor([prefix[-1] if prefix else 0 for prefix in nodes]),
            torch.tensor([not prefix for prefix in nodes]),
            torch.tensor([len(branch) for prefixes in trees for branch in branches_of(prefixes)]),
        )
        parent, token, root, lengths = (column.to(device, non_blocking=True) for column in columns)
        return cls(parent, token, root, lengths, len(trees), max(map(len, nodes)))

    def log_reach(self, log_p: Tensor) -> Tensor:
        """Return log P(reach v) of every node, [n], from the log probabilities of all tokens, [n, vocab]."""
        step = log_p[self.parents, self.tokens].masked_fill(self.roots, 0)
        reach = torch.zeros_like(step)
        for _ in range(self.depth):  # after k rounds it is right for the nodes of depth k
            reach = reach[self.parents] + step
        return reach

    def on_greedy_path(self, best: Tensor) -> Tensor:
        """Return whether the most likely tokens `best` [n] lead from the root to each node, bool [n]."""
        step = (best[self.parents] == self.tokens) | self.roots
        reached = torch.ones_like(self.roots)
        for _ in range(self.depth):
            reached = reached[self.parents] & step
        return reached
