//! Who runs what: tenants (municipalities, companies) and their canteens.

use rusqlite::{Connection, OptionalExtension};

use crate::error::{LedgerError, Refusal};
use crate::store::{HubLedger, HubReader};

/// The number of a tenant.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct TenantId(pub i64);

/// The number of a canteen.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct CanteenId(pub i64);

/// How far an operator may look and act.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Reach {
    /// All tenants.
    Everything,
    /// One tenant; everything else does not exist.
    Tenant(TenantId),
}

impl Reach {
    /// Whether the tenant is within reach.
    pub fn covers(self, tenant: TenantId) -> bool {
        match self {
            Reach::Everything => true,
            Reach::Tenant(own) => own == tenant,
        }
    }

    /// The tenant as a filter for a query: null is all.
    pub(crate) fn filter(self) -> Option<i64> {
        match self {
            Reach::Everything => None,
            Reach::Tenant(tenant) => Some(tenant.0),
        }
    }
}

/// A canteen.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CanteenRow {
    /// Its number.
    pub id: CanteenId,
    /// Who runs it.
    pub tenant: TenantId,
    /// Who runs it, by name.
    pub tenant_name: String,
    /// Its name.
    pub name: String,
}

impl HubLedger {
    /// The tenant of that name, made if there is none.
    pub fn tenant_named(&mut self, name: &str) -> Result<TenantId, LedgerError> {
        not_empty("the tenant's name", name)?;
        let db = self.change()?;
        db.execute(
            "INSERT INTO tenant (name) VALUES (?1) ON CONFLICT DO NOTHING",
            [name],
        )?;
        let id = db.query_row("SELECT id FROM tenant WHERE name = ?1", [name], |row| {
            row.get(0)
        })?;
        db.commit()?;
        Ok(TenantId(id))
    }

    /// The tenant's canteen of that name, made if there is none.
    pub fn canteen_named(
        &mut self,
        tenant: TenantId,
        name: &str,
    ) -> Result<CanteenId, LedgerError> {
        not_empty("the canteen's name", name)?;
        let db = self.change()?;
        db.execute(
            "INSERT INTO canteen (tenant, name) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
            (tenant.0, name),
        )?;
        let id = db.query_row(
            "SELECT id FROM canteen WHERE tenant = ?1 AND name = ?2",
            (tenant.0, name),
            |row| row.get(0),
        )?;
        db.commit()?;
        Ok(CanteenId(id))
    }
}

impl HubReader {
    /// The tenant of that name.
    pub fn find_tenant(&self, name: &str) -> Result<Option<TenantId>, LedgerError> {
        Ok(self
            .db
            .query_row("SELECT id FROM tenant WHERE name = ?1", [name], |row| {
                row.get(0)
            })
            .optional()?
            .map(TenantId))
    }

    /// All canteens within reach.
    pub fn list_canteens(&self, reach: Reach) -> Result<Vec<CanteenRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(
            "SELECT c.id, c.tenant, t.name, c.name FROM canteen c JOIN tenant t ON t.id = c.tenant
             WHERE ?1 IS NULL OR c.tenant = ?1 ORDER BY c.id",
        )?;
        let rows = statement.query_map([reach.filter()], |row| {
            Ok(CanteenRow {
                id: CanteenId(row.get(0)?),
                tenant: TenantId(row.get(1)?),
                tenant_name: row.get(2)?,
                name: row.get(3)?,
            })
        })?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// Fails unless the canteen is within reach.
    pub fn check_canteen(&self, reach: Reach, canteen: CanteenId) -> Result<(), LedgerError> {
        let tenant = tenant_of(&self.db, canteen)?;
        if reach.covers(tenant) {
            return Ok(());
        }
        Err(Refusal::not_found("canteen", canteen.0).into())
    }
}

pub(crate) fn tenant_of(db: &Connection, canteen: CanteenId) -> Result<TenantId, LedgerError> {
    let tenant = db
        .prepare_cached("SELECT tenant FROM canteen WHERE id = ?1")?
        .query_row([canteen.0], |row| row.get(0))
        .optional()?;
    let found = tenant.map(TenantId);
    Ok(found.ok_or_else(|| Refusal::not_found("canteen", canteen.0))?)
}

pub(crate) fn not_empty(what: &'static str, text: &str) -> Result<(), Refusal> {
    if text.trim().is_empty() {
        return Err(Refusal::Empty { what });
    }
    Ok(())
}
