//! Serves the cashier page with sample states on 127.0.0.1:8089, one path each, without a till.
//!
//! Everything shown is demo data. `/lost` is the page whose till has gone.

use std::io::{self, BufRead, BufReader, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

use canteen::{BusinessDay, Decision, Purchase, Spent, TopUpOutcome};
use canteen::{Contact, DeclineReason, LimitFacts, Money, OfflineRules, PurchaseAmount};
use jiff::{SignedDuration, Timestamp};
use till_page::{
    Attention, Basket, BasketLine, ChipOnReader, Frame, Notice, Outcome, PageState, Person, Phase,
    PiecesLeft, Product, Reader, ReaderTrouble, RecentKind, RecentSale, Text, attention_words,
    decline_title, line_words, notice_shown, page, static_file, verdict_words,
};

fn main() -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:8089")?;
    for name in SAMPLES {
        println!("http://127.0.0.1:8089/{name}");
    }
    for stream in listener.incoming() {
        let stream = stream?;
        thread::spawn(move || answer(stream));
    }
    Ok(())
}

fn answer(mut stream: TcpStream) -> io::Result<()> {
    let mut lines = BufReader::new(stream.try_clone()?).lines();
    let request = lines.next().unwrap_or(Ok(String::new()))?;
    let mut lost = false;
    for line in lines {
        let line = line?;
        lost |= line.to_ascii_lowercase().starts_with("referer:") && line.ends_with("/lost");
        if line.is_empty() {
            break;
        }
    }
    let path = request.split(' ').nth(1).unwrap_or("/");
    if path == "/events" {
        return if lost { Ok(()) } else { beat(stream) };
    }
    let (content_type, body) = match static_file(path) {
        Some(file) => (file.content_type, file.bytes.to_vec()),
        None => {
            let state = sample(path.trim_start_matches('/'));
            (
                "text/html; charset=utf-8",
                page(&Frame { state: &state }).into_bytes(),
            )
        }
    };
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: {content_type}\r\nContent-Length: {}\r\n\
         Content-Security-Policy: default-src 'self'; img-src 'self' data:\r\n\
         Connection: close\r\n\r\n",
        body.len()
    )?;
    stream.write_all(&body)
}

fn beat(mut stream: TcpStream) -> io::Result<()> {
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nConnection: close\r\n\r\n"
    )?;
    loop {
        stream.write_all(b": still here\n\n")?;
        thread::sleep(Duration::from_secs(2));
    }
}

const SAMPLES: [&str; 18] = [
    "empty",
    "full",
    "waiting",
    "approved",
    "funds",
    "limit",
    "unknown",
    "blocked",
    "offline",
    "restricted",
    "stopped",
    "copied",
    "backlog",
    "attention",
    "chip",
    "tabs",
    "faulty",
    "lost",
];

fn sample(name: &str) -> PageState {
    let mut state = base();
    match name {
        "full" => state.basket = basket(12),
        "waiting" => {
            state.basket = basket(3);
            state.phase = Phase::Waiting;
            state.waiting_until = Some(27_000);
        }
        "approved" => state.verdict = Some(approved(TopUpOutcome::Requested)),
        "funds" => {
            state.basket = basket(2);
            let balance = Money::from_kroner(7);
            state.verdict = Some(declined(DeclineReason::InsufficientFunds { balance }));
        }
        "limit" => {
            state.basket = basket(2);
            state.verdict = Some(declined(DeclineReason::LimitDay(LimitFacts {
                limit: Money::from_kroner(25),
                spent: Money::from_kroner(22),
                left: Money::from_kroner(3),
            })));
        }
        "unknown" => state.verdict = Some(declined(DeclineReason::UnknownChip)),
        "blocked" => state.verdict = Some(declined(DeclineReason::ChipBlocked)),
        "offline" => {
            state.line = line(false, 17, 7);
            state.basket = basket(2);
            let mut purchase = purchase();
            purchase.contact.online = false;
            purchase.contact.age = Duration::from_secs(1020);
            let decision = Decision::Decline {
                reason: DeclineReason::InsufficientFunds {
                    balance: Money::from_kroner(7),
                },
                top_up: TopUpOutcome::Requested,
            };
            state.verdict = Some(verdict(&decision, &purchase));
        }
        "restricted" => state.line = line(false, 74 * 60, 212),
        "stopped" => state.line = line(false, 15 * 24 * 60, 212),
        "copied" => {
            state.notices = vec![notice_shown(&Notice::Forked)];
            state.basket = basket(3);
        }
        "backlog" => {
            state.line = line(false, 26 * 60, 20_413);
            state.notices = vec![
                notice_shown(&Notice::ManyWaiting),
                notice_shown(&Notice::OldData),
            ];
        }
        "attention" => {
            state.basket = basket(3);
            state.phase = Phase::Waiting;
            state.waiting_until = Some(27_000);
            state.verdict = Some(attention_words(
                "9",
                &Attention::HoldStill,
                Person::default(),
            ));
        }
        "chip" => {
            state.chip = Some(ChipOnReader {
                person: person(),
                usable: true,
                balance: Some("149,50 kr.".to_owned()),
                status: Text::new("Aktiv", "Active"),
            });
        }
        "tabs" => {
            let more = state.products.clone();
            state
                .products
                .extend(more.into_iter().map(|product| Product {
                    id: product.id + 100,
                    name: format!("{} (stor)", product.name),
                    ..product
                }));
            state.basket = basket(5);
        }
        "faulty" => {
            state.readers = vec![Reader::new("Demo", Some(ReaderTrouble::NotAnswering))];
            state.notices = vec![
                notice_shown(&Notice::DiskFull),
                notice_shown(&Notice::ClockUntrusted),
            ];
            state.line = line(false, 17, 1);
            state.journal_ok = false;
            state.products.clear();
        }
        _ => {}
    }
    state
}

fn base() -> PageState {
    PageState {
        version: "0.1.0".to_owned(),
        till: "Kasse 1".to_owned(),
        canteen: "Demo Kantine".to_owned(),
        boot: "preview".to_owned(),
        line: line(true, 0, 0),
        readers: vec![Reader::new("Demo", None)],
        phase: Phase::Open,
        basket: basket(0),
        waiting_until: None,
        verdict: None,
        chip: None,
        recent: recent(),
        products: products(),
        notices: Vec::new(),
        journal_ok: true,
    }
}

fn line(online: bool, minutes: u64, waiting: u64) -> till_page::Line {
    let age = Duration::from_secs(minutes * 60);
    let since = (!online).then(|| now() - SignedDuration::try_from(age).expect("a short span"));
    line_words(
        Some(Contact { online, age }),
        &OfflineRules::default(),
        since,
        waiting,
        None,
        now(),
    )
}

fn now() -> Timestamp {
    "2026-11-20T10:59:00Z".parse().expect("a moment")
}

fn person() -> Person {
    Person {
        name: Some("Demo Elev".to_owned()),
        photo: Some(PORTRAIT.to_owned()),
    }
}

fn approved(top_up: TopUpOutcome) -> till_page::Verdict {
    let purchase = purchase();
    let decision = Decision::Approve {
        balance_after: Money::from_ore(27_50),
        spent_after: Spent::nothing(purchase.on),
        top_up,
    };
    verdict(&decision, &purchase)
}

fn declined(reason: DeclineReason) -> till_page::Verdict {
    let decision = Decision::Decline {
        reason,
        top_up: match reason {
            DeclineReason::InsufficientFunds { .. } => TopUpOutcome::Requested,
            _ => TopUpOutcome::None,
        },
    };
    verdict(&decision, &purchase())
}

fn verdict(decision: &Decision, purchase: &Purchase) -> till_page::Verdict {
    let known = !matches!(
        decision,
        Decision::Decline {
            reason: DeclineReason::UnknownChip,
            ..
        }
    );
    verdict_words(Outcome {
        id: "1".to_owned(),
        decision,
        purchase,
        account: None,
        person: if known { person() } else { Person::default() },
        now: now(),
    })
}

fn purchase() -> Purchase {
    Purchase {
        amount: PurchaseAmount::new(Money::from_kroner(22)).expect("above zero"),
        on: BusinessDay::of(now()),
        contact: Contact {
            online: true,
            age: Duration::ZERO,
        },
    }
}

fn basket(lines: usize) -> Basket {
    let lines: Vec<BasketLine> = products()
        .into_iter()
        .take(lines)
        .enumerate()
        .map(|(index, product)| BasketLine {
            index,
            quantity: 1,
            text: product.name,
            amount: product.price.clone(),
            unit_price: product.price,
        })
        .collect();
    let amounts = lines.iter().filter_map(|line| line.amount.parse().ok());
    let total = Money::checked_sum(amounts).unwrap_or_default();
    Basket {
        lines,
        total: total.bare().to_string(),
    }
}

fn products() -> Vec<Product> {
    [
        ("Dagens ret", "Varm mad", "22,00"),
        ("Dagens suppe", "Varm mad", "18,00"),
        ("Lille portion", "Varm mad", "14,00"),
        ("Stor grovbolle", "Brød", "5,00"),
        ("Bolle med ost", "Brød", "9,00"),
        ("Sandwich med kylling", "Brød", "24,00"),
        ("Rugbrødsmad", "Brød", "8,00"),
        ("Ostehaps", "Snack", "3,00"),
        ("Yoghurt", "Snack", "6,00"),
        ("Gulerodsstave", "Snack", "4,00"),
        ("Frugt", "Snack", "3,50"),
        ("Minimælk", "Drikke", "4,50"),
        ("Vand", "Drikke", "8,00"),
        ("Æblejuice", "Drikke", "9,00"),
    ]
    .into_iter()
    .zip(1..)
    .map(|((name, category, price), id)| Product {
        id,
        name: name.to_owned(),
        category: category.to_owned(),
        price: price.to_owned(),
    })
    .collect()
}

fn piece(line: u32, left: u32, text: &str, unit_price: &str) -> PiecesLeft {
    PiecesLeft {
        line,
        left,
        text: text.to_owned(),
        unit_price: unit_price.to_owned(),
    }
}

fn recent() -> Vec<RecentSale> {
    let row = |id: &str, time: &str, kind, title, amount: &str| RecentSale {
        id: id.to_owned(),
        time: time.to_owned(),
        kind,
        title,
        amount: amount.to_owned(),
        name: Some("Demo Elev".to_owned()),
        voidable: kind == RecentKind::Approved,
        pieces: vec![
            piece(0, 1, "Dagens ret", "22,00"),
            piece(1, 2, "Ostehaps", "3,00"),
        ],
    };
    let sale = || Text::new("Køb", "Sale");
    vec![
        row("a", "11:58", RecentKind::Approved, sale(), "28,00"),
        row(
            "b",
            "11:57",
            RecentKind::Declined,
            decline_title("limit_day"),
            "31,50",
        ),
        row(
            "c",
            "11:57",
            RecentKind::Voided,
            Text::new("Fortrudt", "Undone"),
            "14,00",
        ),
    ]
}

const PORTRAIT: &str = "data:image/svg+xml,%3Csvg xmlns='http://www.w3.org/2000/svg' viewBox='0 0 80 96'%3E%3Crect width='80' height='96' fill='%23cfe3f2'/%3E%3Ccircle cx='40' cy='38' r='18' fill='%23e2b48c'/%3E%3Cpath d='M8 96c0-26 14-36 32-36s32 10 32 36z' fill='%23457'/%3E%3C/svg%3E";
