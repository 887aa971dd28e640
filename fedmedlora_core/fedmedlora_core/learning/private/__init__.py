"""DP-SGD on an adapter (PROTOCOL §4.13): who is drawn, whose gradient, how much of it, and the noise.

* `draws`: numbers with exact probabilities, and Gaussian noise, from one keystream.
* `units`: patients or documents, each with its training examples; one of them is a row of a step.
* `gradients`: the gradient of every row of a batch, by Opacus.
* `clipped_sum`: their bounded sum, exact on a grid, and the noise on the same grid.
* `training`: the loop. `self_test`: what must hold before its first step.

What is not here: what the training costs and whether the site may afford it (the site's ledger).
"""
