//! The model: all that may happen between a hub and its tills, and what must stay true.

use canteen::{
    BusinessDay, LimitMode, LimitShare, LimitShares, Limits, Money, Spent, StrictLimits,
};
use jiff::ToSpan;
use jiff::civil::{Date, date};
use stateright::{Model, Property};

use super::{
    Counting, Earlier, Heard, Kroner, LIMIT, Later, Program, RECKONED, Room, Rules, Scope, Turn,
};
use crate::check::Told;

/// A configuration.
#[derive(Debug, Clone)]
pub struct StrictLimit {
    /// The rules.
    pub rules: Rules,
    /// How much may happen.
    pub scope: Scope,
    /// The properties to judge.
    pub promises: Vec<&'static str>,
}

/// Everything at one moment.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct World {
    /// The hub.
    pub hub: Hub,
    /// The tills.
    pub tills: Vec<Till>,
    /// Voids left.
    pub voids: u8,
}

/// What the hub has booked and issued.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Hub {
    /// Its day.
    pub day: u8,
    /// What is booked on each day, voids taken off.
    pub used: Vec<Kroner>,
    /// The tills' shares.
    pub shares: Vec<Share>,
    /// The till that comes first.
    pub first: usize,
    /// Issues left.
    pub issues: u8,
}

/// What the hub knows of one till.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Share {
    /// Entries taken in.
    pub booked: usize,
    /// Sales among them.
    pub gross: Kroner,
    /// Its ceiling as issued last, and the highest that may be in force.
    pub ceiling: Kroner,
    /// See `ceiling`.
    pub highest: Kroner,
    /// What it was granted ahead, and the most that may be in force.
    pub ahead: Kroner,
    /// See `ahead`.
    pub ahead_highest: Kroner,
    /// What it may sell by something older.
    pub carried: Kroner,
    /// The day that the share was issued for.
    pub on: u8,
    /// The page that must be acknowledged before less is in force.
    pub page: u8,
}

/// A share as a till is told of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Page {
    /// Its place in the feed.
    pub number: u8,
    /// The day.
    pub on: u8,
    /// The highest sum of sales for that day.
    pub ceiling: Kroner,
    /// What may be sold on each later day.
    pub ahead: Kroner,
}

/// A till.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Till {
    /// Its day.
    pub day: u8,
    /// What it wrote.
    pub journal: Vec<Entry>,
    /// The page in force; none while it has not heard that the limit is strict.
    pub page: Option<Page>,
    /// Pages under way.
    pub air: Vec<Page>,
    /// Sales left.
    pub sales: u8,
}

/// An entry of a till.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct Entry {
    /// One krone sold (1) or given back (-1), or nothing.
    pub moved: Kroner,
    /// The day that it was written on.
    pub day: u8,
    /// The page in force at the time.
    pub page: u8,
}

/// One thing that may happen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Action {
    /// A till sells for one krone.
    Sell(usize),
    /// A till takes a sale of its day back.
    Void(usize),
    /// A till writes the page in force into its journal.
    Acknowledge(usize),
    /// The hub takes the next entry of a till in.
    Book(usize),
    /// The hub issues shares, to this till first.
    Issue(usize),
    /// A till's oldest page arrives.
    Apply(usize),
    /// The hub's day ends.
    HubDay,
    /// A till's day ends.
    TillDay(usize),
}

impl Share {
    fn outstanding(&self, rules: &Rules) -> Kroner {
        let ceiling = match rules.room {
            Room::WhenAcknowledged => self.highest,
            Room::WhenIssued => self.ceiling,
        };
        (ceiling - self.gross).max(self.carried).max(0)
    }

    fn ahead(&self, rules: &Rules) -> Kroner {
        match rules.room {
            Room::WhenAcknowledged => self.ahead_highest.max(self.carried),
            Room::WhenIssued => self.ahead.max(self.carried),
        }
    }

    fn turn(&mut self, day: u8, rules: &Rules) {
        if self.on == day {
            return;
        }
        self.on = day;
        self.carried = match rules.turn {
            Turn::CarriesAhead | Turn::CarriesLessBooked => self.carried.max(self.ahead_highest),
            Turn::BeginsAnew => 0,
        };
        (self.ceiling, self.highest) = (0, 0);
    }

    fn is_awaited(&self) -> bool {
        self.highest > self.ceiling || self.ahead_highest > self.ahead || self.carried > 0
    }

    fn acknowledge(&mut self, page: u8) {
        if page >= self.page {
            self.highest = self.ceiling;
            self.ahead_highest = self.ahead;
            self.carried = 0;
        }
    }
}

impl Hub {
    /// Issues shares anew; what each till is told now.
    fn issue(&mut self, rules: &Rules, scope: &Scope) -> Vec<(Kroner, Kroner)> {
        for share in &mut self.shares {
            share.turn(self.day, rules);
        }
        let left = scope.limit - self.used[usize::from(self.day)];
        // Clocks of tills may be ahead, and what they sold there is booked already.
        let later_days = self.used.iter().skip(usize::from(self.day) + 1);
        let booked_later = match rules.later {
            Later::LessBooked => later_days.max().copied().unwrap_or(0),
            Later::Whole => 0,
        };
        let left_later = scope.limit - booked_later;
        let (mut for_now, mut for_later) = (left.max(0), left_later.max(0));
        let mut order: Vec<usize> = (0..self.shares.len()).collect();
        order.sort_by_key(|till| *till != self.first);
        for till in order {
            let (now, later) = (for_now.min(scope.cap), for_later.min(scope.cap));
            (for_now, for_later) = (for_now - now, for_later - later);
            let others = |of: fn(&Share, &Rules) -> Kroner| -> Kroner {
                let shares = self.shares.iter().enumerate();
                let others = shares.filter(|(other, _)| *other != till);
                others.map(|(_, share)| of(share, rules)).sum()
            };
            let room = left - others(Share::outstanding);
            let room_later = left_later - others(Share::ahead);
            let share = &mut self.shares[till];
            share.ceiling = share.gross + now.min(room).max(0);
            share.highest = share.highest.max(share.ceiling);
            share.ahead = later.min(room_later).max(0);
            share.ahead_highest = share.ahead_highest.max(share.ahead);
        }
        let told = self.shares.iter();
        told.map(|share| (share.ceiling, share.ahead)).collect()
    }

    fn book(&mut self, till: usize, entry: Entry, rules: &Rules) {
        self.used[usize::from(entry.day)] += entry.moved;
        let share = &mut self.shares[till];
        share.booked += 1;
        if entry.moved > 0 {
            share.gross += entry.moved;
            if rules.turn == Turn::CarriesLessBooked {
                share.carried = (share.carried - entry.moved).max(0);
            }
        }
        share.acknowledge(entry.page);
    }
}

impl Till {
    fn moved(&self, counting: Counting) -> impl Iterator<Item = (u8, Kroner)> {
        let entries = self.journal.iter();
        entries.filter_map(move |entry| match counting {
            Counting::Gross if entry.moved < 0 => None,
            Counting::Gross | Counting::NetOfVoids => Some((entry.day, entry.moved)),
        })
    }

    fn sold(&self, counting: Counting) -> Kroner {
        self.moved(counting).map(|(_, amount)| amount).sum()
    }

    fn sold_on(&self, day: u8, counting: Counting) -> Kroner {
        let of_day = self.moved(counting).filter(|(on, _)| *on == day);
        of_day.map(|(_, amount)| amount).sum()
    }

    /// What it may still sell on a day: the rule of the real till.
    fn left(&self, day: u8, rules: &Rules, scope: &Scope) -> Kroner {
        let by_limit = scope.limit - self.sold_on(day, Counting::NetOfVoids);
        let Some(page) = self.page.filter(|_| rules.program == Program::Keeps) else {
            let money = scope.lenient_money.unwrap_or(Kroner::MAX);
            return by_limit.min(money - self.sold(Counting::Gross));
        };
        let on = match rules.earlier {
            Earlier::Nothing => page.on,
            Earlier::AsMuch => page.on.min(day),
        };
        let sold = kroner(self.sold_on(day, rules.counting));
        let day = business_day(day);
        let strict = StrictLimits {
            shares: Some(LimitShares {
                on: business_day(on),
                day: Some(LimitShare {
                    ceiling: kroner(page.ceiling),
                    ahead: kroner(page.ahead),
                }),
                week: None,
                month: None,
            }),
            gross: kroner(self.sold(rules.counting)),
            sold: Spent::new(day, sold, sold, sold),
        };
        let limits = Limits {
            day: Some(kroner(scope.limit)),
            mode: LimitMode::Strict,
            ..Limits::default()
        };
        let left = strict.left(&limits, day).unwrap_or(Money::ZERO);
        by_limit.min((left.ore() / 100) as Kroner)
    }

    fn write(&mut self, moved: Kroner) {
        self.journal.push(Entry {
            moved,
            day: self.day,
            page: self.page.map_or(0, |page| page.number),
        });
    }

    fn owes_acknowledgement(&self) -> bool {
        let written = self.journal.last().map_or(0, |entry| entry.page);
        self.page.is_some_and(|page| page.number > written)
    }
}

impl StrictLimit {
    fn tell(world: &mut World, told: &[(Kroner, Kroner)]) {
        for (till, share) in world.hub.shares.iter_mut().enumerate() {
            let (ceiling, ahead) = told[till];
            let till = &mut world.tills[till];
            let newest = till.air.last().copied().or(till.page);
            let on = share.on;
            if newest
                .is_some_and(|page| (page.on, page.ceiling, page.ahead) == (on, ceiling, ahead))
            {
                continue;
            }
            let number = newest.map_or(0, |page| page.number) + 1;
            till.air.push(Page {
                number,
                on,
                ceiling,
                ahead,
            });
            if share.is_awaited() {
                share.page = number;
            }
        }
    }

    fn keeps_the_limit(&self, world: &World) -> bool {
        (0..self.scope.days).all(|day| {
            let tills = || world.tills.iter();
            let by_share = |entry: &Entry| entry.day == day && entry.moved > 0 && entry.page > 0;
            let sold: Kroner = tills()
                .map(|till| till.sold_on(day, Counting::NetOfVoids))
                .sum();
            let is_strict = tills().any(|till| till.journal.iter().any(by_share));
            !is_strict || sold <= self.scope.limit
        })
    }

    /// What tills have sold on the hub's day without its having heard, and may still sell on it.
    fn is_reckoned(&self, world: &World) -> bool {
        let day = world.hub.day;
        world
            .tills
            .iter()
            .zip(&world.hub.shares)
            .all(|(till, share)| {
                let unsent = till.journal[share.booked..].iter();
                let unsent: Kroner = unsent
                    .filter(|entry| entry.day == day && entry.moved > 0)
                    .map(|entry| entry.moved)
                    .sum();
                let mut reckoned = share.clone();
                reckoned.turn(day, &self.rules);
                let still = if till.day <= day {
                    till.left(day, &self.rules, &self.scope).max(0)
                } else {
                    0
                };
                unsent + still <= reckoned.outstanding(&self.rules)
            })
    }
}

impl Model for StrictLimit {
    type State = World;
    type Action = Action;

    /// The hub has issued shares, or the limit has just become strict and nobody has heard.
    fn init_states(&self) -> Vec<World> {
        let scope = &self.scope;
        let money = match (scope.lenient_money, self.rules.heard) {
            (Some(money), Heard::Awaited) => money,
            (Some(_), Heard::TakenForGranted) | (None, _) => 0,
        };
        let share = Share {
            booked: 0,
            gross: 0,
            ceiling: 0,
            highest: 0,
            ahead: 0,
            ahead_highest: 0,
            carried: money,
            on: 0,
            page: 0,
        };
        let till = Till {
            day: 0,
            journal: vec![],
            page: None,
            air: vec![],
            sales: scope.sales,
        };
        let mut world = World {
            hub: Hub {
                day: 0,
                used: vec![0; usize::from(scope.days)],
                shares: vec![share; scope.tills],
                first: 0,
                issues: scope.issues,
            },
            tills: vec![till; scope.tills],
            voids: scope.voids,
        };
        let told = world.hub.issue(&self.rules, scope);
        Self::tell(&mut world, &told);
        if scope.lenient_money.is_none() {
            for till in &mut world.tills {
                till.page = till.air.pop();
            }
        }
        vec![world]
    }

    fn actions(&self, world: &World, actions: &mut Vec<Action>) {
        for (at, till) in world.tills.iter().enumerate() {
            if till.sales > 0 && till.left(till.day, &self.rules, &self.scope) >= 1 {
                actions.push(Action::Sell(at));
            }
            if world.voids > 0 && till.sold_on(till.day, Counting::NetOfVoids) > 0 {
                actions.push(Action::Void(at));
            }
            if till.owes_acknowledgement() {
                actions.push(Action::Acknowledge(at));
            }
            if world.hub.shares[at].booked < till.journal.len() {
                actions.push(Action::Book(at));
            }
            if !till.air.is_empty() {
                actions.push(Action::Apply(at));
            }
            if till.day + 1 < self.scope.days {
                actions.push(Action::TillDay(at));
            }
            if world.hub.issues > 0 {
                actions.push(Action::Issue(at));
            }
        }
        if world.hub.day + 1 < self.scope.days {
            actions.push(Action::HubDay);
        }
    }

    fn next_state(&self, before: &World, action: Action) -> Option<World> {
        let mut world = before.clone();
        match action {
            Action::Sell(at) => {
                world.tills[at].write(1);
                world.tills[at].sales -= 1;
            }
            Action::Void(at) => {
                world.tills[at].write(-1);
                world.voids -= 1;
            }
            Action::Acknowledge(at) => world.tills[at].write(0),
            Action::Book(at) => {
                let entry = world.tills[at].journal[world.hub.shares[at].booked];
                world.hub.book(at, entry, &self.rules);
            }
            Action::Issue(at) => {
                world.hub.first = at;
                world.hub.issues -= 1;
                let told = world.hub.issue(&self.rules, &self.scope);
                Self::tell(&mut world, &told);
            }
            Action::Apply(at) => {
                let page = world.tills[at].air.remove(0);
                world.tills[at].page = Some(page);
            }
            Action::HubDay => world.hub.day += 1,
            Action::TillDay(at) => world.tills[at].day += 1,
        }
        Some(world)
    }

    fn properties(&self) -> Vec<Property<Self>> {
        let all: [Property<Self>; 2] = [
            Property::always(LIMIT, |model, world| model.keeps_the_limit(world)),
            Property::always(RECKONED, |model, world| model.is_reckoned(world)),
        ];
        all.into_iter()
            .filter(|property| self.promises.contains(&property.name))
            .collect()
    }
}

impl Told for StrictLimit {
    fn judging(&self, promises: &[&'static str]) -> StrictLimit {
        StrictLimit {
            promises: promises.to_vec(),
            ..self.clone()
        }
    }

    fn tell_action(&self, before: &World, action: &Action) -> String {
        let day = |at: usize| before.tills[at].day;
        match *action {
            Action::Sell(at) => format!("till {at} sells for 1 on day {}", day(at)),
            Action::Void(at) => format!("till {at} takes a sale of day {} back", day(at)),
            Action::Acknowledge(at) => format!("till {at} writes down the page in force"),
            Action::Book(at) => format!("the hub books the next entry of till {at}"),
            Action::Issue(at) => format!("the hub issues shares, to till {at} first"),
            Action::Apply(at) => format!("a page reaches till {at}"),
            Action::HubDay => "the hub's day ends".to_owned(),
            Action::TillDay(at) => format!("till {at}'s day ends"),
        }
    }

    fn tell_state(&self, world: &World) -> String {
        let tills = world
            .tills
            .iter()
            .zip(&world.hub.shares)
            .map(|(till, share)| {
                format!(
                    "till on day {} may sell {}, the hub reckons with {}",
                    till.day,
                    till.left(till.day, &self.rules, &self.scope).max(0),
                    share.outstanding(&self.rules),
                )
            });
        let tills: Vec<String> = tills.collect();
        let (day, used) = (world.hub.day, &world.hub.used);
        format!(
            "hub on day {day} with {used:?} booked; {}",
            tills.join("; ")
        )
    }

    fn tell_aftermath(&self, _property: &str, _state: &World) -> Option<String> {
        None
    }
}

fn business_day(day: u8) -> BusinessDay {
    BusinessDay::from_date(FIRST.saturating_add(i64::from(day).days()))
}

fn kroner(amount: Kroner) -> Money {
    Money::from_kroner(i32::from(amount))
}

const FIRST: Date = date(2026, 11, 16);
