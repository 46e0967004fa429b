"""The memory reads written naively: candidates unfolded, scores in full, every embedding computed."""

import torch
from torch.nn import functional as F


def unfolded(frames, window):
    """(b, t, c, h, w) -> (b, t·R², c, h, w), zero outside the frame."""
    b, t, c, h, w = frames.shape
    columns = F.unfold(frames.reshape(b * t * c, 1, h, w), window, padding=window // 2)
    return columns.view(b, t, c, window**2, h, w).transpose(2, 3).flatten(1, 2)


def allowed_mask(frames, window, valid):
    b, t, _, h, w = frames.shape
    inside = unfolded(torch.ones(b, t, 1, h, w, dtype=frames.dtype), window)[:, :, 0] > 0
    if valid is not None:
        inside &= valid.repeat_interleave(window**2, 1)[:, :, None, None]
    return inside  # (b, t·R², h, w)


def softmax(scores, allowed):
    weights = scores.masked_fill(~allowed, -torch.inf).softmax(1)
    return torch.where(allowed, weights, 0.0)  # also where nothing is allowed and the softmax is NaN


def pixwise(query, keys, values, window, valid=None):
    scores = (query[:, None] * unfolded(keys, window)).sum(2)
    weights = softmax(scores, allowed_mask(keys, window, valid))
    return (weights[:, :, None] * unfolded(values, window)).sum(1), weights


def pixsim(query, keys, values, window, valid=None, tau=1.0):
    products = (query[:, None] * unfolded(keys, window)).sum(2)
    inside = allowed_mask(keys, window, None)
    scores = tau * products.flatten(2).sum(2) / inside.flatten(2).sum(2).clamp(min=1)
    allowed = allowed_mask(keys, window, valid)
    weights = softmax(scores, allowed.flatten(2).any(2))
    local = softmax(scores[:, :, None, None].expand_as(allowed), allowed)
    return (local[:, :, None] * unfolded(values, window)).sum(1), weights


def pixsentence(query, keys, values, valid=None):
    b, t, _, h, w = keys.shape
    scores = torch.einsum("bcyx,bticj->btijyx", query, keys.transpose(2, 3)).reshape(b, t * h * w, h, w)
    allowed = torch.ones(b, t, dtype=torch.bool) if valid is None else valid
    allowed = allowed.repeat_interleave(h * w, 1)[:, :, None, None].expand_as(scores)
    weights = softmax(scores, allowed)
    read = torch.einsum("bnyx,bnc->bcyx", weights, values.movedim(2, -1).reshape(b, t * h * w, -1))
    return read, weights.unflatten(1, (t, h * w)).sum(2)


def memory(module, name, query, sentences, valid=None, window=1):
    """A module without flat2d and fc, with every embedding computed."""
    hops = module.hops
    e, t = hops.embed_channels, sentences.shape[1]
    u, o = hops.query_embedding(query), None
    for hop in range(hops.num_hops):
        first = hop if hops.tying == "adjacent" else 0
        keys, values = (hops.embeddings[i](sentences.flatten(0, 1)).unflatten(0, (-1, t)) for i in (first, first + 1))
        if o is not None:
            u = hops.hop_projection(u) + o
        q = u / e**0.5
        if hops.addressing.temperature is not None:
            keys = keys / keys.norm(dim=2, keepdim=True)
            q = hops.addressing.temperature * u / u.norm(dim=1, keepdim=True)
        if name == "pixsim":
            o, weights = pixsim(q, keys, values, window, valid, module.tau)
        elif name == "pixwise":
            o, weights = pixwise(q, keys, values, window, valid)
        else:
            o, weights = pixsentence(q, keys, values, valid)
    if hops.norm is not None:
        u, o = hops.norm(torch.cat([u, o], 1)).chunk(2, 1)
    return u, o, weights
