//! till-control
