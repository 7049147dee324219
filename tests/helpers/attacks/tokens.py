"""Virtual tokens, other orders of tokens, experts in any spelling, and what is no network."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks.models import (
    HIDDEN,
    Block,
    Decoder,
    GatedNetwork,
    Network,
    PlainNetwork,
    States,
    apply,
    decoder,
    stirred,
)

MOVED = "tokens"


class Prompted(Decoder):
    """Virtual tokens at a place of the sequence."""

    def __init__(self, count: int, place: int | None) -> None:
        super().__init__(lambda _: Block(GatedNetwork()))
        self.prompt, self.place = nn.Parameter(torch.zeros(count, HIDDEN)), place

    def virtual(self) -> Tensor:
        """The states of the virtual tokens."""
        return self.prompt

    def around(self, x, run):
        place = x.shape[1] if self.place is None else self.place
        prompt = self.virtual().expand(len(x), -1, -1)
        y = run(torch.cat([x[:, :place], prompt, x[:, place:]], dim=1))
        return self.kept(y, x.shape[1])

    def kept(self, states: Tensor, tokens: int) -> Tensor:
        place = tokens if self.place is None else self.place
        count = len(self.prompt)
        return torch.cat([states[:, :place], states[:, place + count :]], dim=1)


class Encoded(Prompted):
    """The virtual tokens come from a recurrent network and a small network."""

    def __init__(self, count: int) -> None:
        super().__init__(count, 0)
        self.encoder = nn.GRU(HIDDEN, HIDDEN, batch_first=True)
        self.heads = nn.ModuleList([PlainNetwork(12, act=functional.relu)])

    def virtual(self) -> Tensor:
        return self.heads[0](self.encoder(self.prompt[None])[0])[0]


class TimeFirst(Decoder):
    """[tokens, batch, hidden] in the blocks."""

    def around(self, x, run):
        return run(x.transpose(0, 1)).transpose(0, 1)

    def kept(self, states: Tensor, tokens: int) -> Tensor:
        return states.transpose(0, 1)


class TimeFirstBlock(Block):
    """A block for tokens in front."""

    time = 0


class Around(GatedNetwork):
    """Does something to the tokens around the network."""

    def there(self, x: Tensor) -> Tensor:
        """The input of the network."""
        return x

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        """The output in the order of the input."""
        return y

    def forward(self, x: Tensor) -> Tensor:
        return self.back(super().forward(self.there(x)), x)


class Flat(Around):
    """Flattened rows."""

    def there(self, x: Tensor) -> Tensor:
        return x.reshape(-1, HIDDEN)

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y.view_as(x)


class Rolled(Around):
    """The tokens moved by two."""

    def there(self, x: Tensor) -> Tensor:
        return x.roll(2, dims=1)

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y.roll(-2, dims=1)


class PaddedBehind(Around):
    """Padded to a multiple of five behind the tokens."""

    def there(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, 0, -x.shape[1] % 5))

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y[:, : x.shape[1]]


class PaddedInFront(Around):
    """Padded to a multiple of five in front of the tokens."""

    def there(self, x: Tensor) -> Tensor:
        return functional.pad(x, (0, 0, -x.shape[1] % 5, 0))

    def back(self, y: Tensor, x: Tensor) -> Tensor:
        return y[:, -x.shape[1] :]


class Sorted(Network):
    """Rows sorted by their sum, and put back."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = GatedNetwork()

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, HIDDEN)
        order = rows.sum(dim=-1).argsort()
        out = torch.empty_like(rows)
        out[order] = self.inner(rows[order])
        return out.view_as(x)

    def by_hand(self, x: Tensor) -> States:
        return self.inner.by_hand(x)  # type: ignore[return-value]


class Experts(Network):
    """Routed experts; ``run`` is one way of writing them."""

    count, chosen, width = 5, 2, 14

    def __init__(self, run, shared: bool = False, named: bool = False) -> None:
        super().__init__()
        self.router, self.run = nn.Linear(HIDDEN, self.count), run
        made = [GatedNetwork(self.width) for _ in range(self.count)]
        self.experts = (
            nn.ModuleDict({f"e{k}": each for k, each in enumerate(made)})
            if named
            else (nn.ModuleList(made))
        )
        self.shared = GatedNetwork() if shared else None

    def each(self) -> list[GatedNetwork]:
        """The experts in order."""
        inner = self.experts
        return list(inner.values()) if isinstance(inner, nn.ModuleDict) else list(inner)

    def routed(self, rows: Tensor) -> tuple[Tensor, Tensor]:
        """Weights and experts of each row."""
        return torch.softmax(apply(self.router, rows), dim=-1).topk(self.chosen)

    def forward(self, x: Tensor) -> Tensor:
        rows = x.reshape(-1, HIDDEN)
        out = self.run(self, rows, *self.routed(rows)).view_as(x)
        return out if self.shared is None else out + self.shared(x)

    def by_hand(self, x: Tensor) -> list[States]:
        rows = x.reshape(-1, HIDDEN)
        _, index = self.routed(rows)
        gates, products = [], []
        for number, expert in enumerate(self.each()):
            runs = (index == number).any(dim=1, keepdim=True)
            gate, product = expert.by_hand(rows)
            gates.append(gate * runs)
            products.append(product * runs)
        parts = [
            tuple(torch.cat(each, dim=1).reshape(*x.shape[:2], -1) for each in (gates, products))
        ]
        return parts + ([self.shared.by_hand(x)] if self.shared is not None else [])


def by_selection(select):
    """Experts one by one, on the rows that ``select`` takes."""

    def run(net, rows, weights, index):
        out = torch.zeros_like(rows)
        for number, expert in enumerate(net.each()):
            token, place = torch.where(index == number)
            if len(token):
                result = expert(select(rows, token)) * weights[token, place, None]
                out.index_add_(0, token, result)
        return out

    return run


def sorted_rows(net, rows, weights, index):
    """All rows sorted by expert, then in pieces."""
    order = index.flatten().argsort(stable=True)
    sizes = torch.bincount(index.flatten(), minlength=net.count).tolist()
    pieces = rows[order // net.chosen].split(sizes)
    done = [expert(piece) for expert, piece in zip(net.each(), pieces, strict=True) if len(piece)]
    out = torch.cat(done)
    back = torch.empty_like(out)
    back[order] = out
    return (back.view(*index.shape, -1) * weights[..., None]).sum(dim=1)


def weight_in_front_of_down(net, rows, weights, index):
    """The routing weight multiplies the product."""
    out = torch.zeros_like(rows)
    for number, expert in enumerate(net.each()):
        token, place = torch.where(index == number)
        if len(token):
            mine = rows[token]
            product = (
                functional.silu(expert.gate(mine)) * expert.up(mine) * weights[token, place, None]
            )
            out.index_add_(0, token, expert.down(product))
    return out


def all_on_all(net, rows, weights, index):
    """All experts on all tokens, with weights that are mostly 0."""
    table = torch.zeros(len(rows), net.count).scatter(1, index, weights)
    return sum(expert(rows) * table[:, k : k + 1] for k, expert in enumerate(net.each()))


def weighted_rows(net, rows, weights, index):
    """The routing weight multiplies the expert's input."""
    out = torch.zeros_like(rows)
    for number, expert in enumerate(net.each()):
        token, place = torch.where(index == number)
        if len(token):
            out.index_add_(0, token, expert(rows[token] * weights[token, place, None]))
    return out


class Unequal(Experts):
    """Experts of two widths."""

    def __init__(self, run) -> None:
        super().__init__(run)
        self.experts[2] = GatedNetwork(self.width + 2)


class Stacked(Network):
    """All experts in 3-D weights of names of one's own."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.outer = (
            nn.Parameter(torch.zeros(shape)) for shape in ((4, HIDDEN, 10), (4, 10, HIDDEN))
        )
        self.router = nn.Linear(HIDDEN, 4)

    def forward(self, x: Tensor) -> Tensor:
        weights = torch.softmax(self.router(x), dim=-1)
        state = functional.gelu(torch.einsum("bth,ehw->btew", x, self.inner))
        return torch.einsum("btew,ewh,bte->bth", state, self.outer, weights)


class Beside(Block):
    """A narrow network beside or behind the network."""

    def __init__(self, network: nn.Module, end: nn.Module | None = None, behind: bool = True):
        super().__init__(network)
        layers = [nn.Linear(HIDDEN, 5), nn.ReLU(), nn.Linear(5, HIDDEN)]
        self.narrow = nn.Sequential(*layers, *([end] if end is not None else []))
        self.behind = behind

    def forward(self, x: Tensor) -> Tensor:
        x = self.mixed(x)
        y = getattr(self, self.name)(self.norm(x))
        return x + y + self.narrow(y) if self.behind else x + y * self.narrow(self.norm(x))


class WithHead(Decoder):
    """A projection head behind the blocks."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.projector = nn.Sequential(nn.Linear(HIDDEN, 50), nn.GELU(), nn.Linear(50, HIDDEN))

    def around(self, x, run):
        return self.projector(run(x))


class WithNextToken(Decoder):
    """A further block that predicts the token after the next."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.predictor = nn.ModuleList([Block(GatedNetwork())])

    def around(self, x, run):
        y = run(x)
        return y, self.predictor[0](y + functional.pad(x[:, 1:], (0, 0, 0, 1)))

    def forward(self, input_ids, **_):
        return tuple(map(self.head, self.around(self.embedding(input_ids), self.blocks)))


class WithTeacher(Decoder):
    """Another model runs on the same tokens."""

    def __init__(self, *arguments, **options) -> None:
        super().__init__(*arguments, **options)
        self.teacher = Decoder(*arguments, **options)

    def forward(self, input_ids, **_):
        return super().forward(input_ids) + 0 * self.teacher(input_ids)


def experts(run, kind=Experts, **options):
    """A model with routed experts in all blocks."""
    return lambda: decoder(lambda: kind(run, **options))


def beside(**options):
    """A model with a narrow network in each block."""
    return lambda: stirred(Decoder(lambda _: Beside(GatedNetwork(), **options)))


ROWS = by_selection(lambda rows, token: rows[token])
CASES = {
    **{
        f"{count} virtual tokens {where}": (
            lambda count=count, place=place: stirred(Prompted(count, place)),
            "",
        )
        for count, place, where in (
            (2, 0, "in front"),
            (6, 0, "in front"),
            (8, 0, "in front"),
            (3, 1, "behind the first token"),
            (8, None, "behind all tokens"),
        )
    },
    "6 virtual tokens from a GRU": (lambda: stirred(Encoded(6)), ""),
    "8 virtual tokens from a GRU": (lambda: stirred(Encoded(8)), ""),
    "time first": (lambda: decoder(GatedNetwork, TimeFirst, TimeFirstBlock), ""),
    "time first and flat": (lambda: decoder(Flat, TimeFirst, TimeFirstBlock), ""),
    "flat rows": (lambda: decoder(Flat), ""),
    "rolled tokens": (lambda: decoder(Rolled), ""),
    "padded behind": (lambda: decoder(PaddedBehind), ""),
    "padded in front": (lambda: decoder(PaddedInFront), ""),
    "sorted rows": (lambda: decoder(Sorted), ""),
    "experts by index": (experts(ROWS), ""),
    "experts by index_select, shared": (
        experts(by_selection(lambda rows, token: rows.index_select(0, token)), shared=True),
        "",
    ),
    "experts by gather": (
        experts(
            by_selection(lambda rows, token: rows.gather(0, token[:, None].expand(-1, HIDDEN)))
        ),
        "",
    ),
    "experts by sorted rows": (experts(sorted_rows, shared=True), ""),
    "experts in a dictionary": (experts(ROWS, named=True), ""),
    "a weight in front of the down projection": (experts(weight_in_front_of_down), ""),
    "a weight on the expert's input": (experts(weighted_rows), "."),
    "all experts on all tokens": (experts(all_on_all), "switches its output off"),
    "experts of two widths": (experts(ROWS, Unequal), "one class and one size"),
    "3-D weights under other names": (
        lambda: stirred(
            Decoder(lambda number: Block(Stacked() if number == 1 else GatedNetwork()))
        ),
        "without calling",
    ),
    "a narrow network behind": (beside(), ""),
    "an output gate": (beside(end=nn.Sigmoid(), behind=False), ""),
    "a projection head": (lambda: decoder(GatedNetwork, WithHead), ""),
    "a block for the next token": (lambda: decoder(GatedNetwork, WithNextToken), MOVED),
    "a teacher": (lambda: decoder(GatedNetwork, WithTeacher), "reads the tokens anew"),
}
