"""Log-likelihoods of given answers.

(prompt, answer) pairs ─ batches of similar length ─▶ states of the answers' positions ─ head ─▶ log-likelihoods
"""

from collections.abc import Sequence

import torch

from model.attention import dense_mask
from model.hrm import HRM


@torch.no_grad()
def log_likelihoods(
    model: HRM, pairs: Sequence[tuple[Sequence[int], Sequence[int]]], *, rows: int
) -> list[tuple[float, bool]]:
    """Compute the log-likelihood of each answer after its prompt.

    Parameters
    ----------
    model
        The model, on any device; an enclosing `torch.autocast` applies.
    pairs
        Token ids of each prefix, from the start tag to the end tag, and of an answer to it, which may be empty.
    rows
        Number of pairs that are computed at once.

    Returns
    -------
    list of (float, bool)
        Sum of the log-probabilities of the answer's tokens, in float32; whether each of them is the most likely one.
    """
    device = model.z_L_init.device
    order = sorted(range(len(pairs)), key=lambda i: len(pairs[i][0]) + len(pairs[i][1]))
    found: list[tuple[float, bool]] = [(0.0, True)] * len(pairs)
    for begin in range(0, len(order), rows):
        batch = order[begin : begin + rows]
        samples = [[*pairs[i][0], *pairs[i][1]] for i in batch]
        length = max(map(len, samples))
        tokens = torch.zeros(len(batch), length, dtype=torch.long)
        for row, sample in enumerate(samples):
            tokens[row, : len(sample)] = torch.tensor(sample)
        positions = torch.arange(length, device=device).expand(len(batch), length)
        prefix = torch.tensor([len(pairs[i][0]) for i in batch], device=device)
        end = torch.maximum(model.mutual_prefix(prefix)[:, None], positions + 1)
        mask = dense_mask(torch.zeros_like(end), end, length, model.state_dtype)
        states = model.run(tokens.to(device), positions, mask)
        for row, i in enumerate(batch):
            prompt, answer = pairs[i]
            if not answer:
                continue
            before = states[row, len(prompt) - 1 : len(prompt) + len(answer) - 1]
            chances = model.lm_head(before).float().log_softmax(-1)
            wanted = torch.tensor(answer, device=device)
            total = chances.gather(1, wanted[:, None]).sum().item()
            found[i] = (total, bool((chances.argmax(-1) == wanted).all()))
    return found
