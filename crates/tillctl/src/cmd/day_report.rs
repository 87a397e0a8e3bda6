//! `tillctl x` and `tillctl z`.

use canteen::BusinessDay;
use sync_proto::Totals;
use till_control::{Answer, DayReportAnswer, Request};
use uuid::Uuid;

use crate::cli::Cli;
use crate::cmd::{Report, ask, connect, refused};
use crate::exit::Exit;
use crate::failure::Failure;
use crate::screen::{moment, plain};

pub(crate) async fn x(cli: &Cli, day: Option<BusinessDay>) -> Result<Report, Failure> {
    report(ask(cli, &Request::XReport { day }).await?)
}

pub(crate) async fn z(
    cli: &Cli,
    day: Option<BusinessDay>,
    id: Option<Uuid>,
) -> Result<Report, Failure> {
    let id = id.unwrap_or_else(Uuid::now_v7);
    let mut client = connect(cli).await?;
    let answer = client
        .request(&Request::ZReport { id: Some(id), day })
        .await
        .map_err(|source| Failure::ReportUnknown { id, source })?;
    report(answer)
}

fn report(answer: Answer) -> Result<Report, Failure> {
    let Answer::DayReport(report) = answer else {
        return Err(refused(answer));
    };
    let text = format!("{}\n{}", words(&report, &DANISH), words(&report, &ENGLISH));
    Report::new(&report, text, Exit::Fine)
}

/// The words of a report in one language.
struct Words {
    x: &'static str,
    z: &'static str,
    day: &'static str,
    made: &'static str,
    sales: &'static str,
    voids: &'static str,
    net: &'static str,
    declines: &'static str,
    through: &'static str,
    recorded: &'static str,
}

const DANISH: Words = Words {
    x: "X-rapport (gemmes ikke)",
    z: "Z-rapport nr.",
    day: "Dato",
    made: "Udskrevet",
    sales: "Salg",
    voids: "Fortrudt",
    net: "I alt",
    declines: "Afvist",
    through: "Til og med post",
    recorded: "Skrevet tidligere",
};

const ENGLISH: Words = Words {
    x: "X report (not recorded)",
    z: "Z report no.",
    day: "Date",
    made: "Printed",
    sales: "Sales",
    voids: "Taken back",
    net: "Total",
    declines: "Declined",
    through: "Through entry",
    recorded: "Recorded earlier",
};

fn words(report: &DayReportAnswer, words: &Words) -> String {
    let title = match report.number {
        Some(number) => format!("{} {number}", words.z),
        None => words.x.to_owned(),
    };
    let canteen = report.canteen.as_deref().map(plain);
    let place = match canteen {
        Some(canteen) => format!("{canteen}, {}", report.till),
        None => report.till.to_string(),
    };
    let mut rows = vec![(words.day, String::new(), report.day.to_string())];
    if let Some(made_at) = report.made_at {
        rows.push((words.made, String::new(), moment(made_at)));
    }
    rows.extend([
        totals(words.sales, &report.sales),
        totals(words.voids, &report.voids),
        (words.net, String::new(), report.net.to_string()),
        (words.declines, report.declines.to_string(), String::new()),
        (words.through, String::new(), report.through_seq.to_string()),
    ]);
    let mut text = format!("{title}\n{place}\n");
    for (name, count, figure) in rows {
        let line = format!("{name:<18}{count:>5}{figure:>21}");
        text.push_str(line.trim_end());
        text.push('\n');
    }
    if report.replayed {
        text.push_str(words.recorded);
        text.push('\n');
    }
    text
}

fn totals(name: &'static str, totals: &Totals) -> (&'static str, String, String) {
    (name, totals.count.to_string(), totals.amount.to_string())
}
