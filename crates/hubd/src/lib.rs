//! The central server: takes in what tills have sold, keeps the accounts, tells tills what changed,
//! charges automatic top-ups, delivers notices, and serves operators and integrators.

pub mod access;
mod api;
mod body;
pub mod books;
pub mod config;
pub mod courier;
pub mod exposure;
pub mod hub_key;
pub mod load;
pub mod marker;
mod notice;
mod pages;
pub mod problem;
pub mod pull;
pub mod server;
pub mod worker;

pub use api::open_api;
