"""Training and prediction with LoRA adapters; the only package of the library that needs torch.

Importing this package or `learning.digest` loads no torch; every other module of it does.
"""
