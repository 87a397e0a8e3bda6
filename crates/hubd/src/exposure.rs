//! Looks now and then what tills could sell beyond what accounts hold.

use std::time::Duration;

use canteen::Money;
use jiff::Timestamp;
use tokio::sync::watch;
use tracing::warn;

use crate::books::Books;

/// Flags canteens that are exposed for more than `alarm`, until the program ends.
pub async fn watch_exposure(books: Books, alarm: Money, mut stopping: watch::Receiver<bool>) {
    loop {
        let watched = books.write(move |books| books.watch_exposure(alarm, Timestamp::now()));
        if let Err(error) = watched.await {
            warn!(%error, "Cannot look at the exposure");
        }
        tokio::select! {
            () = tokio::time::sleep(EVERY) => {}
            // An error means that the program has ended already.
            _ = stopping.wait_for(|stopping| *stopping) => return,
        }
    }
}

const EVERY: Duration = Duration::from_secs(60);
