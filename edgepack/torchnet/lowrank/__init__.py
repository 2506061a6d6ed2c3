"""Layers of lower rank: factors of their weights, what each rank costs and keeps, and the layers that hold the factors.

Imports: errors, torchnet.layers, torchnet.stored.
"""
