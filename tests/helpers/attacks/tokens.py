"""Virtual tokens, other orders of tokens, experts in any spelling, and what is no network."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from tests.helpers.attacks.experts import (
    Experts,
    Stacked,
    Unequal,
    all_on_all,
    by_selection,
    sorted_rows,
    weight_in_front_of_down,
    weighted_rows,
)
from tests.helpers.attacks.models import (
    HIDDEN,
    Block,
    Decoder,
    GatedNetwork,
    Network,
    PlainNetwork,
    States,
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
