//! The `voxquarry` command.
fn main() {}
