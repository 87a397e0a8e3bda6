//! The reader bench: rigs of real and virtual chip readers, and the behaviours that each must show.

pub mod pcscd;
pub mod vpcd_card;
