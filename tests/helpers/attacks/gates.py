"""Networks whose last step is no plain multiplication, and networks that are easily overlooked."""

import torch
from torch import nn
from torch.nn import functional

from tests.helpers.attacks.models import (
    HIDDEN,
    WIDTH,
    Block,
    Decoder,
    GatedNetwork,
    PlainNetwork,
    decoder,
    one_unusual,
    stirred,
)
from tests.helpers.attacks.networks import (
    BareWeight,
    Factored,
    Frozen,
    InPlace,
    Linear2Unit,
    ScriptedModule,
    ScriptedSum,
    SharedActivation,
    Silencing,
    Slope,
    attributes,
    kept_large,
    scripted_act,
    weights,
    with_layers,
)

NO_GATE = r"cannot read the gate of layers\.0\.ffn\.down"


def gated(extra=dict, **options):
    """A model of gated networks; ``extra`` makes further modules."""
    return lambda: decoder(lambda: GatedNetwork(**options, **extra()))


def scaled(**options):
    """A gated network with a learned scale."""
    return lambda: decoder(lambda: GatedNetwork(scale=weights(), **options))


def plain(**options):
    """A model of plain networks."""
    return lambda: decoder(lambda: PlainNetwork(**options))


norm = nn.LayerNorm
SHARED = nn.Linear(HIDDEN, WIDTH)
CASES = {
    "up times gate": (gated(join=lambda n, g, u, x: u * g), ""),
    "gate times up plus 2": (gated(join=lambda n, g, u, x: g * (2 + u)), ""),
    "tanh on the up side": (gated(join=lambda n, g, u, x: torch.tanh(u) * g), ""),
    "a scale on the product": (scaled(join=lambda n, g, u, x: n.scale * (g * u)), ""),
    "scales on both factors": (scaled(join=lambda n, g, u, x: (g * n.scale) * (u * n.scale)), ""),
    "a clamp on the product": (gated(join=lambda n, g, u, x: (g * u).clamp(-1, 1)), ""),
    "small products masked": (gated(join=lambda n, g, u, x: g * u * ((u * g).abs() > 0.3)), ""),
    "where": (gated(join=lambda n, g, u, x: torch.where((g * u) > -0.2, g * u, 0.0)), ""),
    "masked_fill": (
        gated(join=lambda n, g, u, x: (g * u).masked_fill((g * u).abs() < 0.3, 0)),
        "",
    ),
    "the largest products": (gated(join=lambda n, g, u, x: kept_large(g * u)), ""),
    "nan_to_num": (gated(join=lambda n, g, u, x: (u * g).nan_to_num()), ""),
    "mul with out": (gated(join=lambda n, g, u, x: torch.mul(u, g, out=u)), ""),
    "an up projection that all layers share": (
        gated(
            join=lambda n, g, u, x: n.more(x) * g,
            extra=lambda: {"more": SHARED},
        ),
        "",
    ),
    "three factors": (
        gated(
            join=lambda n, g, u, x: u * n.more(x) * g,
            extra=lambda: {"more": nn.Linear(HIDDEN, WIDTH)},
        ),
        "",
    ),
    "a token's weight": (
        gated(
            join=lambda n, g, u, x: torch.sigmoid(n.score(x)) * g * u,
            product=lambda n, g, u, x: g * u,
            extra=lambda: {"score": nn.Linear(HIDDEN, 1)},
        ),
        "",
    ),
    "a norm of the product": (
        gated(
            join=lambda n, g, u, x: n.norm(g * u),
            product=lambda n, g, u, x: g * u,
            extra=lambda: {"norm": norm(WIDTH)},
        ),
        "",
    ),
    "rms_norm of the product": (
        gated(
            join=lambda n, g, u, x: functional.rms_norm(g * u, (WIDTH,)),
            product=lambda n, g, u, x: g * u,
        ),
        "",
    ),
    "a norm written inline": (
        gated(
            join=lambda n, g, u, x: (g * u) / (g * u).square().mean(-1, keepdim=True).sqrt(),
            product=lambda n, g, u, x: g * u,
        ),
        "",
    ),
    "a sum behind the product": (gated(join=lambda n, g, u, x: g * u - g), NO_GATE),
    "addcmul": (gated(join=lambda n, g, u, x: torch.addcmul(u, g, u)), NO_GATE),
    "a function of the product": (gated(join=lambda n, g, u, x: torch.sinh(g * u)), "sinh"),
    "a skip": (
        gated(
            join=lambda n, g, u, x: g * u + n.more(x),
            extra=lambda: {"more": nn.Linear(HIDDEN, WIDTH)},
        ),
        NO_GATE,
    ),
    "two activation functions": (gated(join=lambda n, g, u, x: g * functional.gelu(u)), NO_GATE),
    "relu squared": (plain(act=lambda x: functional.relu(x) ** 2), ""),
    "plain with a mask": (plain(after=lambda state: state * (state.abs() > 0.2)), ""),
    "plain with a clamp": (plain(after=lambda state: state.clamp(max=1.0)), ""),
    "a learned slope": (
        lambda: decoder(Slope),
        "",
    ),
    "silenced neurons": (gated(act=Silencing()), ""),
    "in place": (lambda: decoder(InPlace), ""),
    "glu": (lambda: decoder(Linear2Unit), ""),
    "a scripted activation": (lambda: decoder(lambda: PlainNetwork(act=scripted_act)), ""),
    "a scripted activation of the gate": (gated(act=scripted_act), ""),
    "a scripted step without a formula": (lambda: decoder(ScriptedSum), "kernel"),
    "a scripted step in one layer": (lambda: one_unusual(GatedNetwork, ScriptedSum), "kernel"),
    "a scripted network": (
        lambda: one_unusual(GatedNetwork, lambda: torch.jit.script(ScriptedModule())),
        "torch.jit",
    ),
    "a Python number of the states": (lambda: decoder(Frozen), NO_GATE),
    "own down projections": (lambda: decoder(with_layers(down=(WIDTH, HIDDEN))), ""),
    "one down projection of its own": (
        lambda: one_unusual(GatedNetwork, with_layers(down=(WIDTH, HIDDEN))),
        "",
    ),
    "own gate and up projections": (
        lambda: decoder(with_layers(gate=(HIDDEN, WIDTH), up=(HIDDEN, WIDTH))),
        "",
    ),
    "a down projection in two steps": (lambda: one_unusual(GatedNetwork, Factored), ""),
    "a weight without a module": (lambda: one_unusual(GatedNetwork, BareWeight), "without calling"),
    "one top-k network": (
        lambda: one_unusual(
            GatedNetwork, lambda: GatedNetwork(join=lambda n, g, u, x: kept_large(g * u))
        ),
        "",
    ),
    "a network called router": (
        lambda: stirred(Decoder(lambda _: Block(GatedNetwork(), "router_norm"))),
        "",
    ),
    "one activation for two networks": (lambda: decoder(SharedActivation), ""),
    "blocks as attributes": (attributes, "no feed-forward network found"),
}
