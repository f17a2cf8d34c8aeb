"""# A Rust program

Everything in Python is made of a Rust library, which works alone.
This program reads random patches through a queue, trains the smallest model there is, and tries
it on a whole volume.
"""

# %% [rust] examples/train_classifier.rs

# %% [markdown]
# `cargo doc --open` shows the reference of the library.
# The other programs in `examples/` read patches, blend predictions, write and verify stores.
