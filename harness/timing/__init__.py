"""Timing what Table 2 counts: native engine and peers side by side in one run."""

#: part of what a timing means; raise it when the protocol changes
PROTOCOL = 4

#: kinds of evaluation, in the order of Table 2
KINDS = ("inner_gradient", "outer_gradient", "hessian_vector_product", "mixed_product")
