"""Deep Dream: a classifier turned around. Its weights stay, and the picture is trained as if it were the weights, until a layer, a channel
or a class of the network answers more strongly: what the network has learnt to see then stands in the picture. objective.py has what is
asked for and its gradient, ascent.py how the picture is changed.

A. Mordvintsev, C. Olah & M. Tyka 2015, "Inceptionism: Going deeper into neural networks" (research.google/blog), with the program that they
published; for classes K. Simonyan, A. Vedaldi & A. Zisserman 2014, "Deep inside convolutional networks" (arXiv 1312.6034), section 2.

    net = SqueezeNet.pretrained()
    dreamt = dream(net, read_picture("cat.png")[None] / np.float32(255), [Objective("features.7")])
"""

from scratchnn.models.dream.ascent import NORMALISATIONS, Dream, Dreaming, dream, normalised, roughness, step
from scratchnn.models.dream.objective import GRID, LEAST_TILE, Objective, activations, answers, channels, gradient, layers, score

__all__ = ["GRID", "LEAST_TILE", "NORMALISATIONS", "Dream", "Dreaming", "Objective", "activations", "answers", "channels", "dream",
           "gradient", "layers", "normalised", "roughness", "score", "step"]
