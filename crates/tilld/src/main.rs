//! tilld
fn main() {}
