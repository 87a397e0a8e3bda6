//! hub-ledger
