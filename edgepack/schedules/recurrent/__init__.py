"""Kernels of recurrent layers (LSTM, GRU, RNN): a loop over time, written for a CPU's vectors or a GPU's threads.

A kernel is not made of blocks that TVM's schedule primitives could transform: each step reads what the one before it wrote.
It carries its layer as an attribute, and scheduling it means to write it again for the target.

Imports: spec.
"""
