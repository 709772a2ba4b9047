"""Python-based Triton backends under the names of NVIDIA's native ones: the same repository loads with both."""
