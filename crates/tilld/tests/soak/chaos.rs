//! What goes wrong: lines, processes, and operators who pay money in meanwhile.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::thread;
use std::time::Instant;

use serde_json::json;

use crate::books::Books;
use crate::dice::Dice;
use crate::rig::link::Way;
use crate::rig::{Site, eventually};

/// The site and what is wrong with it at the moment.
#[derive(Debug)]
pub(crate) struct Chaos {
    /// The first till with the hub, and the others.
    sites: Vec<Site>,
    cut_until: Vec<Option<Instant>>,
    dead_until: Vec<Option<Instant>>,
    hub_dead_until: Option<Instant>,
    /// Deposits that the hub has not confirmed: key, account and amount.
    owed: Vec<(String, i64, i64)>,
    deposits: u64,
    books: Arc<Books>,
    dice: Dice,
    struck: BTreeMap<&'static str, u64>,
}

impl Chaos {
    /// A site where all is well.
    pub(crate) fn new(first: Site, others: Vec<Site>, books: Arc<Books>, dice: Dice) -> Chaos {
        let mut sites = vec![first];
        sites.extend(others);
        Chaos {
            cut_until: vec![None; sites.len()],
            dead_until: vec![None; sites.len()],
            sites,
            hub_dead_until: None,
            owed: Vec::new(),
            deposits: 0,
            books,
            dice,
            struck: BTreeMap::new(),
        }
    }

    /// A till.
    pub(crate) fn till(&self, index: usize) -> &Site {
        &self.sites[index]
    }

    /// The site that has the hub.
    pub(crate) fn hub(&self) -> &Site {
        &self.sites[0]
    }

    /// Waits until every till knows a chip.
    pub(crate) fn wait_until_all_know(&self, chip: &str) {
        for site in &self.sites {
            eventually("the accounts to arrive", || {
                let known = site.ask(&["chip", "show", chip]).json;
                (!known["chip"].is_null()).then_some(())
            });
        }
    }

    /// Does one thing, and mends what has been broken long enough.
    pub(crate) fn strike(&mut self) {
        self.mend(false);
        let index = self.dice.place(self.sites.len());
        match self.dice.below(100) {
            0..=29 => self.cut(index),
            30..=38 => self.kill_till(index),
            39..=41 => self.kill_hub(),
            42..=79 => self.promise_deposit(),
            _ => {}
        }
        self.pay_in();
        thread::sleep(self.dice.span(50, 500));
    }

    /// Mends everything.
    pub(crate) fn heal(&mut self) {
        self.mend(true);
    }

    /// Waits until nobody has anything left to tell.
    pub(crate) fn settle(&mut self) {
        eventually("all deposits to be booked", || {
            self.pay_in();
            self.owed.is_empty().then_some(())
        });
        for site in &self.sites {
            site.wait_for_line("online");
            site.wait_until_sent();
        }
    }

    /// What was done.
    pub(crate) fn told(&self) -> String {
        let lost: u32 = self.links().map(crate::rig::link::Link::lost).sum();
        format!(
            "{:?}, {lost} answers lost, {} deposits",
            self.struck, self.deposits
        )
    }

    fn links(&self) -> impl Iterator<Item = &crate::rig::link::Link> {
        self.sites.iter().filter_map(|site| site.link.as_ref())
    }

    fn cut(&mut self, index: usize) {
        if self.cut_until[index].is_some() {
            return;
        }
        let (name, way) = match self.dice.below(5) {
            0 => ("lines gone silent", Way::Silence),
            1 => (
                "lines that answer a login page",
                Way::Says(LOGIN_PAGE.into()),
            ),
            2 => ("lines that cut answers in half", Way::CutInHalf),
            _ => ("lines that lose answers", Way::AnswersLost { every: 2 }),
        };
        self.sites[index].link.as_ref().unwrap().set(way);
        self.cut_until[index] = Some(Instant::now() + self.dice.span(500, 12_000));
        *self.struck.entry(name).or_default() += 1;
    }

    fn kill_till(&mut self, index: usize) {
        if self.dead_until[index].is_some() {
            return;
        }
        self.sites[index].kill_till();
        self.dead_until[index] = Some(Instant::now() + self.dice.span(10, 3_000));
        *self.struck.entry("tills killed").or_default() += 1;
    }

    fn kill_hub(&mut self) {
        if self.hub_dead_until.is_some() {
            return;
        }
        self.sites[0].kill_hub();
        self.hub_dead_until = Some(Instant::now() + self.dice.span(10, 5_000));
        *self.struck.entry("hubs killed").or_default() += 1;
    }

    fn mend(&mut self, all: bool) {
        let now = Instant::now();
        let is_due = |until: &Option<Instant>| until.is_some_and(|until| all || until <= now);
        if is_due(&self.hub_dead_until) {
            self.sites[0].start_hub();
            self.hub_dead_until = None;
        }
        for index in 0..self.sites.len() {
            if is_due(&self.cut_until[index]) {
                self.sites[index].link.as_ref().unwrap().set(Way::Through);
                self.cut_until[index] = None;
            }
            if is_due(&self.dead_until[index]) {
                self.sites[index].start_till();
                self.dead_until[index] = None;
            }
        }
    }

    fn promise_deposit(&mut self) {
        let accounts = self.books.accounts();
        let account = accounts[self.dice.place(accounts.len())];
        let amount = i64::try_from(50 + self.dice.below(150)).unwrap() * 100;
        self.deposits += 1;
        let key = format!("soak-{}", self.deposits);
        self.books.deposit(account, amount);
        self.owed.push((key, account, amount));
    }

    /// Tries the deposits that are not confirmed, with the same key each time.
    fn pay_in(&mut self) {
        let hub = self.sites[0].hub();
        self.owed.retain(|(key, account, amount)| {
            let answer = hub
                .clone()
                .with(&format!("Idempotency-Key: {key}"))
                .try_ask(
                    "POST",
                    &format!("/v1/accounts/{account}/deposits"),
                    Some(&json!({"amount": amount}).to_string()),
                );
            match answer {
                Ok(answer) if (200..300).contains(&answer.status) => false,
                Ok(answer) if answer.status < 500 => panic!("a deposit: {answer:?}"),
                Ok(_) | Err(_) => true,
            }
        });
    }
}

/// What networks of schools say in the hub's place.
const LOGIN_PAGE: &str = "HTTP/1.1 200 OK\r\nContent-Type: text/html\r\nContent-Length: 27\r\n\
                          Connection: close\r\n\r\n<html>Log on first.</html>\n";
