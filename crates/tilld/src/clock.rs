//! The wall clock: looked at all the time, shown to a technician and confirmed by one.

use std::time::Duration;

use jiff::Timestamp;
use till_control::{Answer, ClockAnswer, ClockCondition, EntryPlace, ErrorAnswer};
use till_ledger::{ClockRequest, ClockState, Ledger, Moment};
use tracing::warn;
use uuid::Uuid;

use crate::control::{Control, ledger_error};
use crate::sale::entry_place;

impl Control {
    /// Whether the clock can be believed.
    pub(crate) fn clock(&self) -> Answer {
        self.clock_answer(None)
    }

    /// A person says that the clock is right; the hub's word goes before theirs.
    pub(crate) async fn clock_confirm(&self) -> Result<Answer, ErrorAnswer> {
        let request = ClockRequest {
            id: Uuid::now_v7(),
            confirmed: true,
        };
        let entry = self.ledger.check_clock(request, Moment::now()).await;
        let entry = entry.map_err(ledger_error)?;
        Ok(self.clock_answer(entry.as_ref().map(entry_place)))
    }

    fn clock_answer(&self, entry: Option<EntryPlace>) -> Answer {
        let now = Moment::now();
        let progress = self.ledger.progress();
        Answer::Clock(Box::new(ClockAnswer {
            state: condition(progress.clock),
            shows: Timestamp::from_millisecond(now.utc_ms).unwrap_or(Timestamp::UNIX_EPOCH),
            believed: progress.time.at(now),
            hub: progress.time.hub(now),
            day: progress.time.today(now),
            entry,
        }))
    }
}

/// Looks at the clock for as long as the program runs, so that a jump is told of before the next
/// sale.
pub(crate) async fn watch_clock(ledger: Ledger) {
    loop {
        let request = ClockRequest {
            id: Uuid::now_v7(),
            confirmed: false,
        };
        if let Err(error) = ledger.check_clock(request, Moment::now()).await {
            warn!(%error, "Cannot write down how the clock is");
        }
        tokio::time::sleep(LOOK).await;
    }
}

fn condition(state: ClockState) -> ClockCondition {
    match state {
        ClockState::Right => ClockCondition::Right,
        ClockState::Back => ClockCondition::Back,
        ClockState::Forward => ClockCondition::Forward,
    }
}

const LOOK: Duration = Duration::from_secs(10);
