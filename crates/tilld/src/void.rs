//! Taking a sale back, from the page or from a program.

use sync_proto::VoidLine;
use till_ledger::{Ledger, LedgerError, Moment, VoidRequest};
use uuid::Uuid;

use crate::sale::{VoidDone, person_of};

/// Takes back a sale of this till and day, or some pieces of it.
pub(crate) async fn take_back(
    ledger: &Ledger,
    of: Uuid,
    lines: Vec<VoidLine>,
) -> Result<VoidDone, LedgerError> {
    let request = VoidRequest {
        id: Uuid::now_v7(),
        of,
        lines,
    };
    let voided = ledger.void(request, Moment::now()).await?;
    let person = person_of(ledger, voided.account);
    Ok(VoidDone { voided, person })
}
