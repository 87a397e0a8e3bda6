//! The ledger through its public face, on real files.

mod offline_balance;
mod world;
