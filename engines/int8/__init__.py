"""int8: convolutions in 8 bits, calibrated on pictures; on a CPU, only what was measured and accepted is ever run."""
