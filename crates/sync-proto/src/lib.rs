//! sync-proto
