//! The line between till and hub, as bad as a test wants it.
//!
//! It forwards bytes and looks at nothing but the first line of each request: the till sends one
//! request at a time on a connection, so what comes after an answer is a request's beginning.

use std::io::{self, Read, Write};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;

/// What becomes of a request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Way {
    /// It reaches the hub, and the answer comes back.
    Through,
    /// Of the requests that carry entries, the hub sees all, and the answers to the first, the
    /// `n+1`th, … are lost.
    AnswersLost {
        /// Every which answer is lost.
        every: u32,
    },
    /// All requests are answered by these bytes, and the connection is closed.
    Says(Vec<u8>),
    /// Half of each of the hub's answers arrives, and the connection is closed.
    CutInHalf,
    /// Nothing is packed, and what one side says is replaced by as many other bytes in every answer.
    Rewrites {
        /// What the hub says.
        from: &'static str,
        /// What the till hears.
        to: &'static str,
    },
    /// Nothing ever comes back, and the connection stays open.
    Silence,
}

/// A line to a hub on this machine.
#[derive(Debug)]
pub(crate) struct Link {
    port: u16,
    state: Arc<Mutex<State>>,
}

#[derive(Debug)]
struct State {
    way: Way,
    hub: u16,
    /// Requests that carry entries, and others, since the way was set.
    batches: u32,
    others: u32,
    lost: u32,
    rewritten: u32,
    connections: Vec<TcpStream>,
}

impl Link {
    /// A line to the hub on a port.
    pub(crate) fn to(hub: u16) -> Link {
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let state = Arc::new(Mutex::new(State {
            way: Way::Through,
            hub,
            batches: 0,
            others: 0,
            lost: 0,
            rewritten: 0,
            connections: Vec::new(),
        }));
        // Ends with the test's process; until then it holds nothing but its port.
        thread::spawn({
            let state = Arc::clone(&state);
            move || {
                for till in listener.incoming().flatten() {
                    let state = Arc::clone(&state);
                    thread::spawn(move || serve(till, &state));
                }
            }
        });
        Link { port, state }
    }

    /// Where the till finds it.
    pub(crate) fn port(&self) -> u16 {
        self.port
    }

    /// From now on requests go this way; open connections are cut.
    pub(crate) fn set(&self, way: Way) {
        let mut state = lock(&self.state);
        (state.way, state.batches, state.others, state.rewritten) = (way, 0, 0, 0);
        for connection in state.connections.drain(..) {
            // It is closed already when the till has gone.
            let _ = connection.shutdown(Shutdown::Both);
        }
    }

    /// How many requests carried entries since the way was set.
    pub(crate) fn batches(&self) -> u32 {
        lock(&self.state).batches
    }

    /// How many other requests came since the way was set.
    pub(crate) fn others(&self) -> u32 {
        lock(&self.state).others
    }

    /// How often it has rewritten something since the way was set.
    pub(crate) fn rewritten(&self) -> u32 {
        lock(&self.state).rewritten
    }

    /// How many answers it has lost.
    pub(crate) fn lost(&self) -> u32 {
        lock(&self.state).lost
    }
}

/// The till's offer to unpack, and one that no hub takes.
const PACKED: &str = "accept-encoding: zstd";
const PLAIN: &str = "accept-encoding: none";

/// What to do about one request.
#[derive(Debug, Clone)]
enum Fate {
    Answered,
    AnswerLost,
    AnswerCut,
    AnswerRewritten {
        from: &'static str,
        to: &'static str,
    },
    Said(Vec<u8>),
    Silent,
}

fn serve(mut till: TcpStream, state: &Arc<Mutex<State>>) {
    lock(state).connections.extend(till.try_clone());
    // Whatever ends the conversation, both sides see a closed connection.
    let _ = carry_requests(&mut till, state);
    let _ = till.shutdown(Shutdown::Both);
}

fn carry_requests(till: &mut TcpStream, state: &Arc<Mutex<State>>) -> io::Result<()> {
    till.set_nodelay(true)?;
    let current = Arc::new(Mutex::new(Fate::Answered));
    let mut hub: Option<TcpStream> = None;
    let mut room = vec![0; 1 << 16];
    loop {
        let length = till.read(&mut room)?;
        if length == 0 {
            return hub.map_or(Ok(()), |hub| hub.shutdown(Shutdown::Both));
        }
        let mut request = room.get(..length).unwrap_or_default().to_vec();
        match fate(&request, state) {
            Some(Fate::Said(bytes)) => return till.write_all(&bytes),
            Some(Fate::Silent) => {
                while till.read(&mut room)? > 0 {}
                return Ok(());
            }
            Some(fate) => {
                if let Fate::AnswerRewritten { .. } = fate {
                    rewrite(&mut request, PACKED, PLAIN);
                }
                *current.lock().unwrap_or_else(PoisonError::into_inner) = fate;
            }
            None => {}
        }
        let hub = match &mut hub {
            Some(hub) => hub,
            None => hub.insert(connect(till, state, &current)?),
        };
        hub.write_all(&request)?;
    }
}

fn connect(
    till: &TcpStream,
    state: &Arc<Mutex<State>>,
    current: &Arc<Mutex<Fate>>,
) -> io::Result<TcpStream> {
    let port = lock(state).hub;
    let hub = TcpStream::connect((Ipv4Addr::LOCALHOST, port))?;
    hub.set_nodelay(true)?;
    let (mut till, mut from) = (till.try_clone()?, hub.try_clone()?);
    let (state, current) = (Arc::clone(state), Arc::clone(current));
    thread::spawn(move || {
        // The end of the answers is the end of the connection.
        let _ = carry_answers(&mut from, &mut till, &state, &current);
        let _ = till.shutdown(Shutdown::Both);
        let _ = from.shutdown(Shutdown::Both);
    });
    Ok(hub)
}

fn carry_answers(
    hub: &mut TcpStream,
    till: &mut TcpStream,
    state: &Mutex<State>,
    current: &Mutex<Fate>,
) -> io::Result<()> {
    let mut room = vec![0; 1 << 16];
    loop {
        let length = hub.read(&mut room)?;
        let answer = room.get(..length).unwrap_or_default();
        if answer.is_empty() {
            return Ok(());
        }
        let fate = current
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        match fate {
            Fate::Answered | Fate::Said(_) | Fate::Silent => till.write_all(answer)?,
            Fate::AnswerLost => {
                lock(state).lost += 1;
                return Ok(());
            }
            Fate::AnswerRewritten { from, to } => {
                let mut answer = answer.to_vec();
                lock(state).rewritten += rewrite(&mut answer, from, to);
                till.write_all(&answer)?;
            }
            Fate::AnswerCut => {
                return till.write_all(answer.get(..length / 2).unwrap_or_default());
            }
        }
    }
}

/// `None` for what is not the beginning of a request.
fn fate(request: &[u8], state: &Mutex<State>) -> Option<Fate> {
    let is_batch = request.starts_with(b"POST ") && first_line(request).contains("/batches");
    if !is_batch && !request.starts_with(b"GET ") && !request.starts_with(b"POST ") {
        return None;
    }
    let mut state = lock(state);
    if is_batch {
        state.batches += 1;
    } else {
        state.others += 1;
    }
    Some(match state.way.clone() {
        Way::Through => Fate::Answered,
        Way::AnswersLost { every } if is_batch => {
            if (state.batches - 1).is_multiple_of(every) {
                Fate::AnswerLost
            } else {
                Fate::Answered
            }
        }
        Way::AnswersLost { .. } => Fate::Answered,
        Way::Says(bytes) => Fate::Said(bytes),
        Way::CutInHalf => Fate::AnswerCut,
        Way::Rewrites { from, to } => Fate::AnswerRewritten { from, to },
        Way::Silence => Fate::Silent,
    })
}

/// Replaces a text by another of the same length, and tells how often.
fn rewrite(bytes: &mut [u8], from: &str, to: &str) -> u32 {
    assert_eq!(from.len(), to.len(), "{from:?} and {to:?} differ in length");
    let mut times = 0;
    for begin in 0..bytes.len() {
        if let Some(found) = bytes.get_mut(begin..begin + from.len())
            && found.eq_ignore_ascii_case(from.as_bytes())
        {
            found.copy_from_slice(to.as_bytes());
            times += 1;
        }
    }
    times
}

fn first_line(request: &[u8]) -> String {
    let line = request.split(|&byte| byte == b'\r').next();
    String::from_utf8_lossy(line.unwrap_or_default()).into_owned()
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}
