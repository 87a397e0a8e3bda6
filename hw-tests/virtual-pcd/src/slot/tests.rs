//! A slot and the chips in it, over real connections.

use super::*;

fn open() -> Arc<Slot> {
    Arc::new(Slot::open(0, Model::Plain).unwrap())
}

fn connect(slot: &Slot) -> TcpStream {
    let chip = TcpStream::connect(slot.address).unwrap();
    chip.set_read_timeout(Some(Duration::from_secs(10)))
        .unwrap();
    chip
}

fn wait_until(what: &str, is_true: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !is_true() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(2));
    }
}

/// As the resource manager's watcher does: looks, and waits.
fn watch(slot: &Slot) -> bool {
    let is_present = slot.is_present();
    slot.wait_for_change(Duration::ZERO);
    is_present
}

fn hear(chip: &mut TcpStream) -> Vec<u8> {
    let mut length = [0; 2];
    chip.read_exact(&mut length).unwrap();
    let mut message = vec![0; usize::from(u16::from_be_bytes(length))];
    chip.read_exact(&mut message).unwrap();
    message
}

fn say(chip: &mut TcpStream, message: &[u8]) {
    chip.write_all(&(message.len() as u16).to_be_bytes())
        .unwrap();
    chip.write_all(message).unwrap();
}

/// Answers one command with `answer` as the chip's side does, and expects `expect` of it.
#[track_caller]
fn check(answer: impl FnOnce(TcpStream) + Send + 'static, expect: Result<Vec<u8>, Silence>) {
    let slot = open();
    let chip = connect(&slot);
    wait_until("the chip is present", || slot.is_present());
    let chip = thread::spawn(move || answer(chip));
    assert_eq!(slot.transmit(&[0xFF, 0xCA, 0, 0, 0]), expect);
    chip.join().unwrap();
    slot.close();
}

#[test]
fn an_answer_is_handed_over_as_it_is() {
    let answer = |mut chip: TcpStream| {
        assert_eq!(hear(&mut chip), [0xFF, 0xCA, 0, 0, 0]);
        say(&mut chip, &[0x72, 0xBF, 0x99, 0x61, 0x90, 0x00]);
    };
    check(answer, Ok(vec![0x72, 0xBF, 0x99, 0x61, 0x90, 0x00]));
    let short = |mut chip: TcpStream| {
        hear(&mut chip);
        say(&mut chip, &[]);
    };
    check(short, Ok(vec![]));
}

#[test]
fn an_answer_that_comes_byte_by_byte_is_put_together() {
    let answer = |mut chip: TcpStream| {
        hear(&mut chip);
        for byte in [0, 2, 0x90, 0x00] {
            chip.write_all(&[byte]).unwrap();
            thread::sleep(Duration::from_millis(20));
        }
    };
    check(answer, Ok(vec![0x90, 0x00]));
}

#[test]
fn a_chip_that_leaves_in_mid_command_is_torn() {
    let answer = |mut chip: TcpStream| {
        hear(&mut chip);
    };
    check(answer, Err(Silence::Torn));
    let half_answer = |mut chip: TcpStream| {
        hear(&mut chip);
        chip.write_all(&[0, 6, 0x72]).unwrap();
    };
    check(half_answer, Err(Silence::Torn));
}

#[test]
fn a_chip_that_says_nothing_is_given_up_and_the_next_one_works() {
    let slot = open();
    let mut mute = connect(&slot);
    wait_until("the chip is present", || slot.is_present());
    assert_eq!(slot.power_up(), Err(Silence::TooSlow));
    slot.wait_for_change(Duration::ZERO);
    wait_until("the mute chip is gone", || !watch(&slot));
    let mut next = connect(&slot);
    wait_until("the next chip is present", || slot.is_present());
    // A late answer of the first chip is not taken for one of the second.
    let _ = mute.write_all(&[0, 1, 0x3B]);
    let asked = thread::spawn({
        let slot = Arc::clone(&slot);
        move || slot.power_up()
    });
    assert_eq!(hear(&mut next), [POWER_ON]);
    assert_eq!(hear(&mut next), [GET_ATR]);
    say(&mut next, &[0x3B, 0x80, 0x80, 0x01, 0x01]);
    assert_eq!(
        asked.join().unwrap(),
        Ok(vec![0x3B, 0x80, 0x80, 0x01, 0x01])
    );
    slot.close();
}

#[test]
fn a_second_chip_waits_until_the_first_is_gone_and_the_gap_is_seen() {
    let slot = open();
    slot.wait_for_change(Duration::ZERO);
    let first = connect(&slot);
    let mut second = connect(&slot);
    wait_until("the first chip is present", || watch(&slot));
    drop(first);
    wait_until("the gap is seen", || !watch(&slot));
    wait_until("the second chip is present", || slot.is_present());
    let asked = thread::spawn({
        let slot = Arc::clone(&slot);
        move || slot.transmit(&[0xFF, 0xCA, 0, 0, 0])
    });
    hear(&mut second);
    say(&mut second, &[0x90, 0x00]);
    assert_eq!(asked.join().unwrap(), Ok(vec![0x90, 0x00]));
    slot.close();
}

#[test]
fn a_look_before_a_chip_is_powered_down_closes_no_gap() {
    let slot = open();
    slot.wait_for_change(Duration::ZERO);
    let first = connect(&slot);
    wait_until("the first chip is present", || watch(&slot));
    drop(first);
    let _second = connect(&slot);
    thread::scope(|other| {
        let looks = other.spawn(|| wait_until("the field is empty", || !slot.is_present()));
        looks.join().unwrap();
    });
    // The watcher powers chips down, too, and looks before it does.
    assert!(!slot.is_present(), "the gap was closed by another's look");
    assert!(!slot.is_present(), "the gap was closed by a look alone");
    slot.wait_for_change(Duration::ZERO);
    wait_until("the second chip is present", || slot.is_present());
    slot.close();
}

#[test]
fn a_chip_that_leaves_before_its_first_power_closes_no_gap() {
    let slot = open();
    slot.wait_for_change(Duration::ZERO);
    let first = connect(&slot);
    wait_until("the first chip is present", || slot.is_present());
    drop(first);
    let _second = connect(&slot);
    wait_until("it is gone", || !slot.is_present());
    slot.wait_for_change(Duration::ZERO);
    assert!(
        !slot.is_present(),
        "a look before the first power closed the gap"
    );
    slot.wait_for_change(Duration::ZERO);
    wait_until("the second chip is present", || slot.is_present());
    slot.close();
}

#[test]
fn waiting_ends_with_a_change_a_stop_or_the_time() {
    let slot = open();
    slot.wait_for_change(Duration::from_millis(20));
    let waiting = thread::spawn({
        let slot = Arc::clone(&slot);
        move || slot.wait_for_change(Duration::from_secs(60))
    });
    let chip = connect(&slot);
    waiting.join().unwrap();
    slot.stop_waiting();
    slot.wait_for_change(Duration::from_secs(60));
    drop(chip);
    slot.wait_for_change(Duration::from_secs(60));
    slot.close();
}

#[test]
fn without_a_chip_nothing_is_asked() {
    let slot = open();
    assert_eq!(slot.transmit(&[0; 5]), Err(Silence::Absent));
    assert_eq!(slot.reset(), Err(Silence::Absent));
    slot.power_down();
    slot.close();
    slot.close();
}
