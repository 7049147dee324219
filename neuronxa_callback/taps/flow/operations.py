"""Sets of names of tensor operations, by what they do."""

from neuronxa_callback.taps.graph import CASTS, LAYOUT, operation_names

SLICES = operation_names(
    "__getitem__ chunk split unbind narrow select tensor_split split_with_sizes"
)
TIMES = operation_names("mul __mul__ __rmul__ __imul__ mul_ multiply")
DIVISIONS = operation_names(
    "div __truediv__ __rtruediv__ __itruediv__ div_ true_divide divide __div__ __rdiv__"
)
SUMS = operation_names(
    "add __add__ __radd__ __iadd__ add_ sub __sub__ __rsub__ rsub sub_ __isub__ subtract addcmul "
    "addcdiv lerp"
)
COMPARISONS = operation_names(
    "lt gt le ge eq ne less greater less_equal greater_equal __lt__ __gt__ __le__ __ge__ __eq__ "
    "__ne__ isinf isnan isfinite logical_or logical_and logical_not logical_xor __and__ __or__ "
    "__invert__ bitwise_and bitwise_or bitwise_not"
)
BOUNDS = operation_names(
    "clamp clamp_ clip clip_ clamp_min clamp_max minimum maximum min max nan_to_num nan_to_num_"
)
MASKS = operation_names(
    "where masked_fill masked_fill_ index_fill index_fill_ __setitem__ hardshrink softshrink "
    "scatter scatter_ index_copy index_copy_ index_put index_put_ masked_scatter tril triu"
)
"""Operations that keep some values of a tensor and replace the others."""
PICKS = operation_names("topk kthvalue sort argsort quantile median one_hot scatter scatter_")
"""Operations that choose among the neurons of a token."""
ACTIVATIONS = operation_names(
    "silu silu_ gelu relu relu_ sigmoid sigmoid_ erf hardswish hardswish_ mish relu6 selu celu elu "
    "elu_ leaky_relu leaky_relu_ softplus prelu hardsigmoid logsigmoid rrelu hardtanh hardtanh_ "
    "softsign special_erf special_expit tanhshrink sin cos glu"
)
WEAK_ACTIVATIONS = operation_names("tanh tanh_ where threshold threshold_ hardshrink softshrink")
"""Activation functions that may also be a bound or a mask: they make a gate if no other does."""
_OTHER = operation_names(
    "square square_ pow __pow__ __rpow__ pow_ exp exp_ expm1 abs abs_ __abs__ sqrt rsqrt log log1p "
    "neg __neg__ negative sign sgn floor ceil round trunc reciprocal special_ndtri xlogy "
    "float_power copysign"
)
POINTWISE = (
    TIMES
    | DIVISIONS
    | SUMS
    | COMPARISONS
    | BOUNDS
    | MASKS
    | ACTIVATIONS
    | WEAK_ACTIVATIONS
    | _OTHER
)
OVER_NEURONS = operation_names(
    "mean std var amax amin sum norm linalg_norm vector_norm linalg_vector_norm logsumexp std_mean "
    "var_mean rms_norm layer_norm normalize group_norm topk kthvalue sort argsort quantile median "
    "one_hot gather take_along_dim cumsum softmax argmax"
)
"""Operations that may look at all neurons of one token."""
NORMS = operation_names("rms_norm layer_norm normalize group_norm norm")
RANKINGS = operation_names("topk argmax argsort sort max multinomial kthvalue")
CONTRACTIONS = operation_names(
    "linear matmul __matmul__ __rmatmul__ mm bmm einsum addmm baddbmm addbmm tensordot _grouped_mm"
)
"""Operations that may act as a linear layer, if one operand is a weight."""
STRUCTURE = (
    LAYOUT
    | SLICES
    | operation_names(
        "cat concat concatenate stack hstack vstack pad flip roll gather index_select narrow "
        "take_along_dim expand expand_as broadcast_to repeat repeat_interleave tile swapdims "
        "moveaxis masked_select unfold fliplr flipud swapaxes index"
    )
)
"""Operations that only move, copy, choose or join values."""
WRITES = operation_names(
    "__setitem__ scatter scatter_ scatter_add scatter_add_ index_copy index_copy_ index_put "
    "index_put_ index_add index_add_ masked_scatter masked_scatter_ copy_"
)
"""Operations that write values into places of another tensor."""
SAME_SHAPE = CASTS | operation_names(
    "clone contiguous detach dropout alias requires_grad_ int long bool cpu cuda alpha_dropout "
    "wait_tensor all_reduce"
)
"""Operations whose result has the shape and the tokens of their first input."""
EMPTY = operation_names("empty empty_like new_empty zeros_like empty_strided")
"""Operations whose result is filled later, maybe by a kernel that cannot be traced."""
