//! The cost of a tap.

fn main() {}
