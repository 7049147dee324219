# ruff: noqa: ANN001, ANN202
"""Two Triton kernels as operators of torch: pooled states, and dot products of pooled vectors.

Importing this module needs Triton. No kernel adds floats in an order that varies between runs.

Axes: ``batch`` sentences, ``tokens`` padded, ``width`` neurons, ``rows`` token weightings,
``blocks`` of ``BLOCK`` neurons, ``layers`` of one buffer, ``pairs`` sentences of the pivot. Of
routed experts: ``states`` of a token and an expert, ``d_ff`` neurons of one expert; the neurons and
the blocks of all experts follow one another.
"""

import triton
import triton.language as tl
from torch import Tensor
from torch.library import triton_op, wrap_triton

BLOCK = 512
"""Neurons of one program; sums over neurons are stored once per block."""
TILE, DEPTH = 32, 64
"""Vectors on each side of one tile of dot products, and the neurons that are added at a time."""
NAS, NAV = 0, 1
"""Which value of a state is summed: 1 where it is above zero, or its magnitude."""


@triton.jit
def _pool(  # long: one kernel
    states, token, order, starts, weights, mask, pooled, squares, sizes, active,
    batch, tokens, width, states_batch, states_token, blocks, experts,
    SOURCE: tl.constexpr, ROWS: tl.constexpr, PADDED_ROWS: tl.constexpr, BLOCK: tl.constexpr,
    SIZES: tl.constexpr, ACTIVE: tl.constexpr, ROUTED: tl.constexpr,
):  # fmt: skip
    sentence, expert = tl.program_id(0) // experts, tl.program_id(0) % experts
    block = tl.program_id(1)
    column = block * BLOCK + tl.arange(0, BLOCK)
    inside = column < width
    row = tl.arange(0, PADDED_ROWS)
    total = tl.zeros([PADDED_ROWS, BLOCK], dtype=tl.float32)
    count = tl.zeros([BLOCK], dtype=tl.float32)
    invalid = tl.zeros([BLOCK], dtype=tl.int32)
    first, last = 0, tokens
    if ROUTED:
        first, last = tl.load(starts + tl.program_id(0)), tl.load(starts + tl.program_id(0) + 1)
    for number in range(first, last):
        if ROUTED:
            index = tl.load(order + number).to(tl.int64)
            position = tl.load(token + index) % tokens
            begin, place = index * states_token, index
        else:
            position = number
            begin = sentence.to(tl.int64) * states_batch + number * states_token
            place = sentence * tokens + number
        state = tl.load(states + begin + column, mask=inside, other=0.0)
        if SOURCE == 0:
            value = tl.where(state.to(tl.float32) > 0, 1.0, 0.0)
            invalid += tl.where(state != state, 1, 0)
        else:
            value = tl.abs(state.to(tl.float32))
        weight = tl.load(
            weights + (sentence * ROWS + row) * tokens + position, mask=row < ROWS, other=0.0
        )
        total += weight[:, None] * value[None, :]
        if ACTIVE:
            count += value * tl.load(mask + sentence * tokens + position)
        if SIZES:
            size = tl.sum(value, axis=0) * tl.load(weights + sentence * ROWS * tokens + position)
            tl.store(sizes + place * blocks + block, size)
    if SOURCE == 0:
        total = tl.where(tl.sum(invalid, axis=0) > 0, float("nan"), total)
    vector = (row * batch + sentence).to(tl.int64) * experts + expert
    place = pooled + vector[:, None] * width + column[None, :]
    tl.store(place, total, mask=(row < ROWS)[:, None] & inside[None, :])
    exact = total.to(tl.float64)
    tl.store(squares + vector * blocks + block, tl.sum(exact * exact, axis=1), mask=row < ROWS)
    if ACTIVE:
        tl.store(active + tl.program_id(0) * blocks + block, tl.sum(count, axis=0))


@triton.jit
def _compare(  # long: one kernel
    pivot, vectors, dot, pairs, batch, width,
    EXACT: tl.constexpr, TILE: tl.constexpr, DEPTH: tl.constexpr,
):  # fmt: skip
    layer = tl.program_id(0).to(tl.int64)
    pair = tl.program_id(1) * TILE + tl.arange(0, TILE)
    sentence = tl.program_id(2) * TILE + tl.arange(0, TILE)
    total = tl.zeros([TILE, TILE], dtype=tl.float64)
    for start in range(0, width, DEPTH):
        column = start + tl.arange(0, DEPTH)
        inside = (column < width)[None, :]
        one = tl.load(
            pivot + (layer * pairs + pair[:, None]) * width + column[None, :],
            mask=inside & (pair < pairs)[:, None],
            other=0.0,
        )
        other = tl.load(
            vectors + (layer * batch + sentence[:, None]) * width + column[None, :],
            mask=inside & (sentence < batch)[:, None],
            other=0.0,
        )
        if EXACT:
            # Whole numbers below 2^18: two digits of 9 bits. fp16 holds them, and fp32 holds the
            # sum of 64 products of two of them, so nothing is rounded.
            one_high, other_high = tl.floor(one * 0.001953125), tl.floor(other * 0.001953125)
            one_low = (one - 512.0 * one_high).to(tl.float16)
            other_low = (other - 512.0 * other_high).to(tl.float16).trans()
            one_high, other_high = one_high.to(tl.float16), other_high.to(tl.float16).trans()
            middle = tl.dot(one_high, other_low).to(tl.float64)
            middle += tl.dot(one_low, other_high).to(tl.float64)
            total += 262144.0 * tl.dot(one_high, other_high).to(tl.float64)
            total += 512.0 * middle + tl.dot(one_low, other_low).to(tl.float64)
        else:
            total += tl.dot(one, other.trans(), input_precision="ieee").to(tl.float64)
    place = dot + (layer * pairs + pair[:, None]) * batch + sentence[None, :]
    tl.store(place, total, mask=(pair < pairs)[:, None] & (sentence < batch)[None, :])


@triton_op("neuronxa_callback::pool", mutates_args={"pooled", "squares", "sizes", "active"})
def pool(
    states: Tensor,
    weights: Tensor,
    mask: Tensor,
    pooled: Tensor,
    squares: Tensor,
    sizes: Tensor,
    active: Tensor,
    source: int,
) -> None:
    """Fills all sums of one read of states [batch, tokens, width], whose last stride is 1.

    Args:
        states: Of any floating type.
        weights: [batch, rows, tokens] fp32.
        mask: [batch, tokens] fp32, 1 for each token but padding.
        pooled: [rows, batch, width] fp32: weighted sums; NaN in each block of a sentence that
            holds a NaN.
        squares: [rows, batch, blocks] fp64: squared lengths.
        sizes: [batch, tokens, blocks] fp32: a token's states, weighted by row 0. May be empty.
        active: [batch, blocks] fp32: number of active states. May be empty.
        source: ``NAS`` or ``NAV``.
    """
    batch, tokens, width = states.shape
    rows, blocks = weights.shape[1], squares.shape[2]
    wrap_triton(_pool)[(batch, blocks)](
        states, states, states, states, weights, mask, pooled, squares, sizes, active,
        batch, tokens, width, states.stride(0), states.stride(1), blocks, 1,
        SOURCE=source, ROWS=rows, PADDED_ROWS=triton.next_power_of_2(rows), BLOCK=BLOCK,
        SIZES=sizes.numel() > 0, ACTIVE=active.numel() > 0, ROUTED=False,
    )  # fmt: skip


@triton_op("neuronxa_callback::pool_routed", mutates_args={"pooled", "squares", "sizes", "active"})
def pool_routed(
    states: Tensor,
    token: Tensor,
    order: Tensor,
    starts: Tensor,
    weights: Tensor,
    mask: Tensor,
    pooled: Tensor,
    squares: Tensor,
    sizes: Tensor,
    active: Tensor,
    source: int,
) -> None:
    """As ``pool``, for the states [states, d_ff] of pairs of a token and an expert.

    Args:
        states: Of any floating type; the last stride is 1.
        token: [states], index into the flattened ``batch * tokens``.
        order: [states], sorted by sentence and then by expert.
        starts: [batch * experts + 1], where those of each sentence and expert begin in ``order``.
        weights: As in ``pool``.
        mask: As in ``pool``.
        pooled: [rows, batch, experts * d_ff] fp32; 0 where a sentence has no state of an expert.
        squares: [rows, batch, experts * blocks] fp64.
        sizes: [states, blocks] fp32: sums over neurons, weighted by row 0. May be empty.
        active: [batch, experts * blocks] fp32. May be empty.
        source: ``NAS`` or ``NAV``.
    """
    batch, rows, tokens = weights.shape
    bags, d_ff = len(starts) - 1, states.shape[1]
    blocks = triton.cdiv(d_ff, BLOCK)
    wrap_triton(_pool)[(bags, blocks)](
        states, token, order, starts, weights, mask, pooled, squares, sizes, active,
        batch, tokens, d_ff, 0, states.stride(0), blocks, bags // batch,
        SOURCE=source, ROWS=rows, PADDED_ROWS=triton.next_power_of_2(rows), BLOCK=BLOCK,
        SIZES=sizes.numel() > 0, ACTIVE=active.numel() > 0, ROUTED=True,
    )  # fmt: skip


@triton_op("neuronxa_callback::compare", mutates_args={"dot"})
def compare(pivot: Tensor, vectors: Tensor, dot: Tensor, exact: bool) -> None:
    """Fills the dot products [layers, pairs, batch] in fp64, without copies in fp64.

    Args:
        pivot: [layers, pairs, width] fp32.
        vectors: [layers, batch, width] fp32.
        dot: [layers, pairs, batch] fp64.
        exact: Whether all vectors hold whole numbers in 0 .. 2^18 - 1; the result is then exact.
            Otherwise products of ``DEPTH`` neurons are added in fp32.
    """
    layers, pairs, width = pivot.shape
    batch = vectors.shape[1]
    grid = (layers, triton.cdiv(pairs, TILE), triton.cdiv(batch, TILE))
    wrap_triton(_compare)[grid](
        pivot, vectors, dot, pairs, batch, width, EXACT=exact, TILE=TILE, DEPTH=DEPTH
    )
