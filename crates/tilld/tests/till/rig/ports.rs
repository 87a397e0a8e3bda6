//! The ports of one canteen.

use std::net::TcpListener;
use std::sync::atomic::{AtomicU16, Ordering};

#[derive(Debug, Clone, Copy)]
pub(super) struct Ports {
    pub(super) hub: u16,
    pub(super) page: u16,
    pub(super) gateway: u16,
    pub(super) reader: u16,
    pub(super) door: u16,
}

impl Ports {
    /// Below the ports that the OS gives to outgoing connections, and apart from those of other
    /// tests of this process.
    pub(super) fn draw() -> Ports {
        static DRAWN: AtomicU16 = AtomicU16::new(0);
        loop {
            let turn = DRAWN.fetch_add(PORTS, Ordering::Relaxed);
            let own = u16::try_from(std::process::id() % 500).unwrap() * 20;
            let first = 12_000 + (own + turn) % 10_000;
            let are_free =
                (first..first + PORTS).all(|port| TcpListener::bind(("127.0.0.1", port)).is_ok());
            if are_free {
                return Ports {
                    hub: first,
                    page: first + 1,
                    gateway: first + 2,
                    reader: first + 3,
                    // The reader has two slots.
                    door: first + 5,
                };
            }
        }
    }
}

const PORTS: u16 = 6;
