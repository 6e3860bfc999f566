"""The theory of Ji, Lee, Liang and Poor 2020: its bounds, estimates of the constants in them, and fits to K(N)."""
