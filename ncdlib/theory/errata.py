"""Where the supplementary material does not say what it means."""

from typing import NamedTuple


class Slip(NamedTuple):
    """A place in the supplementary material that does not say what it means. Markdown, formulas in dollars."""

    place: str
    printed: str
    right: str
    why: str


SLIPS = tuple(Slip(*slip) for slip in [
    ("Algorithm 1, line 9", r"$Score_{best} \geq Score_j$", r"$Score_{best} \leq Score_j$",
     "It keeps the lowest score, and where all are positive never leaves its start, $F_{best} = 0$."),
    ("Eq. 1, 6, 7", r"$\mathbf{E}[w]$", r"$\mathbf{E}[w]_{(c,d,e)} = \frac{1}{C} \sum_{\hat{c}} \omega_{(c,d,e)}^{\hat{c}}$",
     "A mean over output channels: one number for each $(c, d, e)$, not one for the kernel."),
    ("Eq. 1, 3, 4, 5, 7",
     r"$\sum_{d=\lfloor -\frac{K}{2} \rfloor}^K$", r"$\sum_{d=-\lfloor \frac{K}{2} \rfloor}^{\lfloor \frac{K}{2} \rfloor}$",
     r"$K + \lceil K/2 \rceil + 1$ terms, six for $K = 3$: the kernel's index then leaves $1 \ldots K$."),
    ("Eq. 1", r"$x_{(i, c, j+c, p+d)}^{input}$", r"$x_{(i,c,a+d,b+e)}^{input}$",
     "$j$ and $p$ are not summed over, the channel $c$ is added to a row, the offset $e$ is missing."),
    ("Eq. 3", "stride 1, padding and no bias are not said", r"$x_{(i,c,sa+d-p,sb+e-p)}$ or 0, $+$ bias",
     "$a + d$ leaves $1 \\ldots H$ at the borders, so an activation there is summed less often than one inside."),
    ("Eq. 3-6", r"$\omega_{(c,\hat{d}-\lfloor -\frac{K}{2} \rfloor, e-\lfloor -\frac{K}{2} \rfloor)}$",
     r"$\omega_{(c,d-\lfloor -\frac{K}{2} \rfloor, e-\lfloor -\frac{K}{2} \rfloor)}^{\hat{c}}$",
     r"$\hat{d}$ is defined nowhere; Eq. 3 leaves out the output channel $\hat{c}$, too."),
    ("Eq. 7", r"$\frac{\ldots \hat{x}_{(i,c,a+d,b+e)}^{\sum}}{H \cdot W}$", r"$\frac{\ldots}{C \cdot H \cdot W}$",
     r"By Eq. 5 and 6 $\hat{x}^{\sum}$ is $C \cdot \mathbf{E}[w] \cdot \sigma$: the mean comes out $C$ times too large."),
    ("Eq. 7", r"$x_{(i,c,j+p+d)}^{input}$", r"$x_{(i,c,a+d,b+e)}^{input}$", "Three indices for a tensor of four."),
    ("Below Eq. 2", r"$x_{(a, j, k, p)}^{output}$", r"$x_{(i,\hat{c},a,b)}^{output}$",
     "Twice: $a$ is a row in Eq. 2 and means the image $i$ here."),
    ("Below Eq. 3", "same number of channel", r"any two numbers of channels, $C_{in}$ and $C_{out}$",
     r"Nothing needs it: $C$ is $C_{in}$ in the sum over $c$, $C_{out}$ in that over $\hat{c}$ and in the divisor."),
    ("A.3", r"only requires  $1 - \alpha$  times", "in expectation, in code that skips zeros", "Dense code skips none."),
    ("F.4", "which is zero since the architecture is initialized", r"of mean zero and size $\sqrt{\mathrm{Var}(w)/C}$",
     r"LN's mean is $1/\sqrt{C}$ of IN's in size: a quarter for $C = 16$."),
    ("F.4", "reduce the number of activation values involved", r"reduce the size of their weights, by $\sqrt{C}$ against IN",
     r"IN, GN and LN sum the same $C \cdot H \cdot W$ activations of an image, BN those of all images."),
    ("F.5", "App. A.2", "App. A.3", "A.3 analyses the cost of SAM."),
])  # fmt: skip
