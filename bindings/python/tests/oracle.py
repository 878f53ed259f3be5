"""A convolution in double precision, written as the definition is."""

import numpy as np


def conv2d(x, weights, *, groups=1, stride=(1, 1), padding=(0, 0, 0, 0), dilation=(1, 1), bias=None):
    """NCHW; the padding is that at the top, at the left, at the bottom and at the right."""
    top, left, bottom, right = padding
    x = np.pad(np.asarray(x, np.float64), ((0, 0), (0, 0), (top, bottom), (left, right)))
    weights = np.asarray(weights, np.float64)
    outputs, inputs, kh, kw = weights.shape
    height = (x.shape[2] - dilation[0] * (kh - 1) - 1) // stride[0] + 1
    width = (x.shape[3] - dilation[1] * (kw - 1) - 1) // stride[1] + 1
    y = np.zeros((len(x), outputs, height, width))
    for o in range(outputs):
        first = o // (outputs // groups) * inputs
        for i in range(height):
            for j in range(width):
                rows = slice(i * stride[0], i * stride[0] + dilation[0] * (kh - 1) + 1, dilation[0])
                columns = slice(j * stride[1], j * stride[1] + dilation[1] * (kw - 1) + 1, dilation[1])
                y[:, o, i, j] = (x[:, first : first + inputs, rows, columns] * weights[o]).sum((1, 2, 3))
    return y if bias is None else y + np.asarray(bias, np.float64)[:, None, None]
