"""The colours of languages, shared by the pictures (matplotlib) and the page (JavaScript)."""

LIGHT = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#56B4E9", "#E69F00", "#8A6FB0", "#7A5C3E")
"""For a white background: the palette of Okabe and Ito, safe for colour-blind readers, without
its yellow, which is hard to see on white; and two more colours."""
DARK = ("#4BA6E0", "#F0803C", "#2CC295", "#E39BC4", "#8FD0F5", "#F2B632", "#B49BDB", "#C2A07E")
"""The same colours, brighter, for a dark background."""
