//! Taking a sale back, from the page or from a program.

use till_ledger::{Ledger, LedgerError, Moment, VoidRequest};
use uuid::Uuid;

use crate::sale::{VoidDone, person_of};

/// Takes back a whole sale of this till and day.
pub(crate) async fn take_back(ledger: &Ledger, of: Uuid) -> Result<VoidDone, LedgerError> {
    let request = VoidRequest {
        id: Uuid::now_v7(),
        of,
    };
    let voided = ledger.void(request, Moment::now()).await?;
    let person = person_of(ledger, voided.account);
    Ok(VoidDone { voided, person })
}
