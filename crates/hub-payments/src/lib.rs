//! hub-payments
