//! Products: the cashier's buttons.

use canteen::{Money, PurchaseAmount};
use rusqlite::{Connection, OptionalExtension, Row};

use crate::error::{LedgerError, Refusal};
use crate::feed::{RecordKind, touch};
use crate::store::{HubLedger, HubReader};
use crate::tenancy::{CanteenId, Reach, not_empty, tenant_of};

/// A product.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ProductRow {
    /// Its number.
    pub id: i64,
    /// The canteen that sells it.
    pub canteen: CanteenId,
    /// What it is and costs.
    pub product: NewProduct,
}

/// What a product is and costs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NewProduct {
    /// Its name, unique in the canteen.
    pub name: String,
    /// The heading it stands under.
    pub category: String,
    /// Its price.
    pub price: Money,
    /// Its place among the buttons.
    pub position: i64,
}

impl HubLedger {
    /// Adds a product.
    pub fn create_product(
        &mut self,
        canteen: CanteenId,
        new: &NewProduct,
    ) -> Result<i64, LedgerError> {
        check_product(new)?;
        let db = self.change()?;
        tenant_of(&db, canteen)?;
        name_is_free(&db, canteen, &new.name, 0)?;
        db.execute(
            "INSERT INTO product (canteen, name, category, price, position)
             VALUES (?1, ?2, ?3, ?4, ?5)",
            (
                canteen.0,
                &new.name,
                &new.category,
                new.price.ore(),
                new.position,
            ),
        )?;
        let id = db.last_insert_rowid();
        touch(&db, canteen, RecordKind::Product, &id.to_string())?;
        db.commit()?;
        Ok(id)
    }

    /// Changes a product; what was sold keeps the price it was sold for.
    pub fn change_product(&mut self, id: i64, new: &NewProduct) -> Result<(), LedgerError> {
        check_product(new)?;
        let db = self.change()?;
        let old = read_product(&db, id)?;
        name_is_free(&db, old.canteen, &new.name, id)?;
        db.execute(
            "UPDATE product SET name = ?2, category = ?3, price = ?4, position = ?5 WHERE id = ?1",
            (id, &new.name, &new.category, new.price.ore(), new.position),
        )?;
        touch(&db, old.canteen, RecordKind::Product, &id.to_string())?;
        Ok(db.commit()?)
    }

    /// Takes a product off the buttons.
    pub fn delete_product(&mut self, id: i64) -> Result<(), LedgerError> {
        let db = self.change()?;
        let old = read_product(&db, id)?;
        db.execute("DELETE FROM product WHERE id = ?1", [id])?;
        touch(&db, old.canteen, RecordKind::Product, &id.to_string())?;
        Ok(db.commit()?)
    }
}

impl HubReader {
    /// The products of a canteen, in the order of the buttons.
    pub fn list_products(&self, canteen: CanteenId) -> Result<Vec<ProductRow>, LedgerError> {
        let mut statement = self.db.prepare_cached(&format!(
            "{SELECT_PRODUCT} WHERE canteen = ?1 ORDER BY position, id"
        ))?;
        let rows = statement.query_map([canteen.0], product_from)?;
        Ok(rows.collect::<Result<_, _>>()?)
    }

    /// One product, if it is within reach.
    pub fn product_within(&self, reach: Reach, id: i64) -> Result<ProductRow, LedgerError> {
        let product = read_product(&self.db, id)?;
        if reach.covers(tenant_of(&self.db, product.canteen)?) {
            return Ok(product);
        }
        Err(Refusal::not_found("product", id).into())
    }
}

pub(crate) fn find_product(db: &Connection, id: i64) -> Result<Option<ProductRow>, LedgerError> {
    Ok(db
        .prepare_cached(&format!("{SELECT_PRODUCT} WHERE id = ?1"))?
        .query_row([id], product_from)
        .optional()?)
}

fn read_product(db: &Connection, id: i64) -> Result<ProductRow, LedgerError> {
    Ok(find_product(db, id)?.ok_or_else(|| Refusal::not_found("product", id))?)
}

fn name_is_free(
    db: &Connection,
    canteen: CanteenId,
    name: &str,
    except: i64,
) -> Result<(), LedgerError> {
    let taken = db
        .query_row(
            "SELECT 1 FROM product WHERE canteen = ?1 AND name = ?2 AND id <> ?3",
            (canteen.0, name, except),
            |_| Ok(()),
        )
        .optional()?;
    if taken.is_some() {
        return Err(Refusal::Exists {
            what: "product",
            id: name.to_owned(),
        }
        .into());
    }
    Ok(())
}

fn check_product(new: &NewProduct) -> Result<(), Refusal> {
    not_empty("the product's name", &new.name)?;
    not_empty("the product's category", &new.category)?;
    PurchaseAmount::new(new.price).map_err(|_| Refusal::Price {
        price: new.price,
        max: PurchaseAmount::MAX,
    })?;
    Ok(())
}

fn product_from(row: &Row<'_>) -> rusqlite::Result<ProductRow> {
    Ok(ProductRow {
        id: row.get(0)?,
        canteen: CanteenId(row.get(1)?),
        product: NewProduct {
            name: row.get(2)?,
            category: row.get(3)?,
            price: Money::from_ore(row.get(4)?),
            position: row.get(5)?,
        },
    })
}

const SELECT_PRODUCT: &str = "SELECT id, canteen, name, category, price, position FROM product";
