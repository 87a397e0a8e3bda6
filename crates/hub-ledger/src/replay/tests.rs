use std::time::Duration;

use proptest::prelude::*;

use super::*;
use crate::testbed::{Bed, NOW, TestTill, kr, ore, sale, void};
use crate::{Correction, LimitsChange, Reach, Refund};

fn flags(bed: &Bed) -> Vec<String> {
    let flags = bed
        .ledger
        .list_flags(Reach::Everything, None, i64::MAX, 500);
    let mut flags: Vec<String> = flags
        .unwrap()
        .into_iter()
        .map(|flag| {
            let till = flag.till.unwrap_or_default();
            let account = flag.account.map_or(0, |account| account.0);
            let seq = flag.seq.unwrap_or_default();
            format!("{} {till} {seq} {account} {}", flag.code, flag.detail)
        })
        .collect();
    flags.sort();
    flags
}

fn limit_day(bed: &mut Bed, account: AccountId, limit: Option<i32>, now: Timestamp) {
    let limits = LimitsChange {
        day: Some(limit.map(kr)),
        ..LimitsChange::default()
    };
    bed.ledger.change_limits(account, limits, now).unwrap();
}

fn minutes(minutes: i64) -> Timestamp {
    NOW + jiff::SignedDuration::from_mins(minutes)
}

#[test]
fn lim_06_the_later_sale_is_flagged_whichever_arrives_first() {
    for late_first in [false, true] {
        let mut bed = Bed::new();
        let (account, chip) = bed.account(kr(1000));
        limit_day(&mut bed, account, Some(25), minutes(0));
        let mut one = bed.till("kasse-1");
        let mut two = bed.till("kasse-2");
        one.write_at(sale(account, chip, kr(20)), minutes(10));
        two.write_at(sale(account, chip, kr(20)), minutes(15));
        let (first, second) = match late_first {
            true => (&mut two, &mut one),
            false => (&mut one, &mut two),
        };
        bed.send(first, []);
        bed.send(second, []);
        let found = bed.ledger.list_flags(Reach::Everything, None, i64::MAX, 9);
        let found = found.unwrap();
        let [flag] = found.as_slice() else {
            panic!("{found:?}");
        };
        assert_eq!(
            (flag.code.as_str(), flag.till.as_deref(), flag.seq),
            (LIMIT_EXCEEDED, Some("kasse-2"), Some(1))
        );
    }
}

#[test]
fn a_void_that_arrives_late_takes_the_flag_of_a_later_sale_away() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(1000));
    limit_day(&mut bed, account, Some(25), minutes(0));
    let mut one = bed.till("kasse-1");
    let mut two = bed.till("kasse-2");
    let of = one.write_at(sale(account, chip, kr(20)), minutes(10));
    bed.send(&mut one, []);
    two.write_at(sale(account, chip, kr(20)), minutes(15));
    bed.send(&mut two, []);
    assert_eq!(bed.flags(), [LIMIT_EXCEEDED]);
    one.write_at(void(account, of, 1, kr(20)), minutes(12));
    bed.send(&mut one, []);
    assert_eq!(bed.flags(), [""; 0]);
}

#[test]
fn a_sale_is_held_against_the_limit_of_its_own_moment() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(1000));
    let mut till = bed.till("kasse-1");
    till.write_at(sale(account, chip, kr(40)), minutes(10));
    limit_day(&mut bed, account, Some(25), minutes(15));
    till.write_at(sale(account, chip, kr(1)), minutes(20));
    bed.send(&mut till, []);
    let found = bed.ledger.list_flags(Reach::Everything, None, i64::MAX, 9);
    let details: Vec<_> = found.unwrap().into_iter().map(|flag| flag.detail).collect();
    assert_eq!(details, ["41,00 kr. of the daily limit of 25,00 kr."]);
}

#[test]
fn a_deposit_of_the_afternoon_does_not_excuse_the_noon() {
    let mut bed = Bed::new();
    let (account, chip) = bed.account(kr(0));
    let mut till = bed.till("kasse-1");
    till.write_at(sale(account, chip, kr(10)), NOW + Duration::from_secs(60));
    let key = bed.key();
    let later = NOW + Duration::from_secs(3600);
    bed.ledger.deposit(account, kr(100), &key, later).unwrap();
    bed.send_at(&mut till, [], later);
    assert_eq!(bed.flags(), [OVERDRAWN]);
}

/// A sale: till, account, øre, minute, and whether it is taken back.
type Step = (usize, usize, i64, i64, bool);

fn write_all(bed: &Bed, tills: &mut [TestTill], script: &[Step]) {
    let accounts: Vec<(AccountId, i64)> = bed
        .ledger
        .list_accounts(Reach::Everything, None, AccountId(0), 9)
        .unwrap()
        .iter()
        .map(|row| (row.id, bed.ledger.chips_of(row.id).unwrap()[0].number))
        .collect();
    for (till, who, amount, minute, voided) in script {
        let (account, chip) = accounts[*who];
        let at = minutes(*minute + 1);
        let till = &mut tills[*till];
        let of = till.write_at(sale(account, chip, ore(*amount)), at);
        if *voided {
            let seq = till.last_seq();
            till.write_at(void(account, of, seq, ore(*amount)), at);
        }
    }
}

/// Delivers every till's entries, cut into pieces, in the order of the picks.
fn deliver(script: &[Step], picks: &[(usize, u64)]) -> (Vec<String>, Vec<Money>) {
    let mut bed = Bed::new();
    for balance in [30, 200] {
        let (account, _) = bed.account(kr(balance));
        limit_day(&mut bed, account, Some(60), minutes(0));
    }
    let mut tills: Vec<TestTill> = (1..=3).map(|n| bed.till(&format!("kasse-{n}"))).collect();
    write_all(&bed, &mut tills, script);
    let mut sent = [0_u64; 3];
    let rest = (0..3).map(|till| (till, u64::MAX));
    for (till, count) in picks.iter().copied().chain(rest) {
        let last = tills[till].last_seq().min(sent[till].saturating_add(count));
        if last > sent[till] {
            let batch = tills[till].batch(sent[till] + 1..=last);
            let (access, later) = (&tills[till].access, minutes(4 * 24 * 60));
            bed.ledger.ingest(access, &batch, later).unwrap().unwrap();
            sent[till] = last;
        }
    }
    bed.check_books();
    let balances = bed
        .ledger
        .list_accounts(Reach::Everything, None, AccountId(0), 9)
        .unwrap()
        .into_iter()
        .map(|row| row.balance)
        .collect();
    (flags(&bed), balances)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(32))]

    /// PT-3: the books and their flags are a function of the set of entries.
    #[test]
    fn sy_36_permuted_delivery_gives_the_same_books_and_flags(
        script in prop::collection::vec(
            (0usize..3, 0usize..2, 1i64..60_00, 0i64..3 * 24 * 60, any::<bool>()), 1..25),
        picks in prop::collection::vec((0usize..3, 1u64..6), 0..20),
    ) {
        let mut script = script;
        script.sort_by_key(|(.., minute, _)| *minute);
        let whole = deliver(&script, &[(2, u64::MAX), (1, u64::MAX)]);
        let permuted = deliver(&script, &picks);
        prop_assert_eq!(whole, permuted);
    }
}

/// Every flag that the order of things asks for, found from the first booking on by adding up.
fn added_up(bed: &Bed) -> Vec<(i64, &'static str, String)> {
    let db = &bed.ledger.db;
    let accounts = bed
        .ledger
        .list_accounts(Reach::Everything, None, AccountId(0), 9);
    let mut found = Vec::new();
    for account in accounts.unwrap() {
        let terms = Terms::of(db, &account).unwrap();
        let mut balance = Money::ZERO;
        let mut days = BTreeMap::new();
        let mut weeks = BTreeMap::new();
        let mut months = BTreeMap::new();
        let mut statement = db
            .prepare(
                "SELECT id, kind, day, happened_at, amount, from_account = holder, reference
                 FROM booking WHERE holder = ?1 ORDER BY day, happened_at, till, id",
            )
            .unwrap();
        let mut rows = statement.query([account.id.0]).unwrap();
        while let Some(row) = rows.next().unwrap() {
            let (id, kind): (i64, String) = (row.get(0).unwrap(), row.get(1).unwrap());
            let day: String = row.get(2).unwrap();
            let amount = ore(row.get(4).unwrap());
            let out: bool = row.get(5).unwrap();
            let moved = if out { ore(-amount.ore()) } else { amount };
            balance = balance.checked_add(moved).unwrap();
            let counts = match kind.as_str() {
                "sale" | "order" | "void" => true,
                "refund" => {
                    let sale: String = row.get(6).unwrap();
                    let sql = "SELECT day FROM booking WHERE id = ?1";
                    let of: String = db.query_row(sql, [sale], |row| row.get(0)).unwrap();
                    of == day
                }
                _ => false,
            };
            let day: BusinessDay = day.parse().unwrap();
            let spent = if counts { -moved.ore() } else { 0 };
            for sum in [
                days.entry(day).or_insert(0),
                weeks.entry(day.week()).or_insert(0),
                months.entry(day.month()).or_insert(0),
            ] {
                *sum += spent;
            }
            if kind == "sale" {
                let spent = Spent::new(
                    day,
                    ore(days[&day]),
                    ore(weeks[&day.week()]),
                    ore(months[&day.month()]),
                );
                let (credit, limits) = terms.at(row.get(3).unwrap());
                let findings = findings(balance, credit, &limits, &spent);
                found.extend(findings.into_iter().map(|(code, text)| (id, code, text)));
            }
        }
    }
    found.sort();
    found
}

fn kept(bed: &Bed) -> Vec<(i64, &'static str, String)> {
    let flags = bed
        .ledger
        .list_flags(Reach::Everything, None, i64::MAX, 5000);
    let mut kept: Vec<_> = flags
        .unwrap()
        .into_iter()
        .filter_map(|flag| {
            let code = [OVERDRAWN, LIMIT_EXCEEDED]
                .into_iter()
                .find(|code| flag.code == *code)?;
            Some((flag.booking.unwrap().0, code, flag.detail))
        })
        .collect();
    kept.sort();
    kept
}

/// What happens at the hub or at a till.
#[derive(Debug, Clone)]
enum Happening {
    /// Till, account, øre, and by how many minutes the till's clock is off.
    Sale(usize, usize, i64, i64),
    /// The till takes back its last sale, by a clock that is off.
    Void(usize, i64),
    /// A till is heard: so many entries.
    Delivery(usize, u64),
    Deposit(usize, i32),
    Correction(usize, i64),
    /// An operator takes the newest sale back, in part.
    Refund(i64),
    /// The limits by day, week and month.
    Limits(usize, [Option<i32>; 3]),
    Credit(usize, i32),
}

fn happening() -> impl Strategy<Value = Happening> {
    let off = prop_oneof![3 => Just(0_i64), 1 => -9 * 24 * 60..9 * 24 * 60_i64];
    let limits = prop::array::uniform3(prop::option::of(5..60_i32));
    prop_oneof![
        8 => (0..2_usize, 0..2_usize, 1..30_00_i64, off.clone())
            .prop_map(|(till, account, amount, off)| Happening::Sale(till, account, amount, off)),
        1 => (0..2_usize, off).prop_map(|(till, off)| Happening::Void(till, off)),
        5 => (0..2_usize, 1..5_u64).prop_map(|(till, count)| Happening::Delivery(till, count)),
        1 => (0..2_usize, 1..50).prop_map(|(account, kroner)| Happening::Deposit(account, kroner)),
        1 => (0..2_usize, -20_00..20_00_i64)
            .prop_map(|(account, amount)| Happening::Correction(account, amount)),
        1 => (1..20_00_i64).prop_map(Happening::Refund),
        1 => (0..2_usize, limits).prop_map(|(account, limits)| Happening::Limits(account, limits)),
        1 => (0..2_usize, 0..30).prop_map(|(account, credit)| Happening::Credit(account, credit)),
    ]
}

/// A canteen with two accounts and two tills, while time goes on.
struct Story {
    bed: Bed,
    accounts: Vec<(AccountId, i64)>,
    tills: Vec<TestTill>,
    sent: [u64; 2],
    sold: [Option<(uuid::Uuid, u64, AccountId, Money)>; 2],
}

impl Story {
    fn new() -> Story {
        let mut bed = Bed::new();
        let accounts = (0..2).map(|_| bed.account(kr(60))).collect();
        let tills = (1..=2).map(|n| bed.till(&format!("kasse-{n}"))).collect();
        Story {
            bed,
            accounts,
            tills,
            sent: [0; 2],
            sold: [None; 2],
        }
    }

    /// What the hub refuses changes nothing, so it is no matter here.
    fn tell(&mut self, happening: &Happening, now: Timestamp) {
        let at = |off: i64| now + jiff::SignedDuration::from_mins(off);
        let key = self.bed.key();
        let ledger = &mut self.bed.ledger;
        match *happening {
            Happening::Sale(till, who, amount, off) => {
                let (account, chip) = self.accounts[who];
                let writer = &mut self.tills[till];
                let id = writer.write_at(sale(account, chip, ore(amount)), at(off));
                self.sold[till] = Some((id, writer.last_seq(), account, ore(amount)));
            }
            Happening::Void(till, off) => {
                if let Some((of, seq, account, amount)) = self.sold[till].take() {
                    self.tills[till].write_at(void(account, of, seq, amount), at(off));
                }
            }
            Happening::Delivery(till, count) => {
                let writer = &self.tills[till];
                let last = writer.last_seq().min(self.sent[till].saturating_add(count));
                if last > self.sent[till] {
                    let batch = writer.batch(self.sent[till] + 1..=last);
                    ledger.ingest(&writer.access, &batch, now).unwrap().unwrap();
                    self.sent[till] = last;
                }
            }
            Happening::Deposit(who, kroner) => {
                let _ = ledger.deposit(self.accounts[who].0, kr(kroner), &key, now);
            }
            Happening::Correction(who, amount) => {
                let correction = Correction {
                    amount: ore(amount),
                    reason: "x".to_owned(),
                    force: true,
                };
                let _ = ledger.correct(self.accounts[who].0, &correction, &key, now);
            }
            Happening::Refund(amount) => {
                let sql = "SELECT max(id) FROM booking WHERE kind = 'sale'";
                let sale: Option<i64> = ledger.db.query_row(sql, [], |row| row.get(0)).unwrap();
                let refund = Refund {
                    amount: Some(ore(amount)),
                    lines: Vec::new(),
                    reason: "x".to_owned(),
                };
                if let Some(sale) = sale {
                    let _ = ledger.refund(BookingId(sale), &refund, &key, now);
                }
            }
            Happening::Limits(who, [day, week, month]) => {
                let change = LimitsChange {
                    day: Some(day.map(kr)),
                    week: Some(week.map(kr)),
                    month: Some(month.map(kr)),
                    mode: None,
                };
                ledger
                    .change_limits(self.accounts[who].0, change, now)
                    .unwrap();
            }
            Happening::Credit(who, credit) => {
                ledger
                    .change_credit(self.accounts[who].0, kr(credit), now)
                    .unwrap();
            }
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Nothing is added up anew from the beginning, and yet nothing else comes out: with clocks that
    /// are off by days, late deliveries, and limits that change in between.
    #[test]
    fn lim_06_the_flags_are_those_of_adding_everything_up(
        story in prop::collection::vec((happening(), 1i64..2 * 24 * 60), 1..60),
    ) {
        let mut told = Story::new();
        let mut now = NOW;
        let last = [0, 1].map(|till| (Happening::Delivery(till, u64::MAX), 1));
        for (happening, minutes) in story.iter().chain(&last) {
            now += jiff::SignedDuration::from_mins(*minutes);
            told.tell(happening, now);
            prop_assert_eq!(kept(&told.bed), added_up(&told.bed), "after {:?}", happening);
        }
        told.bed.check_books();
    }
}
