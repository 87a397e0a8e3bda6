//! The reader bench: rigs of real and virtual chip readers, and the behaviours that each must show.
//!
//! A rig is a file of `rigs/`. Virtual rigs always run: PC/SC through the real pcscd
//! ([`pcscd`], [`vpcd_card`]), serial readers ([`device`]) through a pseudo-terminal
//! ([`pty_reader`]), readers that type ([`keyboard`]) in a small virtual machine ([`machine`]).
//! Real ones run when they are connected, and are skipped aloud when not.

pub mod archive;
pub mod behaviour;
pub mod bench;
pub mod card_port;
pub mod device;
pub mod dice;
pub mod hands;
pub mod idle;
pub mod keyboard;
pub mod machine;
pub mod pcscd;
pub mod proof_cost;
pub mod pty_reader;
pub mod rig;
pub mod stations;
pub mod table;
pub mod typed_day;
pub mod typed_speed;
pub mod vpcd_card;
pub mod wire;
pub mod workday;
