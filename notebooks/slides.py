"""The slides of the lesson: ten figures that tell the story, one finding each, on a page that opens from disk."""

import base64
from collections.abc import Callable
from html import escape
from pathlib import Path
from typing import NamedTuple

WEB = Path(__file__).with_name("web")


class Slide(NamedTuple):
    """A figure, the finding that is its title, what the figure shows (for those who do not see it), and where to look."""

    figure: str
    finding: str
    shows: str
    look: str

    @property
    def notebook(self) -> str:
        """The number of the notebook that draws the figure."""
        return self.figure[:2]


SLIDES = (
    Slide(
        "00_two_cells",
        "Plain NWOT prefers the less accurate of two untrained cells. NCD prefers the other one.",
        "Two cells, all 1x1 and all 3x3 convolutions, with accuracy and scores above them",
        "Above each cell: its accuracy, then its two scores. Which way does each score point?",
    ),
    Slide(
        "00_kernel",
        "NWOT is high where the images' codes agree on few units.",
        "Two matrices of the share of units on which two of eight images agree, for digits and for a coin",
        "Left, digits; right, a coin. The fewer units agree, the larger the log-determinant of the matrix.",
    ),
    Slide(
        "01_negative_correlation",
        "On CIFAR-10 the plain scores rank worse as cells have more convolutions, and backwards at six.",
        "Rank correlation with accuracy over the number of convolutions, for NWOT and SWAP by four methods",
        "The grey line, from left to right. The blue one is NCD; stars are the paper's numbers.",
    ),
    Slide(
        "01_mask_rates",
        "A high mask rate makes the correlation positive. Too high a rate reverses cells without convolutions.",
        "Rank correlation over the mask rate, for cells with 0, 3 and 6 convolutions",
        "Where does the line of six convolutions cross zero? What does the line of none do at the right end?",
    ),
    Slide(
        "03_noise_or_sparsity",
        "The zeros of a mask turn the ranking. Noise without zeros does a part for NWOT, and nothing clear for SWAP.",
        "Rank correlation under several kinds of noise and mask, as points with intervals",
        "Compare Gaussian noise, one mask for the whole batch, and copies of one image under a mask.",
    ),
    Slide(
        "04_six",
        "LayerNorm in BatchNorm's place (NIR) makes the plain scores rank neither way.",
        "Rank correlation under several normalisations, for two data sets and for the number of 3x3 convolutions",
        "Go from BatchNorm to NIR: towards zero, from below on CIFAR-10 and from above on ImageNet16-120.",
    ),
    Slide(
        "01_all_cells",
        "On ImageNet16-120 the plain scores stay positive: the negative correlation is not general.",
        "Rank correlation over the number of convolutions on three data sets, plain and NCD",
        "The right column, at six convolutions. The cells are the same in all three columns.",
    ),
    Slide(
        "15_line",
        "The sign is the target's: the more it rewards 3x3 convolutions, the lower plain NWOT and the higher NCD.",
        "Rank correlation of the score over that of the number of 3x3 convolutions, one point per target",
        "Each point is a data set or an attack. One line falls and one rises; the ring is the paper's case.",
    ),
    Slide(
        "16_border",
        "The cause is the border: zero padding under BatchNorm makes codes alike, the more so the larger the kernel.",
        "Maps of the share of units on which two images differ, predicted and measured, for kernels of 1x1 to 7x7",
        "The frame grows with the kernel. Inside, half of the units differ with any kernel.",
    ),
    Slide(
        "05_found",
        "On CIFAR, searches with NCD find better cells than the plain scores. Counting parameters finds as good ones.",
        "Accuracy that searches find, by score and method, on three data sets and a second training",
        "Compare plain, NCD and the count of parameters. The dashed line is the best cell.",
    ),
)


def picture(slide: Slide, root: Path, say: Callable[[str], object]) -> str:
    """The figure of a slide, in the page; where its file is missing, a paragraph that says so."""
    path = root / "figures" / f"{slide.figure}.png"
    if not path.is_file():
        told = f"figures/{path.name} is missing: ./run_all.sh {slide.notebook} draws it"
        say(f"slides.html: {told}")
        return f'<p class="notice">{escape(told)}</p>'
    data = base64.b64encode(path.read_bytes()).decode()
    return f'<div class="wide"><img alt="{escape(slide.shows)}" src="data:image/png;base64,{data}"></div>'


def page(root: Path, say: Callable[[str], object]) -> tuple[str, str]:
    """The body of the page, and its script."""
    parts = [
        f'<section id="slide-{i}"><h2>{escape(slide.finding)}</h2>'
        f"{picture(slide, root, say)}<p>{escape(slide.look)}</p></section>"
        for i, slide in enumerate(SLIDES, 1)
    ]
    turn = (
        '<button type="button">Back</button><span id="count" aria-live="polite"></span><button type="button">Next</button>'
    )
    script = (WEB / "slides.js").read_text("utf-8")
    body = f'<p id="message" role="alert"></p><div id="deck">{"".join(parts)}</div><div id="turn">{turn}</div>'
    return f"{body}<script>{script}</script>", script
