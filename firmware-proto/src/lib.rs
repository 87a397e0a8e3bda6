#![no_std]
//! firmware-proto
