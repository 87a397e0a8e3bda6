//! The rows of entries in the file.

use rusqlite::{Connection, OptionalExtension, Row};
use sync_proto::{EntryHash, EntryTexts};

use crate::book::prepare;
use crate::error::LedgerError;
use crate::identity::Identity;

/// The bytes of an entry.
pub(crate) fn entry_at(
    connection: &Connection,
    seq: u64,
) -> Result<Option<EntryTexts>, LedgerError> {
    let texts = prepare(connection, "SELECT header, body FROM entry WHERE seq = ?1")?
        .query_row([seq.cast_signed()], |row| texts_at(row, 0))
        .optional()?;
    Ok(texts)
}

/// Reads `seq, header, body, hash`.
pub(crate) fn read_entry(row: &Row<'_>) -> rusqlite::Result<(u64, EntryTexts, EntryHash)> {
    let (seq, texts) = read_texts(row)?;
    Ok((seq, texts, EntryHash(row.get(3)?)))
}

/// Reads `seq, header, body`.
pub(crate) fn read_texts(row: &Row<'_>) -> rusqlite::Result<(u64, EntryTexts)> {
    let seq = row.get::<_, i64>(0)?.cast_unsigned();
    Ok((seq, texts_at(row, 1)?))
}

/// The stored hash of an entry; the genesis hash for 0.
pub(crate) fn hash_at(
    connection: &Connection,
    identity: &Identity,
    seq: u64,
) -> Result<EntryHash, LedgerError> {
    if seq == 0 {
        return Ok(identity.genesis());
    }
    prepare(connection, "SELECT hash FROM entry WHERE seq = ?1")?
        .query_row([seq.cast_signed()], |row| row.get(0).map(EntryHash))
        .optional()?
        .ok_or(LedgerError::Corrupt { seq })
}

/// Damage may leave bytes that are no text; they are read all the same, and their hash shows it.
fn texts_at(row: &Row<'_>, first: usize) -> rusqlite::Result<EntryTexts> {
    let text = |index: usize| -> rusqlite::Result<String> {
        let bytes = row.get_ref(index)?.as_bytes()?;
        Ok(String::from_utf8_lossy(bytes).into_owned())
    };
    Ok(EntryTexts {
        header: text(first)?,
        body: text(first + 1)?,
    })
}
