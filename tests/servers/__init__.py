"""Servers that stand for cameras: real protocols on the loopback interface, with faults on demand."""
