//! Where a run begins: how many tills and accounts, what they hold, and when.

use std::path::Path;

use canteen::{AccountId, ChipId, LimitMode, Limits, Money, TOP_UP_ARMED_FROM};
use hub_ledger::{
    Fingerprint, Holder, HubLedger, NewAccount, NewChip, NewTill, OfflineBounds, RequestKey,
    TopUpRules,
};
use jiff::Timestamp;
use sync_proto::EnrolRequest;

use super::disk::Image;
use super::gateway::Gateway;
use super::hub::Hub;
use super::mistake::Mistake;
use super::reckoning::Reckoning;
use super::tally::{Tally, Violation, broken};
use super::till::Till;
use super::{World, directory};
use crate::chance::Chance;

/// Where a run begins.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Scene {
    /// How many tills.
    pub tills: usize,
    /// What each account holds, in kroner.
    pub balances: Vec<i32>,
    /// What tills may overspend together, in kroner.
    pub overspend_max: i32,
    /// What one till may sell unheard, in kroner.
    pub till_max: i32,
    /// When it begins.
    pub begins: Timestamp,
    /// Whether all accounts have their top-ups from one card.
    pub one_card: bool,
    /// The strict limits of every account, of a day, a week and a month, in kroner; 0 is none.
    pub strict: [i32; 3],
    /// Every account has paid in what arms a top-up, and agreed to so many kroner; 0 is none.
    pub top_up: i32,
}

impl Scene {
    pub(crate) fn draw(chance: &mut Chance) -> Scene {
        let accounts = chance.among(&[1, 1, 2, 3]);
        let begins = chance.among(&BEGINNINGS);
        Scene {
            tills: chance.among(&[2, 2, 3, 3, 4]),
            balances: (0..accounts)
                .map(|_| chance.among(&[0, 60, 100, 150, 300, 500, 1000]))
                .collect(),
            overspend_max: chance.among(&[0, 50, 200]),
            till_max: chance.among(&[50, 100, 200]),
            begins: begins.parse().unwrap_or(Timestamp::UNIX_EPOCH),
            one_card: chance.one_in(2),
            top_up: chance.among(&[0, 0, 100, 200]),
            strict: [0; 3],
        }
    }

    /// Strict limits from the beginning, and money enough for them to be what is in the way.
    pub(crate) fn be_strict(&mut self, apart: &mut Chance) {
        self.strict = [
            apart.among(&[0, 20, 50, 100, 100]),
            apart.among(&[0, 0, 60, 150]),
            apart.among(&[0, 0, 0, 100, 200]),
        ];
        self.balances = vec![apart.among(&[300, 500, 1000])];
    }

    fn limits(&self) -> Limits {
        let limit = |kroner: i32| (kroner > 0).then(|| Money::from_kroner(kroner));
        let [day, week, month] = self.strict.map(limit);
        let is_strict = self.strict.iter().any(|kroner| *kroner > 0);
        Limits {
            day,
            week,
            month,
            mode: match is_strict {
                true => LimitMode::Strict,
                false => LimitMode::Lenient,
            },
        }
    }
}

/// A lunch, and moments shortly before something turns in Copenhagen.
const BEGINNINGS: [&str; 8] = [
    "2026-11-20T11:00:00Z",
    "2026-11-20T11:00:00Z",
    "2026-11-20T22:50:00Z",
    "2026-11-22T22:50:00Z",
    "2026-11-30T22:50:00Z",
    "2026-12-31T22:50:00Z",
    "2026-10-24T21:50:00Z",
    "2027-03-27T22:50:00Z",
];

/// Empty disks to begin with: making one costs more than a run.
pub struct Blanks {
    hub: Image,
    tills: Vec<Image>,
}

impl Blanks {
    /// Makes them.
    pub fn make() -> Result<Blanks, Violation> {
        let dir = directory().map_err(|error| broken("making a directory", &error))?;
        let path = dir.path().join("hub");
        let hub = HubLedger::open(&path, 7, TopUpRules::default());
        drop(hub.map_err(|error| broken("making a hub", &error))?);
        let mut tills = Vec::new();
        for at in 0..TILLS_MAX {
            let till = Till::begin(dir.path(), at, 0)?;
            let path = till.path();
            drop(till);
            tills.push(take(&path)?);
        }
        Ok(Blanks {
            hub: take(&path)?,
            tills,
        })
    }

    pub(crate) fn till(&self, at: usize) -> Option<&Image> {
        self.tills.get(at)
    }
}

fn take(path: &Path) -> Result<Image, Violation> {
    Image::take(path).map_err(|error| broken("reading an empty disk", &error))
}

impl World {
    /// Sets a scene up.
    pub(crate) fn open(
        scene: &Scene,
        blanks: &Blanks,
        mistake: Option<Mistake>,
    ) -> Result<World, Violation> {
        let dir = directory().map_err(|error| broken("making a directory", &error))?;
        let put = blanks.hub.put(&dir.path().join("hub-0"));
        put.map_err(|error| broken("setting up the hub", &error))?;
        let mut world = World {
            hub: Hub::open(dir.path())?,
            tills: Vec::new(),
            old_ledgers: Vec::new(),
            accounts: Vec::new(),
            gateway: Gateway::default(),
            reckoning: Reckoning::default(),
            tally: Tally::new(),
            mistake,
            now_ms: scene.begins.as_millisecond(),
            letters: Vec::new(),
            drawn: 0,
            scene: scene.clone(),
            backup: None,
            first: blanks.hub.clone(),
            first_bookings: 0,
            _dir: dir,
        };
        world.open_canteen(scene)?;
        world.begin_strict_limits()?;
        for at in 0..scene.tills {
            world.open_till(at, blanks)?;
        }
        world.first = world.hub.image()?;
        for account in world.accounts.clone() {
            let rows = world.statement(&world.hub, account)?;
            let last = rows.iter().map(|row| row.id.0).max();
            world.first_bookings = world.first_bookings.max(last.unwrap_or(0));
        }
        Ok(world)
    }

    fn open_canteen(&mut self, scene: &Scene) -> Result<(), Violation> {
        let now = self.now();
        let World { hub, tally, .. } = self;
        let bounds = OfflineBounds {
            overspend_max: Money::from_kroner(scene.overspend_max),
            till_max: Money::from_kroner(scene.till_max),
        };
        let canteen = hub.write(tally, "making a canteen", |ledger| {
            let tenant = ledger.tenant_named("Demo Kommune")?;
            let canteen = ledger.canteen_named(tenant, "Demokantinen")?;
            ledger.bound_offline_sales(bounds, &[])?;
            Ok(canteen)
        })?;
        let Some(canteen) = canteen else {
            return Ok(());
        };
        self.reckoning.canteen = Some(canteen);
        for (balance, at) in scene.balances.iter().zip(1u32..) {
            let new = NewAccount {
                canteen,
                holder: Holder {
                    name: format!("Elev Demo {at}"),
                    school: None,
                    class: None,
                    photo: None,
                },
                credit: Money::ZERO,
                limits: scene.limits(),
            };
            let amount = Money::from_kroner(*balance);
            let key = self.request_key();
            let chip = self.new_chip()?;
            let World { hub, tally, .. } = self;
            let made = hub.write(tally, "making an account", |ledger| {
                let account = ledger.create_account(&new, now)?;
                if amount > Money::ZERO {
                    ledger.open_balance(account, amount, &key, now)?;
                }
                ledger.add_chip(account, &chip, now)?;
                Ok(account)
            })?;
            let Some(account) = made else { continue };
            self.accounts.push(account);
            self.reckoning.open(account, amount.ore());
            if scene.top_up > 0 {
                self.arm(account, Money::from_kroner(scene.top_up))?;
            }
        }
        Ok(())
    }

    fn arm(&mut self, account: AccountId, amount: Money) -> Result<(), Violation> {
        let now = self.now();
        let key = self.request_key();
        let card = self.card_of(account);
        let World { hub, tally, .. } = self;
        hub.write(tally, "arming a top-up", |ledger| {
            ledger.deposit(account, TOP_UP_ARMED_FROM, &key, now)?;
            ledger.make_agreement(account, amount, &card, now)
        })?;
        self.reckoning
            .move_central(account, TOP_UP_ARMED_FROM.ore());
        Ok(())
    }

    /// The card that an account's top-ups are charged to.
    pub(crate) fn card_of(&self, account: AccountId) -> String {
        if self.scene.one_card {
            "card-1".to_owned()
        } else {
            format!("card-{account}")
        }
    }

    fn open_till(&mut self, at: usize, blanks: &Blanks) -> Result<(), Violation> {
        let till = match blanks.till(at) {
            Some(image) => Till::from_image(self._dir.path(), at, self.now_ms, image)?,
            None => Till::begin(self._dir.path(), at, self.now_ms)?,
        };
        let now = self.now();
        let code = format!("code of {}", till.id);
        let Some(canteen) = self.reckoning.canteen else {
            return Ok(());
        };
        let new = NewTill {
            id: till.id.clone(),
            canteen,
            code: Fingerprint::of(&code),
        };
        let request = EnrolRequest {
            till: till.id.clone(),
            code,
            epoch: till.epoch,
            public_key: till.public_key(),
        };
        let token = till.token;
        let World { hub, tally, .. } = self;
        hub.write(tally, "enrolling a till", |ledger| {
            ledger.create_till(&new, now)?;
            ledger.enrol(&request, token, now)
        })?;
        self.reckoning
            .accepted
            .insert((till.id.clone(), till.epoch), 0);
        self.tills.push(till);
        Ok(())
    }

    pub(crate) fn request_key(&mut self) -> RequestKey {
        let key = self.draw_name();
        RequestKey {
            fingerprint: Fingerprint::of(&key),
            key,
        }
    }

    pub(crate) fn new_chip(&mut self) -> Result<NewChip, Violation> {
        self.drawn += 1;
        let number = 0x7200_0000 + u32::try_from(self.drawn).unwrap_or(0);
        let uid = ChipId::from_uid(&number.to_be_bytes());
        Ok(NewChip {
            uid: uid.map_err(|error| broken("making a chip", &error))?,
            card: None,
            key_version: None,
        })
    }
}

const TILLS_MAX: usize = 4;
