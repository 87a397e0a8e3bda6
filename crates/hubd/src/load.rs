//! Loads demonstration data from a file. Loading it again adds what is missing and changes nothing
//! else.

use std::path::Path;

use anyhow::{Context, bail};
use canteen::{AccountId, CardNumber, ChipId, ChipNumber, LimitMode, Limits, Money};
use hub_ledger::{
    CanteenId, Fingerprint, Holder, HubLedger, LedgerError, NewAccount, NewChip, NewProduct,
    NewTill, Reach, Refusal, RequestKey, TenantId,
};
use jiff::Timestamp;
use serde::Deserialize;
use sync_proto::TillId;

/// What a load has added.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Loaded {
    /// Tills.
    pub tills: usize,
    /// Accounts.
    pub accounts: usize,
    /// Products.
    pub products: usize,
}

/// Reads a file and adds what is missing, all of it or nothing.
pub fn load(ledger: &mut HubLedger, file: &Path, now: Timestamp) -> anyhow::Result<Loaded> {
    let text =
        std::fs::read_to_string(file).with_context(|| format!("cannot read {}", file.display()))?;
    let data: Data =
        toml::from_str(&text).map_err(|error| anyhow::anyhow!("{}: {error}", file.display()))?;
    ledger.all_or_nothing(|ledger| {
        let mut loader = Loader {
            ledger,
            now,
            loaded: Loaded::default(),
        };
        for tenant in &data.tenant {
            loader.tenant(tenant)?;
        }
        Ok(loader.loaded)
    })
}

struct Loader<'a> {
    ledger: &'a mut HubLedger,
    now: Timestamp,
    loaded: Loaded,
}

impl Loader<'_> {
    fn tenant(&mut self, data: &TenantData) -> anyhow::Result<()> {
        let tenant = self.ledger.tenant_named(&data.name)?;
        for canteen in &data.canteen {
            self.canteen(tenant, canteen)
                .with_context(|| format!("canteen {:?}", canteen.name))?;
        }
        Ok(())
    }

    fn canteen(&mut self, tenant: TenantId, data: &CanteenData) -> anyhow::Result<()> {
        let canteen = self.ledger.canteen_named(tenant, &data.name)?;
        for till in &data.till {
            self.till(canteen, till)
                .with_context(|| format!("till {:?}", till.id))?;
        }
        for (position, product) in (1..).zip(&data.product) {
            self.product(canteen, position, product)
                .with_context(|| format!("product {:?}", product.name))?;
        }
        for account in &data.account {
            self.account(canteen, account)
                .with_context(|| format!("account of chip {:?}", account.chip))?;
        }
        Ok(())
    }

    fn till(&mut self, canteen: CanteenId, data: &TillData) -> anyhow::Result<()> {
        let id: TillId = data.id.parse()?;
        let code = Fingerprint::of(&data.enrolment_code);
        let new = NewTill { id, canteen, code };
        match self.ledger.create_till(&new, self.now) {
            Ok(()) => self.loaded.tills += 1,
            Err(LedgerError::Refused(Refusal::Exists { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    fn product(
        &mut self,
        canteen: CanteenId,
        position: i64,
        data: &ProductData,
    ) -> anyhow::Result<()> {
        let new = NewProduct {
            name: data.name.clone(),
            category: data.category.clone(),
            price: data.price.parse()?,
            position,
        };
        match self.ledger.create_product(canteen, &new) {
            Ok(_) => self.loaded.products += 1,
            Err(LedgerError::Refused(Refusal::Exists { .. })) => {}
            Err(error) => return Err(error.into()),
        }
        Ok(())
    }

    /// An account is known by its chip: where the chip is known, the account is left as it is.
    fn account(&mut self, canteen: CanteenId, data: &AccountData) -> anyhow::Result<()> {
        let chip = NewChip {
            uid: uid(&data.chip)?,
            card: card(data.card.as_deref())?,
            key_version: None,
        };
        let known = self
            .ledger
            .find_chips(Reach::Everything, &ChipNumber::Chip(chip.uid))?;
        if known.iter().any(|known| known.canteen == canteen) {
            return Ok(());
        }
        let new = NewAccount {
            canteen,
            holder: Holder {
                name: data.holder.clone(),
                school: data.school.clone(),
                class: data.class.clone(),
                photo: Some(portrait(&data.holder, chip.uid)),
            },
            credit: Money::ZERO,
            limits: data.limits()?,
        };
        let account = self.ledger.create_account(&new, self.now)?;
        let number = self.ledger.add_chip(account, &chip, self.now)?;
        self.money(account, data)?;
        if let Some(top_up) = &data.top_up {
            let amount = top_up.amount.parse()?;
            self.ledger
                .make_agreement(account, amount, &top_up.card_agreement, self.now)?;
        }
        if data.chip_blocked {
            self.ledger.block_chip(number, self.now)?;
        }
        if data.blocked {
            self.ledger.block_account(account, self.now)?;
        }
        self.loaded.accounts += 1;
        Ok(())
    }

    fn money(&mut self, account: AccountId, data: &AccountData) -> anyhow::Result<()> {
        let key = |what: &str| RequestKey {
            key: format!("load/{account}/{what}"),
            fingerprint: Fingerprint::of(what),
        };
        if let Some(opening) = &data.opening {
            let amount = opening.parse()?;
            self.ledger
                .open_balance(account, amount, &key("opening"), self.now)?;
        }
        if let Some(deposit) = &data.deposit {
            let amount = deposit.parse()?;
            self.ledger
                .deposit(account, amount, &key("deposit"), self.now)?;
        }
        Ok(())
    }
}

fn uid(text: &str) -> anyhow::Result<ChipId> {
    match ChipNumber::parse(text)? {
        ChipNumber::Chip(uid) => Ok(uid),
        ChipNumber::Card(_) => bail!("{text:?} is a printed card number; put it in `card`"),
    }
}

fn card(text: Option<&str>) -> anyhow::Result<Option<CardNumber>> {
    let Some(text) = text else { return Ok(None) };
    match CardNumber::parse(text) {
        Some(card) => Ok(Some(card)),
        None => bail!("{text:?} is no card number; it has 14 digits"),
    }
}

/// A drawn stand-in for a photo: initials on a colour, since nobody in the file exists.
fn portrait(name: &str, chip: ChipId) -> String {
    let initials: String = name
        .split_whitespace()
        .filter_map(|word| word.chars().next())
        .filter(|letter| letter.is_alphanumeric())
        .take(3)
        .collect();
    let hue = chip
        .as_bytes()
        .iter()
        .fold(0_u32, |sum, byte| sum + u32::from(*byte))
        % 360;
    format!(
        "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 96 96'%3E\
         %3Crect width='96' height='96' fill='hsl({hue},45%25,35%25)'/%3E\
         %3Ctext x='48' y='62' font-size='38' font-family='sans-serif' text-anchor='middle' \
         fill='white'%3E{initials}%3C/text%3E%3C/svg%3E"
    )
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct Data {
    tenant: Vec<TenantData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TenantData {
    name: String,
    #[serde(default)]
    canteen: Vec<CanteenData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct CanteenData {
    name: String,
    #[serde(default)]
    till: Vec<TillData>,
    #[serde(default)]
    product: Vec<ProductData>,
    #[serde(default)]
    account: Vec<AccountData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TillData {
    id: String,
    enrolment_code: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ProductData {
    name: String,
    category: String,
    price: String,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct AccountData {
    holder: String,
    school: Option<String>,
    class: Option<String>,
    chip: String,
    card: Option<String>,
    opening: Option<String>,
    deposit: Option<String>,
    limit_day: Option<String>,
    limit_week: Option<String>,
    limit_month: Option<String>,
    limit_mode: Option<String>,
    #[serde(default)]
    chip_blocked: bool,
    #[serde(default)]
    blocked: bool,
    top_up: Option<TopUpData>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct TopUpData {
    amount: String,
    card_agreement: String,
}

impl AccountData {
    fn limits(&self) -> anyhow::Result<Limits> {
        let limit = |text: &Option<String>| text.as_deref().map(str::parse).transpose();
        Ok(Limits {
            day: limit(&self.limit_day)?,
            week: limit(&self.limit_week)?,
            month: limit(&self.limit_month)?,
            mode: match self.limit_mode.as_deref() {
                None => LimitMode::default(),
                Some(code) => LimitMode::from_code(code).with_context(|| {
                    format!("limit_mode is {code:?}; allowed are \"lenient\" and \"strict\"")
                })?,
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use canteen::Status;
    use hub_ledger::TopUpRules;

    use super::*;

    const NOW: Timestamp = Timestamp::constant(1_795_172_400, 0);

    fn demo() -> std::path::PathBuf {
        Path::new(env!("CARGO_MANIFEST_DIR")).join("../../config/demo.toml")
    }

    #[track_caller]
    fn check(ledger: &HubLedger, chip: &str, balance: &str, what: &str) {
        let number = ChipNumber::parse(chip).unwrap();
        let chips = ledger.find_chips(Reach::Everything, &number).unwrap();
        let [found] = chips.as_slice() else {
            panic!("{chip}: {chips:?}");
        };
        let account = ledger.account(found.account).unwrap();
        let agreement = ledger.agreement(&account, NOW).unwrap();
        let limit = |limit: Option<Money>| limit.map(|limit| limit.bare().to_string());
        let mut shown = Vec::new();
        shown.extend(limit(account.limits.day).map(|limit| format!("day {limit}")));
        shown.extend(limit(account.limits.week).map(|limit| format!("week {limit}")));
        shown.extend(limit(account.limits.month).map(|limit| format!("month {limit}")));
        if account.limits.mode == LimitMode::Strict {
            shown.push("strict".to_owned());
        }
        shown.extend(agreement.map(|agreement| {
            let armed = if agreement.armed { " armed" } else { "" };
            format!(
                "top-up {} {}{armed}",
                agreement.amount.bare(),
                agreement.card
            )
        }));
        if found.status != Status::Active {
            shown.push(format!("chip {}", found.status.code()));
        }
        if account.status != Status::Active {
            shown.push(format!("account {}", account.status.code()));
        }
        assert_eq!(account.balance.bare().to_string(), balance, "{chip}");
        assert_eq!(shown.join(", "), what, "{chip}");
    }

    #[test]
    fn the_demo_file_makes_the_accounts_that_the_demo_promises() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let mut ledger = HubLedger::open(&path, 1, TopUpRules::default()).unwrap();
        let loaded = load(&mut ledger, &demo(), NOW).unwrap();
        assert!(loaded.accounts >= 16 && loaded.products >= 14 && loaded.tills >= 1);
        check(
            &ledger,
            "72BF9961",
            "149,50",
            "top-up 300,00 demo-card-1 armed",
        );
        check(
            &ledger,
            "1925159265",
            "149,50",
            "top-up 300,00 demo-card-1 armed",
        );
        check(&ledger, "A10A8925", "60,00", "day 25,00");
        check(&ledger, "04A1B2C3D4E5F6", "100,00", "chip blocked");
        check(&ledger, "11223344", "7,00", "");
        check(&ledger, "55667788", "200,00", "week 50,00");
        check(&ledger, "99AABBCC", "200,00", "month 40,00");
        check(&ledger, "12345678901234", "120,00", "");
        check(&ledger, "D1E2F3A4", "75,00", "day 50,00, strict");
        assert_eq!(ledger.sum_of_balances().unwrap(), Money::ZERO);
    }

    #[test]
    fn loading_again_adds_nothing() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let mut ledger = HubLedger::open(&path, 1, TopUpRules::default()).unwrap();
        load(&mut ledger, &demo(), NOW).unwrap();
        let before = ledger.hub_position().unwrap();
        assert_eq!(load(&mut ledger, &demo(), NOW).unwrap(), Loaded::default());
        assert_eq!(ledger.hub_position().unwrap(), before);
    }

    #[test]
    fn a_file_with_a_mistake_adds_nothing_at_all() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("hub.sqlite");
        let mut ledger = HubLedger::open(&path, 1, TopUpRules::default()).unwrap();
        let file = dir.path().join("bad.toml");
        let good = std::fs::read_to_string(demo()).unwrap();
        let account = "\n[[tenant.canteen.account]]\nholder = \"X\"\nchip = \"nonsense\"\n";
        std::fs::write(&file, good + account).unwrap();
        let error = format!("{:#}", load(&mut ledger, &file, NOW).unwrap_err());
        assert!(error.contains("nonsense"), "{error}");
        assert!(ledger.list_canteens(Reach::Everything).unwrap().is_empty());
    }
}
