use std::io::{self, Read, Write};
use std::sync::mpsc::{self, Receiver, Sender};

use super::*;
use crate::NumberFormat;
use crate::keyboard::typed;

/// What a fake line does next; nothing for a moment when there is nothing to do.
enum Deed {
    Say(Vec<u8>),
    Panic,
    /// Says that it hangs, until it is told otherwise.
    Hang(Sender<()>, Receiver<()>),
}

struct Fake(Arc<Mutex<Receiver<Deed>>>);

impl Port for Fake {}

impl Read for Fake {
    fn read(&mut self, room: &mut [u8]) -> io::Result<usize> {
        let next = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let next = next.recv_timeout(Duration::from_millis(5));
        match next {
            Ok(Deed::Say(bytes)) => (&*bytes).read(room),
            Ok(Deed::Panic) => panic!("as the test wants it"),
            Ok(Deed::Hang(hangs, until)) => {
                hangs.send(()).unwrap();
                let _ = until.recv();
                Ok(0)
            }
            Err(_) => Err(io::ErrorKind::TimedOut.into()),
        }
    }
}

impl Write for Fake {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A line on which a reader types, by threads of the driver, and looked at by the test.
struct Bench {
    line: Arc<Line>,
    deeds: Sender<Deed>,
    told: Receiver<ReaderEvent>,
}

impl Bench {
    fn open() -> Bench {
        let (deeds, script) = mpsc::channel();
        let script = Arc::new(Mutex::new(script));
        Bench::with(deeds, move || Ok(Box::new(Fake(Arc::clone(&script)))))
    }

    fn with(
        deeds: Sender<Deed>,
        open: impl Fn() -> Result<Box<dyn Port>, ReaderFault> + Send + Sync + 'static,
    ) -> Bench {
        let (sender, told) = mpsc::channel();
        let sink = move |event| {
            let _ = sender.send(event);
        };
        let line = Arc::new(Line::with(
            Protocol::Keyboard(NumberFormat::DECIMAL),
            ReaderName("keyboard:fake".into()),
            Keyring::default(),
            Arc::new(sink),
            Box::new(open),
        ));
        line.start();
        Bench { line, deeds, told }
    }

    /// As the watchdog, so much later.
    fn look_after(&self, time: Duration) {
        Arc::clone(&self.line).look(Instant::now() + time);
    }

    #[track_caller]
    fn expect(&self, expect: &str) {
        let event = self.told.recv_timeout(Duration::from_secs(60)).unwrap();
        let said = match event {
            ReaderEvent::Ready { .. } => "ready".to_owned(),
            ReaderEvent::Faulty { fault, .. } => format!("{fault:?}"),
            ReaderEvent::Chip { identity, .. } => format!("{}", identity.chip().unwrap()),
            ReaderEvent::Left { .. } => "left".to_owned(),
            ReaderEvent::ReadAgain {
                token, identity, ..
            } => format!("again {token} {:?}", identity.unwrap_err()),
            other => format!("{other:?}"),
        };
        assert_eq!(said, expect);
    }

    /// Opened, with a chip in the field.
    fn with_chip() -> Bench {
        let bench = Bench::open();
        bench.expect("ready");
        bench.deeds.send(Deed::Say(typed("1925159265\n"))).unwrap();
        bench.expect("72BF9961");
        bench
    }
}

impl Drop for Bench {
    fn drop(&mut self) {
        self.line.stop();
    }
}

#[test]
fn a_driver_that_panics_is_told_and_works_again() {
    let bench = Bench::with_chip();
    bench.deeds.send(Deed::Panic).unwrap();
    bench.expect("left");
    bench.expect("BrokeDown");
    bench.expect("ready");
    bench.deeds.send(Deed::Say(typed("0006547886\n"))).unwrap();
    bench.expect("0063E9AE");
    let state = bench.line.listing().state;
    assert_eq!(state, ReaderState::Ready);
}

#[test]
fn a_line_that_is_missing_for_long_is_missing_and_does_not_hang() {
    let (opens, has_opened) = mpsc::channel();
    let bench = Bench::with(mpsc::channel().0, move || {
        let _ = opens.send(());
        Err(ReaderFault::LineMissing {
            path: "/dev/nothing".into(),
        })
    });
    let tried = || has_opened.recv_timeout(Duration::from_secs(60)).unwrap();
    tried();
    bench.expect("LineMissing { path: \"/dev/nothing\" }");
    let seen = Instant::now();
    // What was tried after that moment was tried by a thread that lives.
    (0..3).for_each(|_| tried());
    Arc::clone(&bench.line).look(seen + HUNG_AFTER);
    let state = bench.line.listing().state;
    let path = "/dev/nothing".into();
    let missing = ReaderFault::LineMissing { path };
    assert_eq!(state, ReaderState::Faulty(missing));
    assert_eq!(bench.line.turn().hung, 0);
}

#[test]
fn a_driver_that_hangs_is_told_and_loses_its_line() {
    let bench = Bench::with_chip();
    let (wake, until) = mpsc::channel();
    let (hangs, has_hung) = mpsc::channel();
    bench.deeds.send(Deed::Hang(hangs, until)).unwrap();
    has_hung.recv_timeout(Duration::from_secs(60)).unwrap();
    bench.look_after(Duration::ZERO);
    bench.look_after(HUNG_AFTER + Duration::from_secs(60));
    bench.expect("left");
    bench.expect("Blocked { seconds: 5 }");
    bench.line.read_again(1);
    bench.look_after(ANSWER_TIME + Duration::from_secs(1));
    bench.expect("again 1 ReaderFaulty");
    assert_eq!(bench.line.turn().hung, 1);
    // The script is locked by the thread that hangs, like a line.
    drop(wake);
    bench.expect("ready");
    bench.deeds.send(Deed::Say(typed("0006547886\n"))).unwrap();
    bench.expect("0063E9AE");
    while bench.line.turn().hung > 0 {
        std::thread::sleep(Duration::from_millis(5));
    }
}

#[test]
fn no_more_threads_are_risked_when_several_hang() {
    let (deeds, _) = mpsc::channel();
    let (wake, until) = mpsc::channel::<()>();
    let (opened, opens) = mpsc::channel();
    let until = Arc::new(Mutex::new(until));
    let bench = Bench::with(deeds, move || {
        opened.send(()).unwrap();
        let _ = until.lock().unwrap().recv();
        Err(ReaderFault::Lost)
    });
    for hung in 1..=MOST_HUNG + 1 {
        opens.recv_timeout(Duration::from_secs(60)).unwrap();
        bench.look_after(HUNG_AFTER + Duration::from_secs(60 * hung as u64));
        assert_eq!(bench.line.turn().hung, hung);
    }
    bench.look_after(HUNG_AFTER + Duration::from_secs(6000));
    assert_eq!(bench.line.turn().hung, MOST_HUNG + 1);
    assert!(!bench.line.turn().has_thread);
    bench.expect("Blocked { seconds: 5 }");
    let (done, reports) = mpsc::channel();
    let reply: Reply = Box::new(move |report| done.send(report.is_err()).unwrap());
    bench.line.work_on_chip(ChipTask::Look, reply);
    bench.look_after(Duration::ZERO);
    assert_eq!(reports.recv_timeout(Duration::from_secs(60)), Ok(true));
    // As soon as one comes back, another thread has the line.
    wake.send(()).unwrap();
    while bench.line.turn().hung > MOST_HUNG {
        std::thread::sleep(Duration::from_millis(5));
    }
    bench.look_after(Duration::ZERO);
    opens.recv_timeout(Duration::from_secs(60)).unwrap();
    drop(wake);
}
