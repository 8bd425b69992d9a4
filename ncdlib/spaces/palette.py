"""Eight colours that are told apart with any kind of colour vision (Okabe & Ito 2008)."""

BLUE, SKY, GREEN, ORANGE = "#0072B2", "#56B4E9", "#009E73", "#E69F00"
VERMILLION, PURPLE, GREY, BLACK = "#D55E00", "#CC79A7", "#666666", "#000000"
