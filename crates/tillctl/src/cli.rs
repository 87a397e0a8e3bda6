//! The command line.

use std::path::PathBuf;

use canteen::BusinessDay;
use clap::{Args, Parser, Subcommand};
use sync_proto::VoidLine;
use till_control::{DEFAULT_SOCKET, LEDGER_PAGE_MAX};
use uuid::Uuid;

/// Looks after a canteen till: asks its daemon, tilld, and prints what it says.
#[derive(Debug, Parser)]
#[command(
    version,
    propagate_version = false,
    arg_required_else_help = true,
    after_help = AFTER_HELP,
    after_long_help = AFTER_HELP
)]
pub(crate) struct Cli {
    /// The daemon's control socket
    #[arg(
        long,
        global = true,
        env = "TILLCTL_SOCKET",
        hide_env_values = true,
        default_value = DEFAULT_SOCKET,
        value_name = "PATH",
        help_heading = EVERYWHERE
    )]
    pub(crate) socket: PathBuf,

    /// Print one JSON object on one line; amounts are integer øre
    #[arg(long, global = true, help_heading = EVERYWHERE)]
    pub(crate) json: bool,

    #[command(subcommand)]
    pub(crate) noun: Noun,
}

/// What the command is about.
#[derive(Debug, Subcommand)]
pub(crate) enum Noun {
    /// Show how the till is: ledger, line to the hub, readers
    ///
    /// Ends with 1 when the till cannot sell: its journal cannot be written, its data about accounts
    /// is too old, or it was revoked.
    #[command(after_long_help = STATUS_HELP)]
    Status,
    /// Chip readers
    #[command(subcommand)]
    Reader(ReaderVerb),
    /// Chips and their accounts
    #[command(subcommand)]
    Chip(ChipVerb),
    /// The till's ledger
    #[command(subcommand)]
    Ledger(LedgerVerb),
    /// Synchronisation with the hub
    #[command(subcommand)]
    Sync(SyncVerb),
    /// Show the hub a new one-time code
    ///
    /// A till that the hub does not know yet becomes known. One that is known, was copied, restored
    /// or revoked begins an empty ledger, as soon as the hub has every entry of the old one; the old
    /// file is kept beside it. Nothing is lost when the till is switched off meanwhile.
    #[command(after_long_help = ENROL_HELP)]
    Enrol {
        /// The code that the operator made for this till
        #[arg(long, value_name = "CODE")]
        code: String,
    },
    /// Sell to the next chip that is tapped
    ///
    /// Waits for a chip on the till's reader, sells the lines to it and prints the outcome.
    /// Ctrl-C cancels the sale; if a chip paid a moment before, its outcome is printed instead.
    /// Ends with 0 when approved and with 1 when declined, timed out or cancelled.
    #[command(after_long_help = SELL_HELP)]
    Sell {
        /// A line: QUANTITYx TEXT PRICE, the price being that of ONE piece; may be repeated
        ///
        /// "2x Yoghurt 6,00" costs 12,00 kr. A price is written in kroner with at most two
        /// digits after the comma.
        #[arg(
            long = "line",
            value_name = "LINE",
            required = true,
            allow_hyphen_values = true
        )]
        lines: Vec<String>,

        /// How long to wait for a chip, in seconds
        #[arg(
            long,
            value_name = "SECONDS",
            default_value_t = 30,
            value_parser = clap::value_parser!(u32).range(1..=600)
        )]
        timeout: u32,

        /// Names the sale; drawn anew unless given
        ///
        /// An id that stands in the ledger sells nothing again and prints the recorded outcome:
        /// use it to repeat a sale whose outcome was lost.
        #[arg(long, value_name = "UUID", value_parser = id)]
        id: Option<Uuid>,
    },
    /// Take back a sale of this till and this day, whole or by the piece
    ///
    /// The money goes back to the account. Ends with 1 when there is no such sale, or when it
    /// can no longer be taken back.
    #[command(after_long_help = VOID_HELP)]
    Void {
        /// The sale's id, as `sell` and `ledger list` print it
        #[arg(value_name = "SALE_ID", value_parser = id)]
        sale: Uuid,

        /// Only pieces of a line: NxQ is Q pieces of line N, N alone is one; may be repeated
        ///
        /// Lines are counted from 1, in the order in which they were sold. Without --line all
        /// that is left of the sale is taken back.
        #[arg(long = "line", value_name = "N[xQ]", value_parser = pieces)]
        lines: Vec<VoidLine>,

        /// Names the void; drawn anew unless given
        ///
        /// An id that stands in the ledger takes nothing back again and prints the recorded
        /// outcome: use it to repeat a void whose outcome was lost.
        #[arg(long, value_name = "UUID", value_parser = id)]
        id: Option<Uuid>,
    },
    /// Print the totals of a day; nothing is written (X report)
    #[command(after_long_help = DAY_REPORT_HELP)]
    X {
        /// The day; the till's today unless given
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<BusinessDay>,
    },
    /// Write the totals of a day down under the next number and print them (Z report)
    ///
    /// Numbers are consecutive and never used twice. The totals are reckoned anew from all
    /// entries of the day; a second report of a day has a number of its own.
    #[command(after_long_help = DAY_REPORT_HELP)]
    Z {
        /// The day; the till's today unless given
        #[arg(long, value_name = "YYYY-MM-DD")]
        day: Option<BusinessDay>,

        /// Names the report; drawn anew unless given
        ///
        /// An id that stands in the ledger writes nothing again and prints the recorded report:
        /// use it to repeat a report whose outcome was lost.
        #[arg(long, value_name = "UUID", value_parser = id)]
        id: Option<Uuid>,
    },
    /// Show whether the till believes its clock, or confirm it
    ///
    /// Ends with 1 when it does not.
    #[command(after_long_help = CLOCK_HELP, args_conflicts_with_subcommands = true)]
    Clock {
        #[command(subcommand)]
        verb: Option<ClockVerb>,
    },
}

/// What can be done with the clock.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum ClockVerb {
    /// Say that the clock is right, after looking at it
    ///
    /// Business days and limits then go by the clock again. Refused while the hub's clock shows
    /// another time: set the machine's clock first.
    Confirm,
}

/// Reads the id of an entry.
fn id(text: &str) -> Result<Uuid, String> {
    text.parse()
        .map_err(|_| "an id has 36 characters, as `tillctl ledger list` shows them".to_owned())
}

/// Reads `N` or `NxQ`.
fn pieces(text: &str) -> Result<VoidLine, String> {
    let (line, quantity) = text.split_once('x').unwrap_or((text, "1"));
    let number = |text: &str| text.trim().parse::<u32>().ok().filter(|number| *number > 0);
    match (number(line), number(quantity)) {
        (Some(line), Some(quantity)) => Ok(VoidLine {
            line: line - 1,
            quantity,
        }),
        _ => Err("write 2 for one piece of line 2, or 2x3 for three pieces of it".to_owned()),
    }
}

/// What can be done with readers.
#[derive(Debug, Subcommand)]
pub(crate) enum ReaderVerb {
    /// List the readers, each with what is wrong with it and what to do
    ///
    /// Ends with 1 when a reader is faulty or there is none.
    #[command(after_long_help = READER_LIST_HELP)]
    List,
    /// Watch the readers, and show each tap
    ///
    /// Lay chips on the readers and lift them. Shown are the number in every shape, how the chip
    /// is read, and the time from the field to the event; flagged are taps told twice, chips that
    /// flicker, and random numbers. A basket that waits for a chip is paid by such a tap, too.
    /// Ends with 1 when something was flagged, or nothing was tapped.
    #[command(after_long_help = READER_TEST_HELP)]
    Test {
        /// How long to watch
        #[arg(long, value_name = "SECONDS", default_value_t = 30,
              value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
    /// Find out in which order a foreign list writes chip numbers, by one known chip
    ///
    /// Tap the chip that the list knows under NUMBER. With --list, the list is then printed with
    /// the till's own numbers: each line's first field is read in the order found, the rest of the
    /// line stays as it is. What cannot be read, such as a line of headings, stays and is marked. Ends
    /// with 1 when NUMBER is not the chip that was tapped, or when a line cannot be read.
    #[command(after_long_help = BYTE_ORDER_HELP)]
    ByteOrder {
        /// The number of the chip as the list has it
        number: String,
        /// The list: a file with a number first on each line, up to a comma, semicolon or tab
        #[arg(long, value_name = "FILE")]
        list: Option<PathBuf>,
        /// How long to wait for the chip
        #[arg(long, value_name = "SECONDS", default_value_t = 30,
              value_parser = clap::value_parser!(u64).range(1..=3600))]
        seconds: u64,
    },
}

/// What can be done with chips.
#[derive(Debug, Subcommand)]
pub(crate) enum ChipVerb {
    /// Show what the till knows about a chip: account, balance, limits, top-up
    ///
    /// Ends with 1 when the till does not know the chip.
    #[command(after_long_help = CHIP_SHOW_HELP)]
    Show {
        /// The chip number: UID in hex (72BF9961), the same as a decimal (1925159265), or the
        /// 14 digits printed on the card
        number: String,
    },
    /// Give the chip on a reader the canteen's keys, so that it can prove itself
    ///
    /// Needs an operator's token, asks the hub for this one chip's keys, has tilld write them at the
    /// till's reader and prove the chip by them, and then tells the hub. From then on the chip's bare
    /// UID does not pay. For NTAG 424 DNA; for DESFire EV2 and EV3 with the application CA17EE and five
    /// AES keys: at every reader but an RDM6300 and one that types. For MIFARE Ultralight AES: at a PN532,
    /// a TWN4, an ACR122U and a reader of the project's own protocol.
    ///
    /// The chip must lie still until the command says that it is done. A chip that is lifted too
    /// early is not broken: it is asked for again, and the same command may be given again at any
    /// time. Ends with 1 when the chip cannot be enrolled.
    #[command(after_long_help = CHIP_ENROL_HELP)]
    Enrol(EnrolChip),
}

/// How a chip is to be enrolled.
#[derive(Debug, Args)]
pub(crate) struct EnrolChip {
    /// The hub's number of the account that the chip is to pay from
    #[arg(long, value_name = "NUMBER")]
    pub(crate) account: i64,
    /// The chip's real UID in hex; needed only when it shows a random one that the till cannot open
    #[arg(long, value_name = "UID")]
    pub(crate) chip: Option<String>,
    /// A file with the operator's token; - is standard input; without it, it is asked for
    ///
    /// A token is never an argument: those are seen by everybody on the machine.
    #[arg(long, value_name = "FILE")]
    pub(crate) token_file: Option<PathBuf>,
    /// The till's settings, which say where the hub is and which certificates it has
    #[arg(long, value_name = "FILE", default_value = "/etc/kasse/till.toml")]
    pub(crate) settings: PathBuf,
    /// Only the chip on this reader, named as by `reader list`
    #[arg(long, value_name = "NAME")]
    pub(crate) reader: Option<String>,
    /// Have the chip show another UID at every power-up, for ever; no DESFire
    ///
    /// Nobody can follow its owner by it then. CANNOT BE UNDONE, and other systems, such as doors, no
    /// longer know the chip by its UID. Is asked for once more, unless --yes is given.
    #[arg(long)]
    pub(crate) random_uid: bool,
    /// Do not ask whether --random-uid is meant
    #[arg(long, requires = "random_uid")]
    pub(crate) yes: bool,
    /// How long to wait for the chip, in seconds
    #[arg(long, value_name = "SECONDS", default_value_t = 60,
          value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
}

/// What can be done with the ledger.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum LedgerVerb {
    /// List entries, the newest first
    #[command(after_long_help = LEDGER_LIST_HELP)]
    List {
        /// How many at most
        #[arg(
            long,
            value_name = "N",
            default_value_t = 20,
            value_parser = clap::value_parser!(u32).range(1..=i64::from(LEDGER_PAGE_MAX))
        )]
        limit: u32,
        /// Only entries before this sequence number
        #[arg(long, value_name = "SEQ")]
        before: Option<u64>,
    },
    /// Check every entry of the ledger and its hash chain
    ///
    /// Ends with 1 when something is wrong.
    #[command(after_long_help = LEDGER_VERIFY_HELP)]
    Verify,
}

/// What can be done with synchronisation.
#[derive(Debug, Clone, Copy, Subcommand)]
pub(crate) enum SyncVerb {
    /// Send waiting entries and fetch changes now, without waiting for the next turn
    ///
    /// Ends with 1 when the hub does not answer or does not have everything afterwards.
    #[command(after_long_help = SYNC_NOW_HELP)]
    Now,
}

/// The heading over the options that every command has.
const EVERYWHERE: &str = "Options of every command";

const AFTER_HELP: &str = "\
Exit codes:
   0  carried out, nothing wrong; for sell: approved
   1  carried out, with findings: declined, chip unknown, reader faulty, ledger damaged,
      hub not reached, sale not voidable, clock not believed
   2  the command line, a line of a sale or a chip number cannot be read
  69  tilld, or the reader that the order needs, is not there
  70  anything else went wrong
  75  another sale is under way: try again
  77  you may not command this till: become root or join the group of its socket

With --json exactly one object is printed, on standard output, whatever happens. A command that
was not carried out prints {\"error\":{\"code\",\"message\",\"advice\"}}.";

const STATUS_HELP: &str = "\
With --json:
  till, canteen    names; canteen is null until the hub has said it
  version, started_at
                   of the daemon; moments are RFC 3339 in UTC
  epoch, head_seq  the ledger and its last entry
  acked_seq, waiting
                   the last entry that the hub has, and how many it lacks
  standing         {state, text}; state is one of good, forked (the disk was copied),
                   rolled_back (the disk was restored), revoked, not_enrolled; text says what
                   to do
  alarms           what somebody must look into, in words
  siblings         null, or {heard, open, of}: how many of the canteen's other tills this one
                   hears while the hub is away, how many let themselves be asked, of how many
  clock            right, back or forward
  holes            damaged entries that were found at the last start
  renewing         whether an empty ledger begins when the hub has everything of this one
  line             {state, since, restricted_since, data_age_s, hub, hub_epoch, cursor, text}; text
                   says what is wrong and what to do; state is one of never,
                   online, offline, restricted (only a meal is sold), stopped
  journal          {ok, text}: whether sales can be written down
  readers          [{name, kind, ok, text}]
  unknown_chips    taps by unknown chips since the daemon started
  database_bytes   the size of the database on disk";

const READER_LIST_HELP: &str = "\
With --json:
  readers  [{name, kind, ok, text}]; text is what is wrong and what to do, or what the reader
           says about itself";

const ENROL_HELP: &str = "\
With --json:
  begins_anew  whether an empty ledger takes the place of an old one
  waiting      how many entries must go up before
  text         what happens now";

const READER_TEST_HELP: &str = "\
With --json, when the time is over:
  taps   [{reader, at_ms, took_us, uid, shown, technology, hex, hex_reversed, decimal,
         decimal_reversed, flags}]
    at_ms   when the chip was seen, in milliseconds since the daemon started
    took_us from the field to the event, in microseconds
    shown   bare, proven or failed
    flags   duplicate: told a second time without having left
            flicker: the same chip at the same reader, less than half a second after it left
            two_readers: the same chip at another reader less than two seconds before
  notes  [{reader, at_ms, text, random}]; what was no usable chip, and readers that failed";

const BYTE_ORDER_HELP: &str = "\
With --json:
  uid     the chip that was tapped
  number  the number as it was given
  shapes  in which shapes that is its number: hex, hex_reversed, decimal, decimal_reversed
  lines   null without --list, else [{line, uid}]; uid is null where a line cannot be read";

const CHIP_SHOW_HELP: &str = "\
With --json, all amounts being integer øre:
  asked  the number as it was understood
  chip   null when the till does not know it, else
           uid, decimal, card  the chip's numbers; decimal and card may be null
           number              the hub's number of the chip
           status              active, blocked or closed
           holder              the holder's name, or null
           account             {id, status, currency, balance, credit, allowance, share, limits,
                               spent, top_up}
             allowance         what may still be sold on it without the hub; null is no such cap
             share             what may still be sold here of strict limits; null when lenient
             limits            {day, week, month}; null is no limit
             spent             {on, day, week, month}: in the windows of that day
             top_up            null without an agreement, else {amount, armed, state}; state is
                               idle, pending or failed";

const CHIP_ENROL_HELP: &str = "\
Example:
  tillctl chip enrol --account 42 --token-file operator-token

The token stays in this command and goes to the hub that the settings name; tilld is given the keys
of this one chip and forgets them. Keys are never printed, logged or kept. What else to mind, and
what to do when something goes wrong, is in the runbook (runbook/enrol-chip.md).

With --json:
  chip        the chip's real UID
  account     the account that it pays from
  version     the version of the keys that it holds now
  before      what it held: factory, version (keys of the canteen), mixed (an enrolment broke off)
  written     the numbers of the keys that were written now
  random_uid  whether a random UID was switched on now";

const LEDGER_LIST_HELP: &str = "\
With --json, all amounts being integer øre:
  currency  \"DKK\"
  entries   [{seq, id, time, day, kind, account, amount, text, acked}]
    time    the till's clock when it was written, RFC 3339 in UTC
    kind    sale, decline, void, start, a newer kind, or unreadable
    amount  what a sale cost, a decline would have cost, a void gave back; never negative; null
            when it is about no amount
    acked   whether the hub has it";

const LEDGER_VERIFY_HELP: &str = "\
With --json:
  entries    how many were checked
  ok         whether nothing is wrong
  first_bad  null, or {seq, what}: the first entry at which the chain does not hold
  findings   everything else that is wrong, in words";

const SYNC_NOW_HELP: &str = "\
With --json:
  online   whether the hub answered
  sent     how many entries it took
  waiting  how many it still lacks
  applied  how many changes were fetched and applied
  text     what is wrong and what to do";

const VOID_HELP: &str = "\
With --json, all amounts being integer øre:
  sale           the sale's id
  account        the number of the account that got the money back
  currency       \"DKK\"
  amount         how much it got back
  balance_after  what it holds now
  entry          where the void stands in the ledger: {till, epoch, seq, id}
  replayed       whether this is the recorded outcome of an id that was used before
  message        {da, en}: what the cashier's screen says";

const DAY_REPORT_HELP: &str = "\
Printed in Danish, then in English. With --json, all amounts being integer øre:
  till, canteen  names; canteen is null until the hub has said it
  number         the number of a Z report; null for X
  day            the business day
  made_at        the till's time, RFC 3339 in UTC; null for a recorded report
  through_seq    the last entry that the totals contain
  currency       \"DKK\"
  sales, voids   {count, amount}: what was sold, and what was taken back
  net            the sales less what was taken back
  declines       how many purchases were declined
  entry          where a Z report stands in the ledger: {till, epoch, seq, id}; null for X
  replayed       whether this is the recorded report of an id that was used before";

const CLOCK_HELP: &str = "\
With --json; moments are RFC 3339 in UTC:
  state     right, back (it shows a time that has been) or forward (it is far ahead)
  shows     what the clock shows
  believed  what the till believes instead
  hub       what the hub's clock shows, or null when it is not known
  day       the business day on which sales are booked
  entry     where a confirmation stands in the ledger: {till, epoch, seq, id}; null when there
            was nothing to confirm";

const SELL_HELP: &str = "\
Example:
  tillctl sell --line \"1x Dagens ret 22,00\" --line \"2x Yoghurt 6,00\"

With --json, all amounts being integer øre:
  decision       \"approved\" or \"declined\"
  reason         null when approved, else one of unknown_chip, chip_auth_failed, chip_blocked,
                 account_blocked, stale_data, limit_day, limit_week, limit_month,
                 insufficient_funds, limit_not_here, offline_allowance, journal_unavailable,
                 chip_unreadable, timed_out, cancelled
  id             the sale's id
  currency       \"DKK\"
  total          what the lines cost together
  balance_after  what the account holds now; unchanged by a decline; null when no account is known
  limit, left    the limit in the way and what is left of it, else null; left alone is what may
                 still be bought for (stale_data, limit_not_here, offline_allowance)
  entry          where it stands in the ledger: {till, epoch, seq, id}; null when nothing was
                 written
  top_up         \"none\", \"requested\", \"pending\" or \"failed\"
  replayed       whether this is the recorded outcome of an id that was used before
  message        {da, en}: what the cashier's screen says";
