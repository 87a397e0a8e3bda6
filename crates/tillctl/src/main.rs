//! tillctl
fn main() {}
