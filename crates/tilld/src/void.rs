//! Taking a sale back, from the page or from a program.

use till_ledger::{Ledger, LedgerError, Moment, VoidRequest};

use crate::sale::{VoidDone, person_of};

/// Takes back a sale of this till and day, or some pieces of it.
pub(crate) async fn take_back(
    ledger: &Ledger,
    request: VoidRequest,
) -> Result<VoidDone, LedgerError> {
    let voided = ledger.void(request, Moment::now()).await?;
    let person = person_of(ledger, voided.account);
    Ok(VoidDone { voided, person })
}
