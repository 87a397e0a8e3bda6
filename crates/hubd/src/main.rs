//! hubd
fn main() {}
