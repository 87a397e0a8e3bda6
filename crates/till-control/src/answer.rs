//! What the daemon answers.

use serde::{Deserialize, Serialize};

use crate::chip::ChipAnswer;
use crate::chip_enrolment::{ChipEnrolAnswer, ChipLookAnswer};
use crate::clock::ClockAnswer;
use crate::day_report::DayReportAnswer;
use crate::enrol::EnrolAnswer;
use crate::ledger::{LedgerPage, VerifyAnswer};
use crate::line::LineError;
use crate::sale::{SellAnswer, VoidAnswer};
use crate::status::{ReaderListAnswer, StatusAnswer, SyncAnswer};
use crate::watch::ReaderWatchAnswer;

/// An answer; `answer` names its kind on the wire.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "answer", rename_all = "snake_case")]
pub enum Answer {
    /// To [`crate::Request::Status`].
    Status(Box<StatusAnswer>),
    /// To [`crate::Request::ReaderList`].
    ReaderList(ReaderListAnswer),
    /// To [`crate::Request::ReaderWatch`].
    ReaderWatch(ReaderWatchAnswer),
    /// To [`crate::Request::ChipShow`].
    Chip(Box<ChipAnswer>),
    /// To [`crate::Request::ChipLook`].
    ChipLook(ChipLookAnswer),
    /// To [`crate::Request::ChipEnrol`].
    ChipEnrol(ChipEnrolAnswer),
    /// To [`crate::Request::LedgerList`].
    Ledger(LedgerPage),
    /// To [`crate::Request::LedgerVerify`].
    Verify(VerifyAnswer),
    /// To [`crate::Request::SyncNow`].
    Sync(SyncAnswer),
    /// To [`crate::Request::Enrol`].
    Enrol(EnrolAnswer),
    /// To [`crate::Request::Sell`].
    Sell(Box<SellAnswer>),
    /// To [`crate::Request::Void`].
    Void(Box<VoidAnswer>),
    /// To [`crate::Request::XReport`] and [`crate::Request::ZReport`].
    DayReport(Box<DayReportAnswer>),
    /// To [`crate::Request::Clock`] and [`crate::Request::ClockConfirm`].
    Clock(Box<ClockAnswer>),
    /// To any request: it was not carried out.
    Error(ErrorAnswer),
}

/// Why a request was not carried out. A decline is not an error but a [`SellAnswer`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// The kind of error.
    pub code: ErrorCode,
    /// What is wrong, in English.
    pub message: String,
    /// What a person can do about it; may be empty.
    #[serde(default)]
    pub advice: String,
}

impl ErrorAnswer {
    /// An error with what to do about it.
    pub fn new(
        code: ErrorCode,
        message: impl Into<String>,
        advice: impl Into<String>,
    ) -> ErrorAnswer {
        ErrorAnswer {
            code,
            message: message.into(),
            advice: advice.into(),
        }
    }
}

/// A request that cannot be read is answered with what is wrong with it.
impl From<&LineError> for ErrorAnswer {
    fn from(error: &LineError) -> ErrorAnswer {
        let message = match error {
            LineError::Unreadable(source) => format!("{error}: {source}"),
            LineError::TooLong { .. } | LineError::CutOff | LineError::Io(_) => error.to_string(),
        };
        ErrorAnswer::new(
            ErrorCode::BadRequest,
            message,
            "use the tillctl that came with this tilld",
        )
    }
}

/// The kinds of [`ErrorAnswer`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorCode {
    /// The request cannot be read, or one of its values is out of range.
    BadRequest,
    /// A line of a sale cannot be read, or its amount cannot be sold.
    BadLine,
    /// The text is no chip number.
    BadChipNumber,
    /// No sale of this till has the id.
    UnknownSale,
    /// The sale cannot be taken back: it is of another day, or was taken back already.
    VoidRefused,
    /// The day has no report yet: it is still to come.
    DayToCome,
    /// The clock cannot be confirmed: the hub's shows another time.
    ClockDiffers,
    /// No reader works, so no chip can be waited for.
    NoReader,
    /// No chip lies on a reader.
    NoChip,
    /// The talk with the chip broke off: it was lifted, or lies badly. Nothing is lost.
    ChipTorn,
    /// The chip is of a kind that cannot be given keys.
    ChipKind,
    /// The chip holds another canteen's keys.
    OtherCanteen,
    /// One of the chip's keys is not known here.
    UnknownChipKey,
    /// Another chip lies there than the one that is meant.
    OtherChip,
    /// The chip refused in another way.
    ChipRefused,
    /// Another sale is under way.
    Busy,
    /// The caller may not command this till.
    Forbidden,
    /// The ledger cannot be written or read.
    JournalUnavailable,
    /// Anything else; also a code that a newer daemon uses.
    #[serde(other)]
    Internal,
}

impl ErrorCode {
    /// The word for it on the wire.
    pub fn code(self) -> &'static str {
        match self {
            ErrorCode::BadRequest => "bad_request",
            ErrorCode::BadLine => "bad_line",
            ErrorCode::BadChipNumber => "bad_chip_number",
            ErrorCode::UnknownSale => "unknown_sale",
            ErrorCode::VoidRefused => "void_refused",
            ErrorCode::DayToCome => "day_to_come",
            ErrorCode::ClockDiffers => "clock_differs",
            ErrorCode::NoReader => "no_reader",
            ErrorCode::NoChip => "no_chip",
            ErrorCode::ChipTorn => "chip_torn",
            ErrorCode::ChipKind => "chip_kind",
            ErrorCode::OtherCanteen => "other_canteen",
            ErrorCode::UnknownChipKey => "unknown_chip_key",
            ErrorCode::OtherChip => "other_chip",
            ErrorCode::ChipRefused => "chip_refused",
            ErrorCode::Busy => "busy",
            ErrorCode::Forbidden => "forbidden",
            ErrorCode::JournalUnavailable => "journal_unavailable",
            ErrorCode::Internal => "internal",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[track_caller]
    fn check(code: ErrorCode) {
        let quoted = format!("{:?}", code.code());
        assert_eq!(serde_json::to_string(&code).unwrap(), quoted);
        assert_eq!(serde_json::from_str::<ErrorCode>(&quoted).unwrap(), code);
    }

    #[test]
    fn codes_are_the_words_on_the_wire() {
        check(ErrorCode::BadRequest);
        check(ErrorCode::BadLine);
        check(ErrorCode::BadChipNumber);
        check(ErrorCode::UnknownSale);
        check(ErrorCode::VoidRefused);
        check(ErrorCode::DayToCome);
        check(ErrorCode::ClockDiffers);
        check(ErrorCode::NoReader);
        check(ErrorCode::NoChip);
        check(ErrorCode::ChipTorn);
        check(ErrorCode::ChipKind);
        check(ErrorCode::OtherCanteen);
        check(ErrorCode::UnknownChipKey);
        check(ErrorCode::OtherChip);
        check(ErrorCode::ChipRefused);
        check(ErrorCode::Busy);
        check(ErrorCode::Forbidden);
        check(ErrorCode::JournalUnavailable);
        check(ErrorCode::Internal);
    }

    #[test]
    fn a_code_of_a_newer_daemon_is_read_as_internal() {
        let json = r#"{"answer":"error","code":"on_fire","message":"smoke"}"#;
        let Answer::Error(error) = serde_json::from_str(json).unwrap() else {
            panic!("not an error");
        };
        assert_eq!(error.code, ErrorCode::Internal);
        assert_eq!(error.message, "smoke");
    }
}
