"""The GPU: what the driver says of it, memory, streams, graphs and kernels, by cuda-python or pycuda."""
