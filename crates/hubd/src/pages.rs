//! The few pages for people: an index, and a statement as a guardian reads it. Danish first.

use askama::Template;
use axum::extract::State;
use axum::http::{HeaderName, HeaderValue, StatusCode, header};
use axum::response::{Html, IntoResponse, Response};
use canteen::{AccountId, BusinessDay, COPENHAGEN, LimitFacts, LimitMode, Money, TopUpState};
use hub_ledger::{AccountRow, Agreement, BookingRow};
use jiff::{Timestamp, ToSpan};

use crate::access::Operator;
use crate::api::{Days, line_text};
use crate::body::{Path, Query};
use crate::problem::Problem;
use crate::server::Hub;

#[derive(Template)]
#[template(path = "index.html")]
struct IndexPage {
    version: &'static str,
}

/// Where things are.
pub(crate) async fn index() -> Response {
    page(&IndexPage {
        version: env!("CARGO_PKG_VERSION"),
    })
}

#[derive(Template)]
#[template(path = "statement.html")]
struct StatementPage {
    account: String,
    name: String,
    balance: String,
    status: &'static str,
    top_up: Option<String>,
    limits: Vec<LimitText>,
    limits_hold: &'static str,
    from: String,
    to: String,
    /// The same days as a browser's date fields take them.
    from_field: String,
    to_field: String,
    /// Unless the period has no first day.
    month_before: Option<MonthLink>,
    /// Unless it has not begun.
    month_after: Option<MonthLink>,
    rows: Vec<RowText>,
    came_in: String,
    went_out: String,
}

/// The way to another month.
struct MonthLink {
    /// `2026-11`
    query: String,
    /// `november 2026`
    text: String,
}

/// A limit in force and what is left of it today.
struct LimitText {
    window: &'static str,
    english: &'static str,
    limit: String,
    spent: String,
    left: String,
}

struct RowText {
    /// `20.11.2026`
    day: String,
    /// `11.42`
    time: String,
    text: String,
    lines: Vec<String>,
    amount: String,
    balance: String,
}

/// An account's statement for this month, or for the days in the query.
pub(crate) async fn statement(
    State(hub): State<Hub>,
    Operator(reach): Operator,
    Path(id): Path<i64>,
    Query(days): Query<Days>,
) -> Result<Response, Problem> {
    let now = Timestamp::now();
    let range = days.range(now)?;
    let (first, last) = (range.start().date(), range.end().date());
    let (account, agreement, rows) = hub
        .books
        .read(move |books| {
            let account = books.account_within(reach, AccountId(id))?;
            let agreement = books.agreement(&account, now)?;
            Ok((account, agreement, books.statement(AccountId(id), range)?))
        })
        .await?;
    Ok(page(&StatementPage {
        account: account.id.to_string(),
        balance: account.balance.to_string(),
        status: status_text(&account),
        top_up: agreement.as_ref().map(top_up_text),
        limits: limit_texts(&account, BusinessDay::of(now)),
        limits_hold: match account.limits.mode {
            LimitMode::Lenient => {
                "ved hver kasse for sig; kasser uden forbindelse kan tilsammen komme over"
            }
            LimitMode::Strict => {
                "altid; en kasse uden forbindelse kan afvise et køb, selv om der er noget tilbage"
            }
        },
        name: account.holder.map(|holder| holder.name).unwrap_or_default(),
        from: danish(first),
        to: danish(last),
        from_field: first.to_string(),
        to_field: last.to_string(),
        month_before: (first > jiff::civil::Date::ZERO)
            .then(|| MonthLink::new(first.first_of_month().saturating_sub(1.day()))),
        month_after: Some(last.last_of_month().saturating_add(1.day()))
            .filter(|day| *day <= BusinessDay::of(now).date())
            .map(MonthLink::new),
        came_in: sum(&rows, |amount| amount > Money::ZERO)?,
        went_out: sum(&rows, |amount| amount < Money::ZERO)?,
        rows: rows.iter().map(RowText::new).collect(),
    }))
}

fn sum(rows: &[BookingRow], is_counted: fn(Money) -> bool) -> Result<String, Problem> {
    let amounts = rows.iter().map(|row| row.amount);
    let sum = Money::checked_sum(amounts.filter(|amount| is_counted(*amount)));
    sum.map(|sum| sum.bare().to_string())
        .ok_or_else(|| Problem::new("internal", "the period's sum is more than can be written"))
}

impl MonthLink {
    /// To the month of this day.
    fn new(day: jiff::civil::Date) -> MonthLink {
        const NAMES: [&str; 12] = [
            "januar",
            "februar",
            "marts",
            "april",
            "maj",
            "juni",
            "juli",
            "august",
            "september",
            "oktober",
            "november",
            "december",
        ];
        let name = NAMES[day.month().unsigned_abs() as usize - 1];
        MonthLink {
            query: BusinessDay::from_date(day).month().to_string(),
            text: format!("{name} {}", day.year()),
        }
    }
}

impl RowText {
    fn new(row: &BookingRow) -> RowText {
        let at = COPENHAGEN.to_datetime(row.happened_at);
        RowText {
            day: danish(at.date()),
            time: format!("{:02}.{:02}", at.hour(), at.minute()),
            text: row.text.clone(),
            lines: row.lines.iter().map(line_text).collect(),
            amount: row.amount.bare().to_string(),
            balance: row.balance_after.bare().to_string(),
        }
    }
}

fn status_text(account: &AccountRow) -> &'static str {
    match account.status {
        canteen::Status::Active => "Aktiv",
        canteen::Status::Blocked => "Spærret",
        canteen::Status::Closed => "Lukket",
    }
}

fn limit_texts(account: &AccountRow, today: BusinessDay) -> Vec<LimitText> {
    let (limits, spent) = (&account.limits, account.spent.as_of(today));
    [
        (("dagligt", "Daily"), limits.day, spent.day()),
        (("ugentligt", "Weekly"), limits.week, spent.week()),
        (("månedligt", "Monthly"), limits.month, spent.month()),
    ]
    .into_iter()
    .filter_map(|((window, english), limit, spent)| {
        let LimitFacts { limit, spent, left } = LimitFacts::of(limit?, spent);
        Some(LimitText {
            window,
            english,
            limit: limit.to_string(),
            spent: spent.to_string(),
            left: left.to_string(),
        })
    })
    .collect()
}

fn top_up_text(agreement: &Agreement) -> String {
    let amount = agreement.amount;
    let state = match (agreement.disabled, agreement.armed, agreement.state) {
        _ if agreement.held => {
            "venter, til kantinen ved, hvad en tidligere betaling på kortet var for; indbetal selv imens"
        }
        (true, _, _) => "kortet kan ikke bruges; opret en ny aftale",
        (false, false, _) => "træder i kraft, når der er indbetalt 100,00 kr. i alt",
        (false, true, TopUpState::Idle) => "aktiv",
        (false, true, TopUpState::Pending) => "er i gang",
        (false, true, TopUpState::Failed) => "mislykkedes; indbetal selv, eller vent",
    };
    format!("{amount} ({state})")
}

/// `20.11.2026`
fn danish(date: jiff::civil::Date) -> String {
    format!("{:02}.{:02}.{}", date.day(), date.month(), date.year())
}

fn page(template: &impl Template) -> Response {
    match template.render() {
        Ok(html) => (PAGE_HEADERS, Html(html)).into_response(),
        Err(_) => (StatusCode::INTERNAL_SERVER_ERROR, "the page failed\n").into_response(),
    }
}

/// Personal pages are not kept by the browser and load nothing from elsewhere.
const PAGE_HEADERS: [(HeaderName, HeaderValue); 3] = [
    (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
    (
        header::REFERRER_POLICY,
        HeaderValue::from_static("no-referrer"),
    ),
    (
        header::CONTENT_SECURITY_POLICY,
        HeaderValue::from_static(
            "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'",
        ),
    ),
];
